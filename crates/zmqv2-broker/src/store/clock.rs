//! The wall clock, for times that must survive a restart of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock in milliseconds since the epoch; 0 before it.
///
/// Only the records of a store use it. Everything else uses a monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a store outlives the monotonic clock, and the time never leaves this node"
)]
pub fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
