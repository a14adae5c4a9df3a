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
    least + most.saturating_sub(least).mul_f64(fraction.clamp(0.0, 1.0))
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
    }
}
