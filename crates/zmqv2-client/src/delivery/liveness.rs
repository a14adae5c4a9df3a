//! When to ask whether a call is still in flight, and when to give it up. Pure: the caller passes the time.

use std::time::{Duration, Instant};

/// Asking more often than this costs more than it tells.
pub(crate) const MIN_LIVENESS_TIMEOUT: Duration = Duration::from_millis(100);

/// Over one call that was sent: half of its timeout after the last sign of life its broker is asked, and without an answer
/// it is given up when the timeout has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Liveness {
    timeout: Duration,
    ask_at: Instant,
    give_up_at: Instant,
    /// Whether it was asked since the last sign of life: nobody is silent who was not asked.
    asked: bool,
    /// Whether an answer may still come.
    pending: bool,
}

/// What [`Liveness::due`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ask,
    GiveUp,
}

impl Liveness {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        let timeout = timeout.max(MIN_LIVENESS_TIMEOUT);
        Self { timeout, ask_at: now + timeout / 2, give_up_at: now + timeout, asked: false, pending: false }
    }

    /// A sign of life.
    pub(crate) fn alive(&mut self, now: Instant) {
        *self = Self::new(self.timeout, now);
    }

    /// The question came to nothing; there may be time for another one.
    pub(crate) fn question_failed(&mut self, now: Instant) {
        self.pending = false;
        self.ask_at = now + self.timeout / 8;
    }

    /// What to do now. [`Due::Ask`] is said once, and counts as done.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.asked && now >= self.give_up_at {
            return Due::GiveUp;
        }
        if self.pending || now < self.ask_at {
            return Due::Nothing;
        }
        if !self.asked {
            // Also when the question comes late, an answer has half of the timeout.
            self.give_up_at = self.give_up_at.max(now + self.timeout / 2);
        }
        (self.asked, self.pending) = (true, true);
        Due::Ask
    }

    /// When something may be due.
    pub(crate) fn next_check(&self) -> Instant {
        match (self.asked, self.pending) {
            (_, true) => self.give_up_at,
            (true, false) => self.give_up_at.min(self.ask_at),
            (false, false) => self.ask_at,
        }
    }

    /// How long an answer to a question of now is waited for.
    pub(crate) fn time_for_answer(&self, now: Instant) -> Duration {
        self.give_up_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_asks_at_half_and_gives_up_at_the_whole() {
        let start = crate::clock::now();
        let mut liveness = Liveness::new(2 * SECOND, start);
        assert_eq!((liveness.next_check(), liveness.due(start)), (start + SECOND, Due::Nothing));
        assert_eq!(liveness.due(start + SECOND), Due::Ask);
        assert_eq!((liveness.next_check(), liveness.due(start + SECOND)), (start + 2 * SECOND, Due::Nothing));
        let mut alive = liveness;
        alive.alive(start + SECOND);
        assert_eq!((alive.next_check(), alive.due(start + 2 * SECOND)), (start + 2 * SECOND, Due::Ask));
        assert_eq!(liveness.due(start + 2 * SECOND), Due::GiveUp);
    }

    #[test]
    fn a_broker_that_was_not_asked_is_not_given_up() {
        let start = crate::clock::now();
        let mut liveness = Liveness::new(2 * SECOND, start);
        let late = start + 9 * SECOND;
        assert_eq!(liveness.due(late), Due::Ask);
        assert_eq!((liveness.next_check(), liveness.time_for_answer(late)), (late + SECOND, SECOND));
        assert_eq!((liveness.due(late), liveness.due(late + SECOND)), (Due::Nothing, Due::GiveUp));
    }

    #[test]
    fn a_failed_question_is_repeated_within_the_same_timeout() {
        let start = crate::clock::now();
        let mut liveness = Liveness::new(2 * SECOND, start);
        assert_eq!(liveness.due(start + SECOND), Due::Ask);
        liveness.question_failed(start + SECOND);
        assert_eq!(liveness.due(start + SECOND), Due::Nothing);
        assert_eq!((liveness.next_check(), liveness.due(start + SECOND * 5 / 4)), (start + SECOND * 5 / 4, Due::Ask));
        liveness.question_failed(start + SECOND * 19 / 10);
        assert_eq!(liveness.next_check(), start + 2 * SECOND);
        assert_eq!(liveness.due(start + 2 * SECOND), Due::GiveUp);
    }
}
