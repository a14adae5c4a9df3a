//! The clock. Nothing else reads it.

use std::time::Instant;

/// The time now.
#[allow(clippy::disallowed_methods)] // Threads of Python wait here, and no engine decides for them.
pub fn now() -> Instant {
    Instant::now()
}
