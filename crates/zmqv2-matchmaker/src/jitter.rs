//! Random spans, so that thousands of processes that start together do not act together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// A random span from `least` to `most`.
///
/// ```
/// use std::time::Duration;
///
/// let (least, most) = (Duration::from_secs(8), Duration::from_secs(10));
/// let span = zmqv2_matchmaker::random_span(least, most);
/// assert!(span >= least && span <= most);
/// ```
#[must_use]
pub fn random_span(least: Duration, most: Duration) -> Duration {
    // Each `RandomState` has its own random keys, so the hash of nothing is a random number.
    let random = RandomState::new().build_hasher().finish();
    let fraction = random as f64 / u64::MAX as f64;
    let spread = most.saturating_sub(least);
    // The product of the longest spans is rounded up to more than a span can hold.
    let part = Duration::try_from_secs_f64(spread.as_secs_f64() * fraction.clamp(0.0, 1.0)).unwrap_or(spread);
    least.saturating_add(part.min(spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_differ_and_stay_within_their_bounds() {
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(20));
        let spans: Vec<_> = (0..100).map(|_| random_span(least, most)).collect();
        assert!(spans.iter().all(|span| (least..=most).contains(span)));
        let part =
            |from: u64, to: u64| spans.iter().filter(|span| (from..to).contains(&(span.as_micros() as u64))).count();
        // Each third gets enough spans. One test run in a million misses this bound.
        for (from, to) in [(10_000, 13_333), (13_333, 16_666), (16_666, 20_001)] {
            assert!(part(from, to) >= 12, "{spans:?}");
        }
        assert_eq!(random_span(most, least), most, "swapped bounds do not panic");
        assert!((0..100).all(|_| random_span(Duration::from_nanos(1), Duration::MAX) >= Duration::from_nanos(1)));
        assert_eq!(random_span(Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
