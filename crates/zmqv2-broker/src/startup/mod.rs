//! Prepares the socket directory before a broker binds.

pub(crate) mod lock;
pub(crate) mod stale_sockets;
