//! The parts that both kinds of servers share: worker threads, their sockets, and the registration.

pub(crate) mod cancellation;
pub(crate) mod completions;
pub(crate) mod log_limit;
pub(crate) mod registration;
pub(crate) mod rep_worker;
pub(crate) mod running;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod shared_socket;
pub(crate) mod wakeup;
pub(crate) mod worker;

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a server's threads own its clock; pure code gets `now` from them")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
