//! One outstanding message: where it is, what is left to try, and what is known of it.

use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Reason, Refusal};

use super::server_queue::Membership;
use super::{ANSWER_GRACE, DeliveryOptions, Ending, LinkId};
use crate::delivery::liveness::Liveness;

#[derive(Debug)]
pub(super) struct Entry<M> {
    pub(super) message: M,
    pub(super) bytes: usize,
    /// For the order of resends.
    pub(super) arrival: u64,
    pub(super) deadline: Instant,
    pub(super) expires: Instant,
    pub(super) stage: Stage,
    /// Its place in the queue of a link; a place with another number is one that it has left.
    pub(super) ticket: u64,
    /// When the stage ends by itself.
    pub(super) wake: Option<Instant>,
    /// Where the entry stands in the table's timers: at its wake, or earlier.
    pub(super) timer: Option<Instant>,
    /// The candidate of now.
    pub(super) candidate: usize,
    candidates: usize,
    /// How many candidates of this round have been tried before.
    tried: usize,
    /// Whether one of them could not be asked.
    pub(super) some_unreachable: bool,
    /// A mark of the last send, 0 before the first.
    pub(super) sends: u8,
    pub(super) retries: u32,
    has_retries: bool,
    wait_for_ready: bool,
    monitor: Option<Duration>,
    /// Over the attempt that was sent.
    pub(super) liveness: Option<Liveness>,
    /// The time that one attempt has.
    time_per_attempt: Duration,
    pub(super) attempt_until: Instant,
    /// If it is in a server queue.
    pub(super) membership: Option<Membership>,
    /// Why, and at which candidate, it may have run.
    pub(super) maybe_ran: Option<(MaybeRan, usize)>,
    /// The refusal of this round that says most.
    pub(super) refused: Option<(Refusal, Option<NodeName>)>,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The driver is asked for the link of its candidate.
    ChoosingLink,
    /// In its server queue, behind others.
    InServerQueue,
    /// To be sent as soon as the link is connected.
    Queued { link: LinkId },
    /// On its way; an answer is awaited.
    Sent { link: LinkId },
    /// Until its next attempt.
    RetryPause,
    /// Until the directory is asked again.
    LookupPause,
    /// The directory is asked.
    LookingUp,
}

/// Why a message may have run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MaybeRan {
    ConnectionLost,
    NoAnswer,
    Refused(Refusal, Option<NodeName>),
}

impl<M> Entry<M> {
    pub(super) fn new(message: M, options: DeliveryOptions, now: Instant, arrival: u64) -> Self {
        let DeliveryOptions { deadline, expires, retries, wait_for_ready, monitor, candidates, bytes, server_queue } =
            options;
        let time_per_attempt = deadline.saturating_duration_since(now) / retries.saturating_add(1);
        Self {
            message,
            bytes,
            arrival,
            deadline,
            expires,
            stage: Stage::ChoosingLink,
            ticket: 0,
            wake: None,
            timer: None,
            candidate: 0,
            candidates,
            tried: 0,
            some_unreachable: false,
            sends: 0,
            retries,
            has_retries: retries > 0,
            wait_for_ready,
            monitor,
            liveness: None,
            time_per_attempt,
            attempt_until: if retries > 0 { now + time_per_attempt } else { deadline },
            membership: server_queue.map(Membership::new),
            maybe_ran: None,
            refused: None,
        }
    }

    pub(super) fn candidates(&self) -> u32 {
        u32::try_from(self.candidates).unwrap_or(u32::MAX)
    }

    /// Whether it waits for candidates while there are none.
    pub(super) fn waits_for_candidates(&self) -> bool {
        self.wait_for_ready
    }

    /// Whether it is with somebody now, or may have been run before.
    pub(super) fn may_have_run(&self) -> bool {
        matches!(self.stage, Stage::Sent { .. }) || self.maybe_ran.is_some()
    }

    /// When the candidate of now is given up if it is not connected by then. It leaves time for the others; the last
    /// one of a message with retries is waited for as long as the attempt lasts.
    pub(super) fn connect_by(&self, now: Instant, connect_timeout: Duration) -> Instant {
        let left = self.attempt_until.saturating_duration_since(now);
        let others =
            self.candidates > self.tried + 1 || self.membership.is_some_and(|membership| membership.has_alternatives);
        now + match (others, self.has_retries) {
            (true, _) => connect_timeout.min(left / 2),
            (false, true) => left,
            (false, false) => connect_timeout.min(left),
        }
    }

    /// It was sent; when it is looked at again.
    pub(super) fn start_liveness(&mut self, now: Instant) -> Instant {
        self.liveness = self.monitor.map(|timeout| Liveness::new(timeout, now));
        self.next_check()
    }

    /// When something is to be done about what was sent.
    pub(super) fn next_check(&self) -> Instant {
        let answer_by = self.answer_by();
        let assumed = self.membership.and_then(|membership| membership.assume_found_at);
        let liveness_check = self.liveness.map(|liveness| liveness.next_check());
        [assumed, liveness_check].into_iter().flatten().fold(answer_by, Instant::min)
    }

    /// When an answer to what was just sent is given up.
    pub(super) fn answer_by(&self) -> Instant {
        let last = self.retries == 0 || self.attempt_until >= self.deadline;
        if last { self.deadline + ANSWER_GRACE } else { self.attempt_until }
    }

    /// New candidates, from the first one on.
    pub(super) fn set_candidates(&mut self, candidates: usize) {
        self.candidates = candidates;
        (self.candidate, self.tried, self.some_unreachable, self.refused) = (0, 0, false, None);
    }

    /// It goes on after it was held.
    pub(super) fn extend_attempt(&mut self, now: Instant) {
        if self.retries > 0 {
            self.attempt_until = self.attempt_until.max(self.deadline.min(now + self.time_per_attempt));
        }
    }

    /// Whether the end of the round of the one that it was held behind, with `refused`, is its own as well.
    pub(super) fn ends_like(&mut self, refused: Option<&(Refusal, Option<NodeName>)>) -> bool {
        if self.retries > 0 && (self.maybe_ran.is_some() || refused.is_none()) {
            return false;
        }
        let before = std::mem::replace(&mut self.refused, refused.cloned());
        if self.may_become_ready() {
            self.refused = before;
            return false;
        }
        true
    }

    /// On to the next candidate of this round, if there is one.
    pub(super) fn next_candidate(&mut self) -> bool {
        self.tried += 1;
        let more = self.tried < self.candidates;
        if more {
            self.advance_candidate();
        }
        more
    }

    /// Starts the next attempt, if there is one: with the next candidate, because this one may be gone.
    pub(super) fn next_attempt(&mut self, now: Instant) -> bool {
        if self.retries == 0 || now >= self.deadline {
            return false;
        }
        self.retries -= 1;
        self.attempt_until =
            if self.retries > 0 { self.deadline.min(now + self.time_per_attempt) } else { self.deadline };
        (self.tried, self.some_unreachable, self.refused) = (0, false, None);
        self.advance_candidate();
        true
    }

    fn advance_candidate(&mut self) {
        self.candidate = (self.candidate + 1).checked_rem(self.candidates).unwrap_or(0);
    }

    /// Keeps the refusal that says most: somebody is busy, so asking again later will help; else the last one.
    pub(super) fn keep_refusal(&mut self, refusal: Refusal, node: Option<NodeName>) {
        let busy = |kept: &(Refusal, _)| kept.0.reason == Reason::Busy;
        if refusal.reason == Reason::Busy || !self.refused.as_ref().is_some_and(busy) {
            self.refused = Some((refusal, node));
        }
    }

    /// Whether nobody takes it now, and it is to wait until somebody does.
    pub(super) fn may_become_ready(&self) -> bool {
        let busy = self.refused.as_ref().is_some_and(|(refusal, _)| refusal.reason == Reason::Busy);
        self.wait_for_ready && self.maybe_ran.is_none() && !busy
    }

    /// What is to be said of it when nothing more is tried.
    pub(super) fn ending<A>(&mut self) -> Ending<A> {
        match (self.maybe_ran.take(), self.refused.take()) {
            (Some((MaybeRan::Refused(refusal, node), _)), _) => Ending::Refused(refusal, node),
            (Some((MaybeRan::ConnectionLost, candidate)), _) => Ending::ConnectionLost { candidate },
            (Some((MaybeRan::NoAnswer, candidate)), _) => Ending::NoAnswer { candidate },
            (None, Some((refusal, node))) if !self.wait_for_ready || refusal.reason == Reason::Busy => {
                Ending::Refused(refusal, node)
            }
            (None, None) if !self.wait_for_ready => Ending::Unreachable { candidate: self.candidate },
            (None, _) => Ending::NeverReady,
        }
    }
}
