//! The clock of the tests, and waiting with a deadline.

use std::time::{Duration, Instant};

/// The longest that a test waits for anything, on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The time on the clock of the tests.
#[expect(clippy::disallowed_methods, reason = "tests measure real processes in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until `met` is true, and fails the test with `what` after [`PATIENCE`].
pub fn eventually(what: &str, met: impl FnMut() -> bool) {
    assert!(within(PATIENCE, met), "not within {PATIENCE:?}: {what}");
}

/// Waits until `met` is true, for at most `patience`. Returns whether it became true.
#[expect(clippy::disallowed_methods, reason = "a bounded poll of another process's state, which sends no event")]
pub fn within(patience: Duration, mut met: impl FnMut() -> bool) -> bool {
    let end_at = now() + patience;
    while !met() {
        if now() >= end_at {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Waits until the clock shows `at`, for runs that do something at fixed times.
#[expect(clippy::disallowed_methods, reason = "the schedule of a run in real time, which no event announces")]
pub fn wait_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(now()));
}
