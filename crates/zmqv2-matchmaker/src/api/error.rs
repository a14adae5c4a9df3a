//! The errors of a directory.

use std::io;
use std::path::PathBuf;

use crate::ring::file::MAX_RING_BYTES;

/// A directory cannot answer, or cannot take a registration.
///
/// A topic that nobody offers is not an error but an empty [`Placement`](crate::Placement).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatchmakerError {
    /// The directory cannot be reached and no answer is remembered. Try again later.
    #[error("the {directory} directory is unavailable: {source}")]
    Unavailable {
        /// The kind of directory ([`Matchmaker::name`](crate::Matchmaker::name)) and its address.
        directory: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The directory can be read, but takes no changes: no registration, renewal or withdrawal. Try
    /// again later.
    #[error("the {directory} directory refuses writes: {reason}")]
    RefusesWrites {
        /// The kind of directory and its address.
        directory: String,
        /// The reason and the remedy, in one line.
        reason: String,
    },
    /// The directory cannot be used with these options. Correct an option or the directory.
    #[error("cannot use the {directory} directory: {problem}; {remedy}")]
    Misconfigured {
        /// The kind of directory and its address.
        directory: String,
        /// The problem.
        problem: String,
        /// The option to correct, or another remedy.
        remedy: String,
    },
    /// The directory knows no such server. But it may not know all servers: it is new, has
    /// come back after an outage, or takes no registrations. Try again later.
    #[error("the {directory} directory knows no such server, but may not know all: {reason}")]
    Refilling {
        /// The kind of directory and its address.
        directory: String,
        /// The reason, in one line, as in [`Completeness`](crate::Completeness).
        reason: String,
        /// The time until all brokers have registered, if brokers can register.
        within: std::time::Duration,
    },
    /// The directory keeps no list of topics. Ask the broker of each node instead (`zmqv2 status`).
    #[error("the {directory} directory keeps no list of topics; each node's broker has its own: zmqv2 status")]
    NoList {
        /// The kind of directory.
        directory: String,
    },
    /// The ring file cannot be read. Correct the option `ringfile`, or the file's permissions.
    #[error("cannot read ring file {}: {source}", file.display())]
    UnreadableRing {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The ring file is not a ring. Correct the file.
    #[error("ring file {}, line {line}, column {column}: {problem}", file.display())]
    BadRing {
        /// The file.
        file: PathBuf,
        /// The line of the problem, from 1.
        line: usize,
        /// The column of the problem, or the end of the text that was read.
        column: usize,
        /// The problem, and the allowed form.
        problem: String,
    },
    /// The ring file is larger than 64 MiB. Split the cluster, or use another directory.
    #[error("ring file {} has {bytes} bytes, the limit is {MAX_RING_BYTES}", file.display())]
    RingTooLarge {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
}

impl MatchmakerError {
    /// Whether the error may pass by itself.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RefusesWrites { .. } | Self::Refilling { .. })
    }
}
