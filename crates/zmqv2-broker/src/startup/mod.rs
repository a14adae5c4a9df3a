//! What a broker does to its socket directory before it binds.

pub(crate) mod lock;
pub(crate) mod stale_sockets;
