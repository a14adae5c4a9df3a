//! The errors of sockets.

use std::io;

use crate::naming::Address;
use crate::no_connection::NoConnection;

/// A socket could not be opened, bound, connected or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A context or socket could not be opened, mostly for lack of file descriptors.
    #[error("cannot open a socket: {source}; check the limit of open files (ulimit -n)")]
    Open {
        /// The operating system's reason.
        source: io::Error,
    },
    /// The address is in use, is not of this machine, or is not permitted.
    #[error("cannot bind {address}: {source}")]
    Bind {
        /// The address asked for.
        address: Address,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The address cannot be used, such as one with a network interface that is not there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address asked for.
        address: Address,
        /// The operating system's reason.
        source: io::Error,
    },
    /// There can be no connection to the address, or there was none in time.
    #[error("cannot connect to {address}: {}", cause.explain(address))]
    Unreachable {
        /// The address asked for.
        address: Address,
        /// What is wrong there.
        cause: NoConnection,
    },
    /// An operation on an open socket failed.
    #[error("cannot {action}: {source}")]
    Socket {
        /// The operation.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl TransportError {
    pub(super) fn socket(action: &'static str, error: zmq::Error) -> Self {
        Self::Socket { action, source: io::Error::other(error) }
    }
}

/// The reason why a socket did not accept a message. The message is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketSendError {
    /// No connected peer has room below the high-water mark.
    #[error("no connected peer has room")]
    Full,
    /// The peer that the first frame names is not connected (ROUTER).
    #[error("the peer is gone")]
    PeerGone,
    /// The socket cannot send now: a REP without a request, a REQ that waits, or a closed context.
    #[error("the socket cannot send now")]
    State,
}
