//! The RPC server, which takes calls and casts.

pub(crate) mod counters;
pub(crate) mod dispatcher;
pub(crate) mod duplicates;
pub(crate) mod endpoint;
pub(crate) mod panic_guard;
pub(crate) mod server;
mod service;
mod worker;
