//! What both kinds of servers run on: worker threads, their sockets, and the registration.

pub(crate) mod completions;
pub(crate) mod registration;
pub(crate) mod rep_worker;
pub(crate) mod service;
pub(crate) mod shared_socket;
pub(crate) mod wakeup;

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the threads of a server own its clock; pure code gets `now` from them")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
