//! The state of the registration, and the next step of its thread. Pure: no socket, thread or clock.

use std::time::{Duration, Instant};

use zmqv2_proto::{Kind, MessageId, deadline};

/// An accepted registration is repeated at this interval, in case the broker came and went
/// unnoticed.
const REPEAT: Duration = Duration::from_secs(5);
/// A registered server gives a sign of life this often, whatever its workers do. A process that
/// hangs gives none.
pub(crate) const SIGN_INTERVAL: Duration = Duration::from_millis(500);
/// A registration without an answer, or with a refusal, is repeated after this time.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct RegistrationState {
    pub(super) connected: bool,
    /// The broker at the other end of this connection has accepted the registration.
    accepted: bool,
    /// As `accepted`, but false again after a refusal of a repeated registration.
    pub(super) ready: bool,
    register_at: Instant,
    /// When the next sign of life is due.
    sign_at: Instant,
    /// The id of the last REGISTER or WITHDRAW.
    last_id: MessageId,
    /// The thread has sent the WITHDRAW, and ends at this time at the latest.
    end_at: Option<Instant>,
    /// The broker sends no more requests after the WITHDRAW: it has said so, or it is gone.
    released: bool,
}

/// A change that is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Registered,
    RegistrationRefused,
    MessageRefused,
}

/// The next step of the thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Register,
    GiveSign,
    /// Waits for a message, for a wake-up, or for this time.
    Wait(Option<Duration>),
    /// Ends: the broker sends no more requests, and none is outstanding.
    Leave,
    /// Ends: the time to drain is over.
    GiveUp,
}

impl RegistrationState {
    pub(super) fn new(now: Instant, last_id: MessageId) -> Self {
        let (connected, accepted, ready, released) = (false, false, false, false);
        Self { connected, accepted, ready, register_at: now, sign_at: now, last_id, end_at: None, released }
    }

    pub(super) fn is_withdrawing(&self) -> bool {
        self.end_at.is_some()
    }

    /// Whether the broker may be told to deliver notifications again.
    pub(super) fn takes_requeued(&self) -> bool {
        self.accepted || self.is_withdrawing()
    }

    /// The socket is connected, or not. Returns whether the broker has just gone.
    pub(super) fn connection(&mut self, now: Instant, connected: bool) -> bool {
        self.released |= self.is_withdrawing() && !connected;
        if connected != self.connected {
            self.register_at = now;
        }
        let gone = std::mem::replace(&mut self.connected, connected) && !connected;
        if gone {
            (self.accepted, self.ready) = (false, false);
        }
        gone
    }

    /// The broker has sent a message.
    pub(super) fn received(&mut self, now: Instant, kind: Kind, id: MessageId) -> Option<Change> {
        match kind {
            Kind::Registered => {
                self.accepted = true;
                (!std::mem::replace(&mut self.ready, true)).then_some(Change::Registered)
            }
            Kind::Withdrawn => {
                self.released |= self.is_withdrawing();
                None
            }
            Kind::Refusal => {
                self.register_at = self.register_at.min(now + RETRY);
                if id != self.last_id {
                    return Some(Change::MessageRefused);
                }
                self.ready = false;
                Some(Change::RegistrationRefused)
            }
            _ => None,
        }
    }

    /// The thread sends a REGISTER with this id.
    pub(super) fn registering(&mut self, now: Instant, id: MessageId) {
        self.last_id = id;
        self.register_at = deadline(now, if self.ready { REPEAT } else { RETRY });
        self.gave_sign(now);
    }

    /// The thread has sent the broker a sign of life.
    pub(super) fn gave_sign(&mut self, now: Instant) {
        self.sign_at = deadline(now, SIGN_INTERVAL);
    }

    /// The thread sends the WITHDRAW, with this id. It ends at `end_at` at the latest.
    pub(super) fn withdrawing(&mut self, id: MessageId, end_at: Instant) {
        (self.last_id, self.end_at) = (id, Some(end_at));
    }

    /// The next step of the thread, when this many requests are outstanding.
    pub(super) fn next(&self, now: Instant, outstanding: usize) -> Step {
        let next = match self.end_at {
            Some(_) if self.released && outstanding == 0 => return Step::Leave,
            Some(end_at) if end_at <= now => return Step::GiveUp,
            Some(end_at) => end_at,
            None if !self.connected => return Step::Wait(None),
            None if self.register_at <= now => return Step::Register,
            None => self.register_at,
        };
        // A server that stops finishes its requests, and is alive until then.
        match self.sign_at {
            _ if !self.accepted => Step::Wait(Some(next - now)),
            sign_at if sign_at <= now => Step::GiveSign,
            sign_at => Step::Wait(Some(next.min(sign_at) - now)),
        }
    }
}

#[cfg(test)]
#[path = "tests/state.rs"]
mod tests;
