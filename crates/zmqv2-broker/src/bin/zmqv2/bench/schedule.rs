//! When each message is to be sent. Pure: no clock.

use std::time::{Duration, Instant};

/// The schedule of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) start: Instant,
    pub(super) duration: Duration,
    /// `None`: further away than the clock counts.
    end: Option<Instant>,
    /// Messages per second; `None`: each as soon as there is room for it.
    rate: Option<f64>,
}

impl Pace {
    pub(super) fn new(start: Instant, duration: Duration, rate: Option<f64>) -> Self {
        Self { start, duration, end: start.checked_add(duration), rate }
    }

    /// When message `number`, from 0, is to be sent, which may be over already: then it is late, and its latency counts
    /// from here all the same. `None`: not in this run, and no later message either.
    pub(super) fn turn(&self, number: u64, now: Instant) -> Option<Instant> {
        let at = match self.rate {
            None => now,
            Some(rate) => {
                let after = Duration::try_from_secs_f64(number as f64 / rate).ok()?;
                self.start.checked_add(after)?
            }
        };
        let before_end = |time: Instant| self.end.is_none_or(|end| time < end);
        (before_end(at) && before_end(now)).then_some(at)
    }

    /// How much of the run is left.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn at_a_rate_every_message_has_its_time_also_when_it_is_late() {
        let start = now();
        let pace = Pace::new(start, 2 * SECOND, Some(4.0));
        assert_eq!(pace.turn(0, start), Some(start));
        assert_eq!(pace.turn(6, start), Some(start + SECOND * 3 / 2));
        assert_eq!(pace.turn(2, start + SECOND * 3 / 2), Some(start + SECOND / 2), "late, and still meant for then");
        assert_eq!(pace.turn(8, start), None, "after the end");
        assert_eq!(pace.turn(2, start + 2 * SECOND), None, "too late to be sent at all");
    }

    #[test]
    fn without_a_rate_it_is_always_now() {
        let start = now();
        let pace = Pace::new(start, SECOND, None);
        assert_eq!(pace.turn(1_000_000, start + SECOND / 2), Some(start + SECOND / 2));
        assert_eq!(pace.turn(0, start + SECOND), None);
        assert_eq!((pace.left(start), pace.left(start + 2 * SECOND)), (SECOND, Duration::ZERO));
    }

    #[test]
    fn no_rate_or_duration_is_too_odd() {
        let start = now();
        let slow = Pace::new(start, Duration::MAX, Some(f64::MIN_POSITIVE));
        assert_eq!((slow.turn(0, start), slow.turn(u64::MAX, start)), (Some(start), None));
        assert_eq!(slow.left(start), Duration::MAX);
        assert!(Pace::new(start, SECOND, Some(f64::MAX)).turn(u64::MAX, start).is_some());
    }
}
