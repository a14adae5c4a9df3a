//! The counters of the status report. Each stands here once, with its name and its description,
//! from which `docs/counters.md` is generated. Those of refusals come from [`Reason`].

use std::fmt::Write;

use zmqv2_proto::Reason;

macro_rules! counters {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal $(, if_not_zero: $advice:literal)?;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Counter {
            $($(#[doc = $meaning])+ $variant,)*
            /// Refusals by the broker, by reason.
            Refused(Reason),
        }

        /// The indexes of the counts.
        enum Index { $($variant,)* Refused }

        impl Counter {
            const WITHOUT_REASON: [Self; Index::Refused as usize] = [$(Self::$variant),*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Refused(reason) => reason.counter(),
                }
            }

            /// What is counted, in sentences for users.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),+).trim_ascii(),)*
                    Self::Refused(reason) => reason.meaning(),
                }
            }

            /// What an operator does when the counter grows, if it stays at 0 in a healthy system.
            pub fn if_not_zero(self) -> Option<&'static str> {
                match self {
                    $($(Self::$variant => Some($advice),)?)*
                    Self::Refused(reason) => reason.advice(),
                    _ => None,
                }
            }

            const fn index(self) -> usize {
                match self {
                    $(Self::$variant => Index::$variant as usize,)*
                    Self::Refused(reason) => Index::Refused as usize + reason.index(),
                }
            }
        }
    };
}

counters! {
    /// Requests that arrived: calls, casts, fanouts and notifications.
    Requests = "requests";
    /// Deliveries of requests to workers. A copy of a fanout, and a second delivery, count as well.
    Delivered = "delivered";
    /// Answers of workers that were sent on to the senders.
    Answered = "answered";
    /// Requests that a server handed back before it started them, because its handlers became slow.
    HandedBack = "handed_back";
    /// Requests whose time to live ended before a worker had them, and notifications whose time to
    /// live ended before a listener handled them.
    Expired = "expired";
    /// Requests whose time to live ended while a worker had them.
    Abandoned = "abandoned";
    /// Requests that did not run, because their senders gave them up, or ended, while they waited.
    Cancelled = "cancelled";
    /// Messages of workers about requests that the broker no longer has, or that their senders gave
    /// up.
    LateAnswers = "late_answers";
    /// Copies that were made for the servers of fanouts.
    FanoutCopies = "fanout_copies";
    /// Notifications that the broker confirmed as stored: in its file, or until a listener is free.
    Stored = "notifications_stored";
    /// Notifications that a listener has handled.
    Handled = "notifications_handled";
    /// Notifications that are to be delivered again, because a listener requeued them or died.
    Requeued = "notifications_requeued";
    /// Notifications that were given up. `zmqv2 status` shows the last ones.
    DeadLetters = "dead_letters";
    /// Questions of clients whether a long call is still in flight.
    Inquiries = "inquiries";
    /// Servers that registered.
    Registered = "servers_registered";
    /// Servers that withdrew.
    Withdrawn = "servers_withdrawn";
    /// Servers whose connection broke.
    ServersLost = "servers_lost", if_not_zero: "The servers' logs say why their processes ended.";
    /// Connections that were refused, because too few descriptors were left.
    ConnectionsRefused = "connections_refused", if_not_zero: "Look for clients that open many connections, or raise the limit of open files (`ulimit -n`).";
    /// Lines of the broker's log that were dropped, because nobody read them in time.
    LogLinesDropped = "log_lines_dropped", if_not_zero: "The program that reads the broker's stderr is slow or stopped.";
    /// Answers that could not be sent, because the receiver is gone or does not read.
    Undeliverable = "undeliverable", if_not_zero: "Look for clients that end, or stop, while they wait for answers.";
}

const COUNTERS: usize = Counter::WITHOUT_REASON.len() + Reason::ALL.len();

impl Counter {
    pub fn all() -> impl Iterator<Item = Self> {
        Self::WITHOUT_REASON.into_iter().chain(Reason::ALL.map(Self::Refused))
    }
}

/// The table of `docs/counters.md`.
pub fn reference_markdown() -> String {
    let mut out = "| counter | what it counts | if it should stay at 0 |\n|---|---|---|\n".to_owned();
    for counter in Counter::all() {
        let refused = match counter {
            Counter::Refused(reason) => format!("Refusals with the reason `{reason}`. "),
            _ => String::new(),
        };
        let (name, meaning, advice) = (counter.name(), counter.meaning(), counter.if_not_zero().unwrap_or_default());
        // Writing into a `String` cannot fail.
        let _ = writeln!(out, "| `{name}` | {refused}{meaning} | {advice} |");
    }
    out
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters([u64; COUNTERS]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; COUNTERS])
    }
}

impl Counters {
    pub fn add(&mut self, counter: Counter) {
        self.0[counter.index()] += 1;
    }

    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter.index()]
    }

    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::all().map(|counter| (counter, self.get(counter)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_has_its_own_name_and_count() {
        let mut counters = Counters::default();
        Counter::all().for_each(|counter| counters.add(counter));
        assert!(counters.iter().all(|(_, count)| count == 1));
        let names: BTreeSet<_> = Counter::all().map(Counter::name).collect();
        assert_eq!(names.len(), COUNTERS);
        assert!(Counter::all().all(|counter| counter.meaning().ends_with('.')));
    }
}
