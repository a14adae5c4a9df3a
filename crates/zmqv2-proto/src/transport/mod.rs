//! The one module that uses libzmq: contexts, sockets and their options. It has no policy.
//!
//! [`Transport::socket`] makes every socket for one [`Role`] and sets all of its options. Sends and
//! receives never block. [`Socket::wait`] blocks, up to a deadline.
//!
//! [`Transport`] is `Send + Sync` and cheap to clone. [`Socket`] is `Send` but not `Sync`: one
//! thread at a time uses it.

// Raw calls into libzmq, where the safe binding has no call (context limits) or panics on unknown
// errno values (bind and connect). `accept` is replaced, because libzmq aborts when it fails.
#![allow(unsafe_code)]

mod accept_gate;
mod adaptive_poll;
mod build_variant;
mod connection;
mod context;
mod descriptors;
mod ended;
mod error;
mod heap;
mod interface;
mod lent;
mod reach;
#[cfg(test)]
mod rep_tests;
mod socket;
mod zone;

#[doc(hidden)] // Shared by the crates of zmqv2.
pub use crate::process::process_id;
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use accept_gate::{RefusedConnections, refused_connections};
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use adaptive_poll::AdaptivePoll;
pub use connection::Connection;
pub use context::{Transport, TransportOptions};
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use descriptors::{LEAST_FOR_BROKER, network_ceiling, open_file_limit, raise_open_file_limit};
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use ended::connection_of;
pub use error::{SocketSendError, TransportError};
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use heap::give_back_free_heap;
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use interface::{interface_address, interface_index};
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use reach::{Observation, check_local, check_reachable, connect_local, needs_resolver, resolve};
use socket::poll_before_sleep;
pub use socket::{Frame, MAX_FRAMES, Readiness, Received, Role, Socket, Waiter};

/// The version of the linked libzmq, such as `4.3.4`.
#[must_use]
pub fn libzmq_version() -> String {
    let (major, minor, patch) = zmq::version();
    format!("{major}.{minor}.{patch}")
}
