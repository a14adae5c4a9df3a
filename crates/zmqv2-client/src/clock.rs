//! The one place of this crate that reads the clock.

use std::time::Instant;

/// The time, for deadlines and idle sockets.
#[expect(
    clippy::disallowed_methods,
    reason = "the client drives its own calls: everything else gets `now` as an argument"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
