//! One broker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::hello::Welcome;
use zmqv2_proto::{ClockId, Header, HeaderView, NodeName, Reason, Refusal, Ttl};

use super::clock::PeerClock;

/// What is known about one broker.
#[derive(Debug, Default)]
pub(crate) struct Peer(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    /// The broker's clock, if it reads stamps.
    clock: Option<(ClockId, PeerClock)>,
    /// The largest body that it takes.
    max_message_bytes: Option<usize>,
    /// Whether it understands that a call was given up.
    cancels: bool,
    /// Whether it takes the node of the caller in a request.
    takes_callers: bool,
}

/// What a request tells its broker: the time of sending, by the clock of that broker, and perhaps the
/// node of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    clock: ClockId,
    sent: u64,
    /// Whether the node of the caller may stand in the header.
    pub(crate) with_caller: bool,
}

/// How the requests to a broker are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamping {
    With(Stamp),
    /// It is a broker of an earlier version, which reads no stamps.
    Without,
    /// The broker must be asked for its clock again.
    AskAgain,
}

impl Stamp {
    /// Writes the stamp into the encoded header of a request.
    pub(crate) fn write(self, header: &mut [u8]) {
        Header::stamp_sent(header, self.clock, self.sent);
    }
}

impl Peer {
    /// The broker has answered the first question on a connection, which was sent at `sent`.
    pub(crate) fn welcomed(&self, welcome: &Welcome, view: &HeaderView<'_>, sent: Instant, received: Instant) {
        let clock = ClockId::from_wire(welcome.clock).filter(|_| view.delivered() != 0).map(|clock| {
            let [sent, received] = [sent, received].map(Ttl::monotonic_millis_at);
            (clock, PeerClock::asked(clock == ClockId::own(), sent, received, view.delivered()))
        });
        let max_message_bytes = welcome.max_message_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        *self.facts() = Facts { clock, max_message_bytes, cancels: welcome.cancels, takes_callers: welcome.callers };
    }

    /// The broker does not know the first question: it is of an earlier version.
    pub(crate) fn refused_welcome(&self) {
        *self.facts() = Facts::default();
    }

    /// The broker has sent an answer.
    pub(crate) fn answered(&self, view: &HeaderView<'_>, received: Instant) {
        if view.delivered() != 0
            && let Some((_, clock)) = &mut self.facts().clock
        {
            clock.answered(Ttl::monotonic_millis_at(received), view.delivered());
        }
    }

    /// How a request is stamped that leaves `now`.
    pub(crate) fn stamping(&self, now: Instant) -> Stamping {
        let facts = self.facts();
        let Some((clock, estimate)) = &facts.clock else { return Stamping::Without };
        match estimate.at(Ttl::monotonic_millis_at(now)) {
            Some(sent) => Stamping::With(Stamp { clock: *clock, sent, with_caller: facts.takes_callers }),
            None => Stamping::AskAgain,
        }
    }

    /// The largest body that the broker takes, as far as it has said.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.facts().max_message_bytes.unwrap_or(usize::MAX)
    }

    pub(crate) fn cancels(&self) -> bool {
        self.facts().cancels
    }

    /// Why the broker does not take a body of this size, if it does not.
    pub(crate) fn refuses_size(&self, size: usize, node: Option<&NodeName>) -> Option<Refusal> {
        let limit = self.facts().max_message_bytes.filter(|limit| size > *limit)?;
        let at = node.map_or_else(String::new, |node| format!(" of {node}"));
        let detail = format!(
            "the body has {size} bytes, the limit of the broker{at} is {limit} (rpc_zmq_max_message_bytes there)"
        );
        Some(Refusal::before_sending(Reason::TooLarge, detail))
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
