//! Plain counters of what happened, by name.

use zmqv2_proto::Reason;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// Every counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in `zmqv2 status`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// Requests that came in.
    Requests = "requests",
    /// Requests handed to a worker.
    Delivered = "delivered",
    /// Answers of workers sent on.
    Answered = "answered",
    /// Requests that a worker gave back before it began them.
    HandedBack = "handed_back",
    /// Requests that expired while they waited.
    Expired = "expired",
    /// Requests whose time ended while a worker had them.
    Abandoned = "abandoned",
    /// Answers of workers that came after that.
    LateAnswers = "late_answers",
    /// Copies that were made for the servers of a fanout.
    Copies = "fanout_copies",
    /// Notifications that were kept, because no listener was free or there, or in the durable store.
    Stored = "notifications_stored",
    /// Notifications that a listener has handled.
    Handled = "notifications_handled",
    /// Notifications that came back: given back by a listener, or left behind by one that died.
    Requeued = "notifications_requeued",
    /// Notifications that were given up.
    DeadLetters = "dead_letters",
    /// Questions whether a call is still in flight.
    Inquiries = "inquiries",
    /// Servers that registered.
    Registered = "servers_registered",
    /// Servers that withdrew.
    Withdrawn = "servers_withdrawn",
    /// Servers whose connection broke.
    ServersLost = "servers_lost",
    /// Refusals by reason.
    RefusedNoRoute = "refused_no_route",
    /// Refusals by reason.
    RefusedBusy = "refused_busy",
    /// Refusals by reason.
    RefusedExpired = "refused_expired",
    /// Refusals by reason.
    RefusedServerLost = "refused_server_lost",
    /// Refusals by reason.
    RefusedTooLarge = "refused_too_large",
    /// Refusals by reason.
    RefusedMalformed = "refused_malformed",
    /// Refusals by reason.
    RefusedUnauthorized = "refused_unauthorized",
    /// Refusals by reason.
    RefusedShuttingDown = "refused_shutting_down",
    /// Answers that could not be sent: their receiver is gone or takes nothing.
    Undeliverable = "undeliverable",
}

impl Counter {
    /// The counter of refusals with `reason`.
    #[must_use]
    pub fn refused(reason: Reason) -> Self {
        match reason {
            Reason::NoRoute => Self::RefusedNoRoute,
            Reason::Busy => Self::RefusedBusy,
            Reason::Expired => Self::RefusedExpired,
            Reason::ServerLost => Self::RefusedServerLost,
            Reason::TooLarge => Self::RefusedTooLarge,
            Reason::Unauthorized => Self::RefusedUnauthorized,
            Reason::ShuttingDown => Self::RefusedShuttingDown,
            _ => Self::RefusedMalformed,
        }
    }
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// Counts one more.
    pub fn add(&mut self, counter: Counter) {
        self.0[counter as usize] += 1;
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Every counter with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|counter| (*counter, self.get(*counter)))
    }
}
