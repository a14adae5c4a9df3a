//! The RPC server, which takes calls and casts.

pub(crate) mod counters;
pub(crate) mod dispatcher;
pub(crate) mod duplicates;
pub(crate) mod ended;
pub(crate) mod endpoint;
pub(crate) mod panic_guard;
pub(crate) mod server;
mod service;
mod worker;

use zmqv2_proto::{Refusal, ServerName};

use crate::runtime::worker::malformed;

/// The refusal of a notification.
pub(crate) fn wrong_kind(server: &ServerName) -> Refusal {
    malformed(format!(
        "{server} is the name of an RPC server, which takes calls and casts; a notification goes to a listener"
    ))
}
