//! Time to live: how long a message may still wait, as the wire carries it.

use std::fmt;
use std::time::{Duration, Instant};

/// The time a message has left, in whole milliseconds, up to about 49 days.
///
/// A span, never a time of day: nodes' clocks need not agree. Whoever keeps a message turns it into a
/// deadline on arrival and back into a span when the message goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// Nothing left: the message has expired.
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

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_expired(self) -> bool {
        self.0 == 0
    }

    /// The deadline of a message that arrived at `now` with this much left.
    #[must_use]
    pub fn deadline(self, now: Instant) -> Instant {
        now + Duration::from(self)
    }

    /// What is left at `now` until `deadline`: rounded up to a millisecond, so that a message does not expire by rounding.
    #[must_use]
    pub fn until(deadline: Instant, now: Instant) -> Self {
        deadline.saturating_duration_since(now).into()
    }
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
}
