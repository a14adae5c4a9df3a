//! Why a server cannot start or stop as asked.

use std::io;
use std::time::Duration;

use zmqv2_proto::config::RunDirError;
use zmqv2_proto::control::MAX_WORKERS;
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{InvalidAddress, InvalidName};

/// A server cannot start, or did not stop in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A number of workers that is not allowed.
    #[error("{0} workers asked for; allowed are 1 to {MAX_WORKERS}")]
    Workers(usize),
    /// No endpoint was given: every call would fail.
    #[error("a server needs at least one endpoint")]
    NoEndpoint,
    /// The server's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The socket directory cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
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
