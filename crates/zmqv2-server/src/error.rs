//! The errors of starting and stopping a server.

use std::io;
use std::time::Duration;

use zmqv2_proto::Inherited;
use zmqv2_proto::config::IpcDirError;
use zmqv2_proto::control::{MAX_PLACES, MAX_TOPICS, MAX_WORKERS};
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{InvalidAddress, InvalidName};

/// The most notifications in the batches of all workers of one listener. It is below a socket's
/// high-water mark, so the reports of their ends always find room.
pub(crate) const MAX_BATCHED: usize = 8_192;

/// A server cannot start, or did not stop in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The number of workers is out of bounds.
    #[error("{0} workers asked for; allowed are 1 to {MAX_WORKERS}")]
    Workers(usize),
    /// The number of places is out of bounds.
    #[error("{0} places asked for; allowed are 1 to {MAX_PLACES}")]
    Places(usize),
    /// There is no endpoint, or none that wants any priority.
    #[error("a server needs at least one endpoint")]
    NoEndpoint,
    /// A listener has no topic.
    #[error("a listener needs at least one topic")]
    NoTopic,
    /// There are more topics than one server may have. A listener has one for each topic and
    /// priority.
    #[error("{0} topics, counting each priority, are more than {MAX_TOPICS}: use more than one listener")]
    Topics(usize),
    /// The batches of all workers together are empty or too large.
    #[error(
        "batches of {size} for each of {workers} workers are not allowed; all of them may have 1 to {MAX_BATCHED} \
         notifications"
    )]
    Batch {
        /// Notifications in one batch.
        size: usize,
        /// The number of batches at the same time.
        workers: u16,
    },
    /// The server's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The socket directory cannot be used.
    #[error(transparent)]
    RunDir(#[from] IpcDirError),
    /// The path of a socket is too long.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A socket cannot be opened or bound.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A thread, or what wakes it, cannot be created.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// No broker has accepted the registration in time.
    #[error("no broker has accepted the registration within {waited:?} (socket directory {dir}): {problem}")]
    NotReady {
        /// The time that was given.
        waited: Duration,
        /// The directory of the broker's socket.
        dir: String,
        /// Why, as far as it can be seen: for example that this user may not use the broker's socket.
        problem: String,
    },
    /// Handlers were still running when the time to drain ended. Their threads go on, and their
    /// replies are lost.
    #[error("{workers} handlers were still running after {waited:?}: {}", handlers.join(", "))]
    Unfinished {
        /// The number of handlers.
        workers: usize,
        /// The method of each, or the type of its notification.
        handlers: Vec<String>,
        /// The time that was given.
        waited: Duration,
    },
    /// This process was forked after the server was started. The server is in the parent.
    #[error("cannot use this server: {0}")]
    Inherited(#[from] Inherited),
}
