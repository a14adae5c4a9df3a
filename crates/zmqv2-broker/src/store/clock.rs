//! The wall clock, for what must outlive the machine's monotonic one.

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock in milliseconds since the epoch; 0 before it.
///
/// Only for a store's records: everything else counts spans on a monotonic clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a store outlives the monotonic clock; the time never leaves this node, so no other clock need agree"
)]
pub fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
