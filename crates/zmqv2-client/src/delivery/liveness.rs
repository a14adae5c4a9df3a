//! When to ask whether a call is still in flight, and when to give it up. Pure: the time is told.

use std::time::{Duration, Instant};

/// Asking more often than this costs more than it tells.
pub(crate) const SHORTEST_WATCH: Duration = Duration::from_millis(100);

/// Over one call that was sent: half of its timeout after the last sign of life its broker is asked, and without an answer
/// it is given up when the timeout has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    timeout: Duration,
    ask_at: Instant,
    give_up_at: Instant,
    /// Whether it was asked since the last sign of life: nobody is silent who was not asked.
    asked: bool,
    /// Whether an answer may still come.
    pending: bool,
}

/// What [`Watch::due`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ask,
    GiveUp,
}

impl Watch {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        let timeout = timeout.max(SHORTEST_WATCH);
        Self { timeout, ask_at: now + timeout / 2, give_up_at: now + timeout, asked: false, pending: false }
    }

    /// A sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self::new(self.timeout, now);
    }

    /// The question came to nothing; there may be time for another one.
    pub(crate) fn failed(&mut self, now: Instant) {
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
    pub(crate) fn next(&self) -> Instant {
        match (self.asked, self.pending) {
            (_, true) => self.give_up_at,
            (true, false) => self.give_up_at.min(self.ask_at),
            (false, false) => self.ask_at,
        }
    }

    /// How long an answer to a question of now is waited for.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
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
        let mut watch = Watch::new(2 * SECOND, start);
        assert_eq!((watch.next(), watch.due(start)), (start + SECOND, Due::Nothing));
        assert_eq!(watch.due(start + SECOND), Due::Ask);
        assert_eq!((watch.next(), watch.due(start + SECOND)), (start + 2 * SECOND, Due::Nothing));
        let mut heard = watch;
        heard.heard(start + SECOND);
        assert_eq!((heard.next(), heard.due(start + 2 * SECOND)), (start + 2 * SECOND, Due::Ask));
        assert_eq!(watch.due(start + 2 * SECOND), Due::GiveUp);
    }

    #[test]
    fn nobody_is_given_up_who_was_not_asked() {
        let start = crate::clock::now();
        let mut watch = Watch::new(2 * SECOND, start);
        let late = start + 9 * SECOND;
        assert_eq!(watch.due(late), Due::Ask);
        assert_eq!((watch.next(), watch.patience(late)), (late + SECOND, SECOND));
        assert_eq!((watch.due(late), watch.due(late + SECOND)), (Due::Nothing, Due::GiveUp));
    }

    #[test]
    fn a_question_that_came_to_nothing_is_asked_again_in_the_same_time() {
        let start = crate::clock::now();
        let mut watch = Watch::new(2 * SECOND, start);
        assert_eq!(watch.due(start + SECOND), Due::Ask);
        watch.failed(start + SECOND);
        assert_eq!(watch.due(start + SECOND), Due::Nothing);
        assert_eq!((watch.next(), watch.due(start + SECOND * 5 / 4)), (start + SECOND * 5 / 4, Due::Ask));
        watch.failed(start + SECOND * 19 / 10);
        assert_eq!(watch.next(), start + 2 * SECOND);
        assert_eq!(watch.due(start + 2 * SECOND), Due::GiveUp);
    }
}
