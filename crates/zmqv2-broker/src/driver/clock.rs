//! The clock of the event loop. Everything else gets the time from it as an argument.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the loop is a driver: it reads the clock for the engine")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
