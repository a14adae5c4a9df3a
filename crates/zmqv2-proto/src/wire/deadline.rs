//! Moments that lie a span after another one.

use std::time::{Duration, Instant};

/// No deadline is further away than this: 136 years.
const FURTHEST: Duration = Duration::from_secs(u32::MAX as u64);

/// The moment that lies `span` after `start`. A longer span than 136 years counts as 136 years.
///
/// `start + span` panics if the sum does not fit, which callers can cause with
/// [`Duration::MAX`]. So use this for every span that is not a constant; a test checks that.
///
/// ```
/// # use std::time::{Duration, Instant};
/// let now = Instant::now();
/// assert_eq!(zmqv2_proto::deadline(now, Duration::from_secs(1)), now + Duration::from_secs(1));
/// assert!(zmqv2_proto::deadline(now, Duration::MAX) > now + Duration::from_secs(4_000_000_000));
/// ```
#[must_use]
pub fn deadline(start: Instant, span: Duration) -> Instant {
    start.checked_add(span.min(FURTHEST)).unwrap_or(start)
}
