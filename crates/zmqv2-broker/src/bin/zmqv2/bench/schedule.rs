//! When each message is due. Pure: no clock.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) duration: Duration,
    /// `None`: beyond the range of the clock.
    end: Option<Instant>,
    /// Messages per second. `None`: each as soon as there is a free slot.
    rate: Option<f64>,
}

impl Schedule {
    pub(super) fn new(start: Instant, duration: Duration, rate: Option<f64>) -> Self {
        Self { start, duration, end: start.checked_add(duration), rate }
    }

    /// When message `number`, from 0, is due. A late message counts its latency from that time.
    /// `None`: the run ends before.
    pub(super) fn due_at(&self, number: u64, now: Instant) -> Option<Instant> {
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
    fn with_a_rate_every_message_has_its_time_even_if_it_is_late() {
        let start = now();
        let schedule = Schedule::new(start, 2 * SECOND, Some(4.0));
        assert_eq!(schedule.due_at(0, start), Some(start));
        assert_eq!(schedule.due_at(6, start), Some(start + SECOND * 3 / 2));
        assert_eq!(schedule.due_at(2, start + SECOND * 3 / 2), Some(start + SECOND / 2), "late, but due at that time");
        assert_eq!(schedule.due_at(8, start), None, "after the end");
        assert_eq!(schedule.due_at(2, start + 2 * SECOND), None, "too late to be sent at all");
    }

    #[test]
    fn without_a_rate_every_message_is_due_now() {
        let start = now();
        let schedule = Schedule::new(start, SECOND, None);
        assert_eq!(schedule.due_at(1_000_000, start + SECOND / 2), Some(start + SECOND / 2));
        assert_eq!(schedule.due_at(0, start + SECOND), None);
        assert_eq!((schedule.left(start), schedule.left(start + 2 * SECOND)), (SECOND, Duration::ZERO));
    }

    #[test]
    fn extreme_rates_and_durations_work() {
        let start = now();
        let slow = Schedule::new(start, Duration::MAX, Some(f64::MIN_POSITIVE));
        assert_eq!((slow.due_at(0, start), slow.due_at(u64::MAX, start)), (Some(start), None));
        assert_eq!(slow.left(start), Duration::MAX);
        assert!(Schedule::new(start, SECOND, Some(f64::MAX)).due_at(u64::MAX, start).is_some());
    }
}
