//! What can go wrong with a directory.

use std::io;
use std::path::PathBuf;

/// A directory cannot answer, or cannot take a registration.
///
/// "Nobody offers this topic" is not an error but an empty [`Placement`](crate::Placement).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatchmakerError {
    /// The directory cannot be reached, and nothing is remembered that could be answered instead. Try again later.
    #[error("the {directory} directory is unavailable: {source}")]
    Unavailable {
        /// Which directory ([`Matchmaker::name`](crate::Matchmaker::name)) and where it is.
        directory: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The directory is there, but not to be used in this way. Correct the option, or the directory.
    #[error("cannot use the {directory} directory: {problem}; {remedy}")]
    Misconfigured {
        /// Which directory and where it is.
        directory: String,
        /// What is wrong.
        problem: String,
        /// The option to change, or what to do instead.
        remedy: String,
    },
    /// The directory says that nobody offers this topic, but it has just begun, or come back after an outage, with or without its
    /// data. Until brokers have registered anew, that is not to be believed.
    #[error(
        "the {directory} directory names nobody, but has begun or come back lately; brokers have registered within {within:?}"
    )]
    Refilling {
        /// Which directory and where it is.
        directory: String,
        /// For how much longer it is not believed.
        within: std::time::Duration,
    },
    /// This directory keeps no list of topics. Ask each node's broker instead (`zmqv2 status`).
    #[error("the {directory} directory keeps no list of topics; each node's broker has its own: zmqv2 status")]
    NoList {
        /// Which directory.
        directory: String,
    },
    /// The ring file cannot be read. Correct the option `ringfile`, or the file's place and permissions.
    #[error("cannot read ring file {}: {source}", file.display())]
    UnreadableRing {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ring file can be read, but is not a ring. Correct the file.
    #[error("ring file {}, line {line}, column {column}: {problem}", file.display())]
    BadRing {
        /// The file.
        file: PathBuf,
        /// The line of the problem, from 1.
        line: usize,
        /// The column of the problem, or where reading stopped because of it.
        column: usize,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The ring file is larger than [`MAX_RING_BYTES`](crate::MAX_RING_BYTES). Split the cluster, or use another
    /// directory.
    #[error("ring file {} has {bytes} bytes, the limit is {}", file.display(), crate::MAX_RING_BYTES)]
    RingTooLarge {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
}

impl MatchmakerError {
    /// Whether the same question may be answered later, without anybody correcting anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Refilling { .. })
    }
}
