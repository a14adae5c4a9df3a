//! The socket directory: its lock, and the files that crashed servers left there.

pub(crate) mod lock;
pub(crate) mod socket_sweeper;
pub(crate) mod stale_sockets;
