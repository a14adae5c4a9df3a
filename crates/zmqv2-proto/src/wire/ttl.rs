//! The time to live of a message.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::wire::deadline;

/// The time a message has left, in whole milliseconds, up to about 49 days.
///
/// It is a span and no time of day, because the clocks of nodes need not agree. A receiver of a
/// message turns the span into a deadline, and back into a span when it sends the message on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// No time left: the message has expired.
    pub const ZERO: Self = Self(0);
    /// The longest span, 2^32-1 ms.
    pub const MAX: Self = Self(u32::MAX);

    /// `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// The span in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u32 {
        self.0
    }

    /// Whether no time is left.
    #[must_use]
    pub const fn is_expired(self) -> bool {
        self.0 == 0
    }

    /// The deadline of a message that arrived at `now` with this much left.
    #[must_use]
    pub fn deadline(self, now: Instant) -> Instant {
        deadline(now, self.into())
    }

    /// The time from `now` to `deadline`, rounded up so that a message does not expire by rounding.
    #[must_use]
    pub fn until(deadline: Instant, now: Instant) -> Self {
        deadline.saturating_duration_since(now).into()
    }

    /// This node's `CLOCK_MONOTONIC` in whole milliseconds, at least 1. All processes of a node
    /// share it, except those in another time namespace. Two nodes do not.
    #[must_use]
    pub fn monotonic_millis() -> u64 {
        u64::try_from(monotonic().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// [`monotonic_millis`](Self::monotonic_millis) at the moment `now`.
    #[must_use]
    pub fn monotonic_millis_at(now: Instant) -> u64 {
        // Both are the same clock. One moment for which both are known gives the offset.
        static OFFSET: OnceLock<(Instant, Duration)> = OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "reads the clock once, for the offset")]
        let (instant, clock) = *OFFSET.get_or_init(|| (Instant::now(), monotonic()));
        let at = match now.checked_duration_since(instant) {
            Some(since) => clock + since,
            None => clock.saturating_sub(instant.saturating_duration_since(now)),
        };
        u64::try_from(at.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The time left at `now` of a span that was written at `delivered`, both by
    /// [`monotonic_millis`](Self::monotonic_millis). All of it when `delivered` is 0 (unknown) or
    /// later than `now` (another clock).
    #[must_use]
    pub fn left_since(self, delivered: u64, now: u64) -> Self {
        match now.checked_sub(delivered) {
            Some(waited) if delivered != 0 => Self(self.0.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX))),
            _ => self,
        }
    }
}

/// This node's `CLOCK_MONOTONIC`.
fn monotonic() -> Duration {
    let clock = clock_gettime(ClockId::Monotonic);
    let part = |part| u64::try_from(part).unwrap_or(0);
    Duration::from_secs(part(clock.tv_sec)) + Duration::from_nanos(part(clock.tv_nsec))
}

impl From<Duration> for Ttl {
    /// Rounds up to a millisecond and saturates at [`Ttl::MAX`].
    fn from(span: Duration) -> Self {
        Self(u32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }
}

impl From<Ttl> for Duration {
    fn from(ttl: Ttl) -> Self {
        Duration::from_millis(ttl.0.into())
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_up_and_saturate() {
        assert_eq!(Ttl::from(Duration::from_nanos(1)).as_millis(), 1);
        assert_eq!(Ttl::from(Duration::from_millis(7)).as_millis(), 7);
        assert_eq!(Ttl::from(Duration::MAX), Ttl::MAX);
        assert!(Ttl::from(Duration::ZERO).is_expired());
    }

    #[test]
    fn the_time_since_delivery_counts_if_both_times_are_of_one_clock() {
        let left = |delivered, now| Ttl::from_millis(500).left_since(delivered, now).as_millis();
        assert_eq!((left(1_000, 1_000), left(1_000, 1_499)), (500, 1));
        assert_eq!((left(1_000, 1_500), left(1_000, 1_501), left(1, u64::MAX)), (0, 0, 0));
        assert_eq!((left(0, 1_000_000), left(1_001, 1_000)), (500, 500));
    }

    #[test]
    fn the_clock_of_the_node_advances() {
        let earlier = Ttl::monotonic_millis();
        assert!(earlier > 0 && Ttl::monotonic_millis() >= earlier);
        #[allow(clippy::disallowed_methods, reason = "compares two readings of the clock")]
        let (before, instant, after) = (Ttl::monotonic_millis(), Instant::now(), Ttl::monotonic_millis());
        // Rounding may differ by one.
        assert!((before - 1..=after + 1).contains(&Ttl::monotonic_millis_at(instant)));
        let hour = Duration::from_secs(3600);
        let at = Ttl::monotonic_millis_at(instant);
        assert_eq!(Ttl::monotonic_millis_at(instant + hour), at + 3_600_000);
    }
}
