//! What the registration's thread knows, and what it does next. Pure: no socket, thread or clock.

use std::time::{Duration, Instant};

use zmqv2_proto::{Kind, MessageId};

/// An accepted registration is repeated at this interval, in case the broker came and went
/// unnoticed.
const REPEAT: Duration = Duration::from_secs(5);
/// A registration without an answer, or with a refusal, is repeated after this time.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct RegistrationState {
    connected: bool,
    /// The broker at the other end of this connection has accepted the registration.
    accepted: bool,
    /// As `accepted`, but false again after a refusal of a repeated registration.
    ready: bool,
    register_at: Instant,
    /// The id of the last REGISTER or WITHDRAW.
    last_id: MessageId,
    withdrawal: Option<Withdrawing>,
}

#[derive(Debug)]
struct Withdrawing {
    end_at: Instant,
    /// The broker sends no more requests: it has said so, or it is gone.
    released: bool,
}

/// A change that is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Registered,
    RegistrationRefused,
    MessageRefused,
}

/// What the thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Register,
    /// Waits for a message, for a wake-up, or for this time.
    Wait(Option<Duration>),
    /// Ends: the broker sends no more requests, and none is outstanding.
    Leave,
    /// Ends: the time to drain is over.
    GiveUp,
}

impl RegistrationState {
    pub(super) fn new(now: Instant, last_id: MessageId) -> Self {
        let (connected, accepted, ready, withdrawal) = (false, false, false, None);
        Self { connected, accepted, ready, register_at: now, last_id, withdrawal }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn is_withdrawing(&self) -> bool {
        self.withdrawal.is_some()
    }

    /// Whether the broker may get the ends of notifications that it shall deliver again.
    pub(super) fn takes_requeued(&self) -> bool {
        self.accepted || self.is_withdrawing()
    }

    /// The socket says whether it is connected. Returns whether the broker has just gone.
    pub(super) fn connection(&mut self, now: Instant, connected: bool) -> bool {
        if let Some(withdrawing) = &mut self.withdrawal {
            withdrawing.released |= !connected;
        }
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
                if let Some(withdrawing) = &mut self.withdrawal {
                    withdrawing.released = true;
                }
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
        self.register_at = now + if self.ready { REPEAT } else { RETRY };
    }

    /// The thread sends the WITHDRAW, with this id. It ends at `end_at` at the latest.
    pub(super) fn withdrawing(&mut self, id: MessageId, end_at: Instant) {
        self.last_id = id;
        self.withdrawal = Some(Withdrawing { end_at, released: false });
    }

    /// What to do next, with so many requests outstanding.
    pub(super) fn next(&self, now: Instant, outstanding: usize) -> Step {
        match &self.withdrawal {
            Some(Withdrawing { released: true, .. }) if outstanding == 0 => Step::Leave,
            Some(Withdrawing { end_at, .. }) if *end_at <= now => Step::GiveUp,
            Some(Withdrawing { end_at, .. }) => Step::Wait(Some(*end_at - now)),
            None if !self.connected => Step::Wait(None),
            None if self.register_at <= now => Step::Register,
            None => Step::Wait(Some(self.register_at - now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: u8) -> MessageId {
        MessageId::from_bytes([number; 16])
    }

    /// A server whose broker is there and has accepted the REGISTER with id 1.
    fn registered(now: Instant) -> RegistrationState {
        let mut state = RegistrationState::new(now, id(0));
        assert!(!state.connection(now, true));
        assert_eq!(state.next(now, 0), Step::Register);
        state.registering(now, id(1));
        assert_eq!(state.received(now, Kind::Registered, id(1)), Some(Change::Registered));
        state
    }

    #[test]
    fn without_a_connection_nothing_is_sent() {
        let now = now();
        let state = RegistrationState::new(now, id(0));
        assert_eq!(state.next(now + 60 * SECOND, 0), Step::Wait(None));
    }

    #[test]
    fn a_registration_without_an_answer_is_repeated_after_a_second() {
        let now = now();
        let mut state = RegistrationState::new(now, id(0));
        state.connection(now, true);
        state.registering(now, id(1));
        assert_eq!(state.next(now, 0), Step::Wait(Some(RETRY)));
        assert_eq!(state.next(now + RETRY, 0), Step::Register);
        assert!(!state.is_ready() && !state.takes_requeued());
    }

    #[test]
    fn an_accepted_registration_is_repeated_as_a_sign_of_life() {
        let now = now();
        let mut state = registered(now);
        assert!(state.is_ready() && state.takes_requeued());
        // The next one is sent a second after the first, which had no answer when it was sent.
        assert_eq!(state.next(now + RETRY, 0), Step::Register);
        state.registering(now + RETRY, id(2));
        assert_eq!(state.received(now + RETRY, Kind::Registered, id(2)), None);
        assert_eq!(state.next(now + RETRY, 0), Step::Wait(Some(REPEAT)));
    }

    #[test]
    fn a_refused_registration_is_repeated_and_the_server_is_not_ready() {
        let now = now();
        let mut state = registered(now);
        state.registering(now, id(2));
        assert_eq!(state.received(now, Kind::Refusal, id(2)), Some(Change::RegistrationRefused));
        assert_eq!((state.is_ready(), state.next(now, 0)), (false, Step::Wait(Some(RETRY))));
    }

    #[test]
    fn a_refused_message_does_not_end_the_registration() {
        let now = now();
        let mut state = registered(now);
        assert_eq!(state.received(now, Kind::Refusal, id(9)), Some(Change::MessageRefused));
        assert!(state.is_ready());
    }

    #[test]
    fn a_new_broker_gets_the_registration_at_once() {
        let now = now();
        let mut state = registered(now);
        assert!(state.connection(now, false));
        assert!(!state.is_ready() && !state.takes_requeued());
        assert_eq!(state.next(now, 0), Step::Wait(None));
        assert!(!state.connection(now, true));
        assert_eq!(state.next(now, 0), Step::Register);
    }

    #[test]
    fn a_server_leaves_when_the_broker_released_it_and_nothing_is_outstanding() {
        let now = now();
        let mut state = registered(now);
        state.withdrawing(id(2), now + SECOND);
        assert_eq!(state.next(now, 0), Step::Wait(Some(SECOND)), "the broker may still send requests");
        assert_eq!(state.received(now, Kind::Withdrawn, id(2)), None);
        assert_eq!(state.next(now, 1), Step::Wait(Some(SECOND)), "a request runs");
        assert_eq!(state.next(now, 0), Step::Leave);
    }

    #[test]
    fn a_server_that_withdraws_waits_for_no_broker_that_is_gone() {
        let now = now();
        let mut state = registered(now);
        state.withdrawing(id(2), now + SECOND);
        state.connection(now, false);
        assert_eq!((state.next(now, 1), state.next(now, 0)), (Step::Wait(Some(SECOND)), Step::Leave));
    }

    #[test]
    fn a_server_gives_up_when_the_time_to_drain_is_over() {
        let now = now();
        let mut state = registered(now);
        state.withdrawing(id(2), now + SECOND);
        state.received(now, Kind::Withdrawn, id(2));
        assert_eq!(state.next(now + SECOND, 1), Step::GiveUp);
        assert_eq!(state.next(now + SECOND, 0), Step::Leave);
    }
}
