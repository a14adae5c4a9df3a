//! When to ask whether a call is still in flight, and when to give it up. Pure.

use std::time::{Duration, Instant};

use zmqv2_proto::{Reason, Refusal, Ttl, deadline};

/// Shorter timeouts are raised to this, because the questions would cost too much.
pub(crate) const MIN_LIVENESS_TIMEOUT: Duration = Duration::from_millis(100);

/// Watches one call that was sent. Half of the timeout after the last sign of life, the client asks
/// the broker. If the whole timeout passes without an answer, the call is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Liveness {
    timeout: Duration,
    ask_at: Instant,
    give_up_at: Instant,
    /// Whether the broker was asked since the last sign of life. Otherwise its silence means
    /// nothing.
    asked: bool,
    /// Whether an answer to a question is awaited.
    pending: bool,
    /// The last answer said that the server was silent for the whole timeout.
    suspected: bool,
}

/// The next thing to do, from [`Liveness::due`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ask,
    GiveUp,
}

impl Liveness {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        let timeout = timeout.clamp(MIN_LIVENESS_TIMEOUT, Ttl::MAX.into());
        Self {
            timeout,
            ask_at: deadline(now, timeout / 2),
            give_up_at: deadline(now, timeout),
            asked: false,
            pending: false,
            suspected: false,
        }
    }

    /// The broker is alive.
    pub(crate) fn alive(&mut self, now: Instant) {
        *self = Self::new(self.timeout, now);
    }

    /// The broker has the call, and the server that runs it gave no sign of life for `silence`.
    /// Returns why the call is lost, if it is.
    pub(crate) fn in_flight(&mut self, now: Instant, silence: Duration) -> Option<Refusal> {
        let suspected = silence >= self.timeout;
        let confirmed = suspected && self.suspected;
        self.alive(now);
        self.suspected = suspected;
        if confirmed {
            let detail = format!("its server gave no sign of life for {silence:.1?}; the request may have run");
            return Some(Refusal::new(Reason::ServerLost, detail));
        }
        if !silence.is_zero() {
            // The next answer may show that the whole timeout has passed, or confirm it. A broker
            // that itself was stopped may answer before it has read what its servers sent.
            let left = self.timeout.saturating_sub(silence).max(MIN_LIVENESS_TIMEOUT / 2);
            self.ask_at = self.ask_at.min(deadline(now, left));
        }
        None
    }

    /// The question has failed. Another one may follow.
    pub(crate) fn question_failed(&mut self, now: Instant) {
        self.pending = false;
        self.ask_at = deadline(now, self.timeout / 8);
    }

    /// Returns what to do now. [`Due::Ask`] is returned once per question.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.asked && now >= self.give_up_at {
            return Due::GiveUp;
        }
        if self.pending || now < self.ask_at {
            return Due::Nothing;
        }
        if !self.asked {
            // If the question comes late, the answer still has half of the timeout.
            self.give_up_at = self.give_up_at.max(deadline(now, self.timeout / 2));
        }
        (self.asked, self.pending) = (true, true);
        Due::Ask
    }

    /// When to call [`due`](Self::due) again.
    pub(crate) fn next_check(&self) -> Instant {
        match (self.asked, self.pending) {
            (_, true) => self.give_up_at,
            (true, false) => self.give_up_at.min(self.ask_at),
            (false, false) => self.ask_at,
        }
    }

    /// How long to wait for the answer to a question that is sent now.
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
    fn a_server_that_is_silent_for_the_whole_timeout_is_lost() {
        let start = crate::clock::now();
        let mut liveness = Liveness::new(2 * SECOND, start);
        assert_eq!(liveness.in_flight(start, Duration::ZERO), None);
        assert_eq!(liveness.next_check(), start + SECOND);
        // It is asked again when the timeout passes.
        assert_eq!(liveness.in_flight(start, SECOND * 3 / 2), None);
        assert_eq!((liveness.next_check(), liveness.due(start + SECOND / 2)), (start + SECOND / 2, Due::Ask));
        // One such answer is not enough.
        assert_eq!(liveness.in_flight(start + SECOND / 2, 2 * SECOND), None);
        let soon = liveness.next_check();
        assert!(soon > start + SECOND / 2 && soon <= start + SECOND * 3 / 4 && liveness.due(soon) == Due::Ask);
        let mut back = liveness;
        assert_eq!(back.in_flight(soon, Duration::ZERO), None);
        assert_eq!(back.in_flight(soon, 2 * SECOND), None);
        let lost = liveness.in_flight(soon, 2 * SECOND).unwrap();
        assert_eq!((lost.reason, lost.detail.contains("for 2.0s")), (Reason::ServerLost, true), "{lost:?}");
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
    fn any_timeout_has_bounds() {
        let start = crate::clock::now();
        for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 40)] {
            let mut liveness = Liveness::new(timeout, start);
            assert!(liveness.next_check() > start + 1_000_000 * SECOND);
            liveness.question_failed(start);
            assert_eq!(liveness.due(start), Due::Nothing);
        }
        for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
            assert_eq!(Liveness::new(timeout, start).next_check(), start + MIN_LIVENESS_TIMEOUT / 2);
        }
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
