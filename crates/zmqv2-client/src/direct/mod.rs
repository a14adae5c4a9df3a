//! Blocking calls that are alone: one request over one REQ socket.

#[cfg(test)]
mod agreement_tests;
mod attempts;
pub(crate) mod call;
pub(crate) mod idle_pool;
pub(crate) mod monitor;
pub(crate) mod req_sockets;
pub(crate) mod round_trip;
