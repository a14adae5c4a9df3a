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

mod connection;
mod context;
mod error;
mod lent;
#[cfg(test)]
mod lockstep;
mod pace;
mod process;
mod socket;

pub use connection::Connection;
pub use context::{Transport, TransportOptions};
pub use error::{SendError, TransportError};
pub use pace::Pace;
pub use process::process_id;
use socket::look_before_sleep;
pub use socket::{Frame, MAX_FRAMES, Notice, Readiness, Received, Role, Socket};

/// The version of the libzmq that is linked in, such as `4.3.4`.
#[must_use]
pub fn libzmq_version() -> String {
    let (major, minor, patch) = zmq::version();
    format!("{major}.{minor}.{patch}")
}
