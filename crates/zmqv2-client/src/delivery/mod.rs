//! The rules of delivery. Pure: no socket, thread or lock.

pub(crate) mod liveness;
pub(crate) mod request;
pub(crate) mod table;
