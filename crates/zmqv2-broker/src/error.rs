//! Why a broker cannot start or go on.

use std::io;
use std::path::PathBuf;

use zmqv2_proto::InvalidAddress;
use zmqv2_proto::transport::TransportError;

use crate::store::StoreError;

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
    /// The address of the configuration is a name, which leads to none.
    #[error(
        "cannot find an address of {host}: {source}; set rpc_zmq_bind_address to an IP address of this machine, or to *"
    )]
    HostName {
        /// The name.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// The address of the configuration cannot be listened at.
    #[error("{source}; {}", remedy(source))]
    Bind {
        /// The operating system's reason.
        source: TransportError,
    },
    /// A socket cannot be made.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The store of notifications cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system's event queue failed.
    #[error("cannot wait for events: {0}")]
    Events(#[source] io::Error),
}

/// What to do about an address that cannot be bound.
fn remedy(error: &TransportError) -> &'static str {
    let TransportError::Bind { source, .. } = error else { return "check the limits of this machine" };
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another rpc_zmq_port or rpc_zmq_bind_address"
        }
        io::ErrorKind::PermissionDenied => {
            "choose an rpc_zmq_port from 1024, or give this program the right to use a lower one"
        }
        _ => "this machine has no such address: set rpc_zmq_bind_address to one of its own, or to * for all",
    }
}
