//! The rules of delivery. Pure: no socket, thread, lock or clock.

pub(crate) mod attempt;
pub(crate) mod liveness;
pub(crate) mod request;
pub(crate) mod table;
