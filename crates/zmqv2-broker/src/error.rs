//! Why a broker cannot start or go on.

use std::io;
use std::path::PathBuf;

use zmqv2_proto::InvalidAddress;
use zmqv2_proto::transport::TransportError;

/// A broker cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Another broker has the socket directory.
    #[error("another broker uses the socket directory {dir}: {holder}; stop it, or choose another rpc_zmq_ipc_dir")]
    AlreadyRunning {
        /// The directory.
        dir: PathBuf,
        /// What the other one wrote into its lock file: its process and address.
        holder: String,
    },
    /// A file of the socket directory cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// An address of the configuration is no address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A socket cannot be made or bound.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The operating system's event queue failed.
    #[error("cannot wait for events: {0}")]
    Events(#[source] io::Error),
}
