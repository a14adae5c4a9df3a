//! The one module that reaches libzmq: contexts, sockets and their options. No policy lives here.
//!
//! Every socket is made by [`Transport::socket`] for one [`Role`], which sets linger, high-water marks, the maximum
//! message size, heartbeats and reconnect back-off; nothing elsewhere sets a socket option. Sends and receives never
//! block; [`Socket::wait`] does, with a deadline.
//!
//! [`Transport`] is `Send + Sync` and cheap to clone. [`Socket`] is `Send` but not `Sync`: one thread at a time.

// libzmq is a C library: raw calls stand where the safe binding has none (context limits) or panics on errno values
// that it does not know (bind and connect). A fork is told by the C library alone.
#![allow(unsafe_code)]

mod adaptive_poll;
mod connection;
mod context;
mod error;
mod lent;
mod process;
#[cfg(test)]
mod rep_tests;
mod socket;

pub use adaptive_poll::AdaptivePoll;
pub use connection::Connection;
pub use context::{Transport, TransportOptions};
pub use error::{SocketSendError, TransportError};
pub use process::process_id;
use socket::poll_before_sleep;
pub use socket::{Frame, MAX_FRAMES, Readiness, Received, Role, Socket, Waiter};

/// The version of the libzmq that is linked in, such as `4.3.4`.
#[must_use]
pub fn libzmq_version() -> String {
    let (major, minor, patch) = zmq::version();
    format!("{major}.{minor}.{patch}")
}
