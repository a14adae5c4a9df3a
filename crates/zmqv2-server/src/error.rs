//! Why a server cannot start or stop as asked.

use std::io;
use std::time::Duration;

use zmqv2_proto::config::IpcDirError;
use zmqv2_proto::control::{MAX_TOPICS, MAX_WORKERS};
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{InvalidAddress, InvalidName};

/// The most notifications that the batches of all workers of one listener may hold. Below a socket's high-water mark, so that
/// what is said about each of them always finds room.
pub const MAX_BATCHED: usize = 8_192;

/// A server cannot start, or did not stop in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A number of workers that is not allowed.
    #[error("{0} workers asked for; allowed are 1 to {MAX_WORKERS}")]
    Workers(usize),
    /// No endpoint was given, or none that wants anything: every call would fail, no notification would come.
    #[error("a server needs at least one endpoint")]
    NoEndpoint,
    /// A listener without a topic: nothing would ever come.
    #[error("a listener needs at least one topic")]
    NoTopic,
    /// More topics than one server may serve; a listener has one for each topic and priority.
    #[error("{0} topics, counting each priority; at most {MAX_TOPICS} are allowed: use more than one listener")]
    Topics(usize),
    /// The batches of all workers together are empty or too large.
    #[error(
        "batches of {size} for each of {workers} workers; allowed are 1 to {MAX_BATCHED} notifications in all of them together"
    )]
    Batch {
        /// Notifications in one batch.
        size: usize,
        /// How many batches there are at the same time.
        workers: u16,
    },
    /// The server's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The socket directory cannot be used.
    #[error(transparent)]
    RunDir(#[from] IpcDirError),
    /// A socket's path is too long.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A socket cannot be made or bound.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The broker has not taken the registration within the time given.
    #[error(
        "no broker has taken the registration within {waited:?}: is zmqv2-broker running with the socket directory {dir}?"
    )]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// The directory of the broker's socket.
        dir: String,
    },
    /// Handlers were still running when the time to drain ended; their threads go on, their replies are lost.
    #[error("{workers} handlers were still running after {waited:?}")]
    Unfinished {
        /// How many.
        workers: usize,
        /// How long was waited.
        waited: Duration,
    },
}
