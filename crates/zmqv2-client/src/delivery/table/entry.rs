//! One pending message: where it is now, and its timers.

use std::time::{Duration, Instant};

use super::server_queue::Membership;
use super::{DeliveryOptions, LinkId};
use crate::delivery::attempt::{Attempt, Verdict};
use crate::delivery::liveness::Liveness;

#[derive(Debug)]
pub(super) struct Entry<M> {
    pub(super) message: M,
    pub(super) bytes: usize,
    /// For the order of resends.
    pub(super) arrival: u64,
    pub(super) expires: Instant,
    pub(super) attempt: Attempt,
    pub(super) stage: Stage,
    /// Its place in the queue of a link. Places with other numbers are left over from before.
    pub(super) ticket: u64,
    /// When the stage ends by itself.
    pub(super) wake: Option<Instant>,
    /// Its time in the table's timers: that of its wake, or earlier.
    pub(super) timer: Option<Instant>,
    /// The number of the last send, 0 before the first.
    pub(super) sends: u8,
    /// The link of the last send, if no answer has come over it in time. The broker there may still
    /// have the message.
    pub(super) unanswered: Option<LinkId>,
    monitor: Option<Duration>,
    /// Of the last send.
    pub(super) liveness: Option<Liveness>,
    /// Its place in a server queue, if it is for one server.
    pub(super) membership: Option<Membership>,
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
    /// Sent; an answer is awaited.
    Sent { link: LinkId },
    /// Until its attempt goes on.
    Pause,
    /// The directory is asked.
    LookingUp,
}

impl<M> Entry<M> {
    pub(super) fn new(message: M, options: DeliveryOptions, jitter: u8, now: Instant, arrival: u64) -> Self {
        let DeliveryOptions { deadline, expires, retries, wait_for_ready, monitor, bytes, server_queue, .. } = options;
        let mut attempt = Attempt::new(now, deadline, retries, jitter, wait_for_ready, server_queue.is_some());
        attempt.set_preliminary(options.preliminary);
        Self {
            message,
            bytes,
            arrival,
            expires,
            attempt,
            stage: Stage::ChoosingLink,
            ticket: 0,
            wake: None,
            timer: None,
            sends: 0,
            unanswered: None,
            monitor,
            liveness: None,
            membership: server_queue.map(Membership::new),
        }
    }

    /// Whether a candidate has it now, or an earlier attempt may have run it.
    pub(super) fn may_have_run(&self) -> bool {
        matches!(self.stage, Stage::Sent { .. }) || self.attempt.has_doubt()
    }

    /// The link to a broker that may still have it when it ends with this result. If it ends with an
    /// answer, that is the answer to the send of number `answered`.
    pub(super) fn holder<A>(&self, answered: u8, result: &Result<A, Verdict>) -> Option<LinkId> {
        match (result, self.stage) {
            // An earlier send was answered.
            (Ok(_), Stage::Sent { link }) if answered != self.sends => Some(link),
            (Ok(_), _) => None,
            (Err(Verdict::Closed { .. }), Stage::Sent { link }) => Some(link),
            (Err(_), _) => self.unanswered,
        }
    }

    /// It was sent. Returns when it is looked at again.
    pub(super) fn start_liveness(&mut self, now: Instant) -> Instant {
        self.liveness = self.monitor.map(|timeout| Liveness::new(timeout, now));
        self.next_check(now)
    }

    /// When a message that was sent is looked at again.
    pub(super) fn next_check(&self, now: Instant) -> Instant {
        let assumed = self.membership.and_then(|membership| membership.assume_found_at).filter(|at| *at > now);
        let liveness_check = self.liveness.map(|liveness| liveness.next_check());
        [assumed, liveness_check].into_iter().flatten().fold(self.attempt.answer_by(), Instant::min)
    }
}
