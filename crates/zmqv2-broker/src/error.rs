use std::io;
use std::path::PathBuf;

use zmqv2_proto::InvalidAddress;
use zmqv2_proto::transport::{LEAST_FOR_BROKER, TransportError};

use crate::store::StoreError;

/// Why a broker cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Another broker uses the socket directory.
    #[error("another broker uses the socket directory {dir}: {holder}; stop it, or choose another rpc_zmq_ipc_dir")]
    AlreadyRunning {
        /// The directory.
        dir: PathBuf,
        /// The text in its lock file: its process and address.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The process may open too few files.
    #[error(
        "this process may open only {limit} files, and a broker needs at least {LEAST_FOR_BROKER}: raise the limit \
         (ulimit -n, or LimitNOFILE of its systemd unit)"
    )]
    OpenFiles {
        /// The limit of open files.
        limit: u64,
    },
    /// An option has a value that is not an address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The bind address is a name that cannot be resolved.
    #[error(
        "cannot find an address of {host}: {source}; set rpc_zmq_bind_address to an IP address of this machine, or to *"
    )]
    HostName {
        /// The name.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// The bind address cannot be bound.
    #[error("{source}; {}", remedy(source))]
    Bind {
        /// The operating system's reason.
        source: TransportError,
    },
    /// A socket cannot be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The store of notifications cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system's event queue, or a thread, cannot be used.
    #[error("cannot wait for events: {0}")]
    Events(#[source] io::Error),
}

/// How to solve a failed bind.
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
