//! Refusals: typed answers to requests that were not run, or whose result is unknown.
//!
//! Every rule about a reason stands in one entry of the table below. The broker, the client, the
//! server and the tables in `docs/` use this table. A new reason is one more entry; an entry that
//! lacks a field does not compile.

use std::fmt;

/// What a client does with a request after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextStep {
    /// The request surely did not run, and another node may take it. If no node does, the client
    /// reports the refusal with the highest rank; of equal ranks, the latest.
    OtherNode {
        /// How much this reason tells the caller, compared with others.
        rank: u8,
        /// Whether a server of the target is at the node that refused. The client then neither
        /// searches for this server elsewhere, nor waits for one.
        server_is_there: bool,
    },
    /// The request may have run. The client sends it again only if its caller asked for retries.
    Retry,
    /// The client reports the refusal: the same request would be refused again.
    Report,
}

/// What a client avoids for a while after a refusal, as long as there is another choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Avoid {
    /// Nothing.
    Nothing,
    /// Sending requests of this topic to this node.
    TopicAtNode,
    /// Sending anything to this node.
    Node,
}

macro_rules! reasons {
    ($(
        $(#[doc = $meaning:literal])+
        $name:ident {
            code: $code:literal,
            counter: $counter:literal,
            advice: $advice:expr,
            may_have_run: $may_have_run:literal,
            next_step: $next_step:expr,
            avoid: $avoid:expr,
        }
    )+) => {
        /// Why a request was not run, or why its result is unknown. The codes stand on the wire
        /// (`docs/wire-protocol.md`). [`Display`](fmt::Display) gives the word that users see.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $meaning])+ $name = $code,)+
        }

        impl Reason {
            /// Every reason, in the order of the codes, which have no gaps and begin at 1.
            pub const ALL: [Self; [$($code),+].len()] = [$(Self::$name),+];

            /// The word for users, such as `NoRoute`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What happened, in sentences for users.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning),+).trim_ascii(),)+ }
            }

            /// The name of the broker's counter of such refusals, such as `refused_no_route`.
            #[must_use]
            pub const fn counter(self) -> &'static str {
                match self { $(Self::$name => $counter,)+ }
            }

            /// What an operator does when the counter grows, if it stays at 0 in a healthy system.
            #[must_use]
            pub const fn advice(self) -> Option<&'static str> {
                match self { $(Self::$name => $advice,)+ }
            }

            /// Whether a request that was refused for this reason may have run, in part or whole.
            #[must_use]
            pub const fn may_have_run(self) -> bool {
                match self { $(Self::$name => $may_have_run,)+ }
            }

            /// What a client does with the request.
            #[must_use]
            pub const fn next_step(self) -> NextStep {
                match self { $(Self::$name => $next_step,)+ }
            }

            /// What a client avoids for a while.
            #[must_use]
            pub const fn avoid(self) -> Avoid {
                match self { $(Self::$name => $avoid,)+ }
            }
        }
    };
}

reasons! {
    /// No server of the target is known there. The request did not run.
    NoRoute {
        code: 1,
        counter: "refused_no_route",
        advice: None,
        may_have_run: false,
        next_step: NextStep::OtherNode { rank: 1, server_is_there: false },
        avoid: Avoid::TopicAtNode,
    }
    /// A bound of the backlog is reached. The request did not run.
    Busy {
        code: 2,
        counter: "refused_busy",
        advice: Some(
            "Start more workers or servers of the topic, or raise `rpc_zmq_topic_backlog` or \
             `rpc_zmq_backlog_bytes`.",
        ),
        may_have_run: false,
        next_step: NextStep::OtherNode { rank: 3, server_is_there: true },
        avoid: Avoid::TopicAtNode,
    }
    /// The time to live ended before a worker was free. The request did not run and never will.
    Expired {
        code: 3,
        counter: "refused_expired",
        advice: None,
        may_have_run: false,
        next_step: NextStep::Report,
        avoid: Avoid::Nothing,
    }
    /// The worker died while it had the request. The request may have run, in part or whole.
    ServerLost {
        code: 4,
        counter: "refused_server_lost",
        advice: None,
        may_have_run: true,
        next_step: NextStep::Retry,
        avoid: Avoid::Nothing,
    }
    /// The message is larger than the limit. A request did not run. A reply was dropped after the
    /// request had run.
    TooLarge {
        code: 5,
        counter: "refused_too_large",
        advice: None,
        may_have_run: true,
        next_step: NextStep::Report,
        avoid: Avoid::Nothing,
    }
    /// The frames are not a message of this protocol, or a body cannot be read. The request did
    /// not run.
    Malformed {
        code: 6,
        counter: "refused_malformed",
        advice: Some("The log names the peer. It is not a zmqv2 program, or it has another version."),
        may_have_run: false,
        next_step: NextStep::Report,
        avoid: Avoid::Nothing,
    }
    /// This peer may not send this. The request did not run.
    Unauthorized {
        code: 7,
        counter: "refused_unauthorized",
        advice: None,
        may_have_run: false,
        next_step: NextStep::Report,
        avoid: Avoid::Nothing,
    }
    /// The broker is stopping. The request did not run.
    ShuttingDown {
        code: 8,
        counter: "refused_shutting_down",
        advice: None,
        may_have_run: false,
        next_step: NextStep::OtherNode { rank: 2, server_is_there: false },
        avoid: Avoid::Node,
    }
    /// The server has no such method in this namespace and version. The cast did not run. A call
    /// gets the remote error `NoSuchMethod` or `UnsupportedVersion` instead.
    NoMethod {
        code: 9,
        counter: "refused_no_method",
        advice: Some(
            "The caller mistyped a method, or asks for a version that the server does not have yet. \
             The client's outcome names the method.",
        ),
        may_have_run: false,
        next_step: NextStep::OtherNode { rank: 4, server_is_there: true },
        avoid: Avoid::Nothing,
    }
}

impl Reason {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The position of this reason in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// The reason of a code; `None` for a code of a later protocol.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Whether the request surely did not run and another node may take it.
    #[must_use]
    pub const fn another_node_may_take_it(self) -> bool {
        matches!(self.next_step(), NextStep::OtherNode { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the reason for programs, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
#[non_exhaustive]
pub struct Refusal {
    /// What happened.
    pub reason: Reason,
    /// The same in a sentence that names the thing and the limit.
    pub detail: String,
    /// Whether the sender has refused its own request, so that it was never sent.
    unsent: bool,
}

impl Refusal {
    /// A refusal from its parts.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), unsent: false }
    }

    /// The refusal of a request that was not sent, because its receiver would refuse it.
    #[must_use]
    pub fn before_sending(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), unsent: true }
    }

    /// Whether the request may have run, in part or whole: as [`Reason::may_have_run`] says, but
    /// never if it was not sent.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        !self.unsent && self.reason.may_have_run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_both_ways_and_have_no_gaps() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.code()), index + 1);
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Reason::from_code(Reason::ALL.len() as u8 + 1), None);
    }

    #[test]
    fn the_codes_on_the_wire_never_change() {
        let words = ["NoRoute", "Busy", "Expired", "ServerLost", "TooLarge", "Malformed", "Unauthorized"];
        let known: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(known[..7], words);
        assert_eq!(known[7..], ["ShuttingDown", "NoMethod"]);
    }

    #[test]
    fn a_request_that_may_have_run_never_goes_to_another_node() {
        for reason in Reason::ALL {
            assert!(!(reason.may_have_run() && reason.another_node_may_take_it()), "{reason}");
            assert!(reason.may_have_run() || reason.meaning().contains("did not run"), "{reason}");
        }
    }

    #[test]
    fn a_request_that_was_not_sent_has_not_run() {
        for reason in Reason::ALL {
            assert_eq!(Refusal::new(reason, "").may_have_run(), reason.may_have_run(), "{reason}");
            assert!(!Refusal::before_sending(reason, "").may_have_run(), "{reason}");
        }
    }

    #[test]
    fn words_and_counters_of_two_reasons_differ() {
        for reason in Reason::ALL {
            let snake = reason.as_str().chars().fold("refused".to_owned(), |mut name, letter| {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_lowercase());
                name
            });
            assert_eq!(reason.counter(), snake);
            assert!(reason.meaning().ends_with('.'), "{reason}");
        }
    }
}
