//! Refusals: the typed answers of whoever could not or would not run a request.

use std::fmt;

/// Why a request was not run, or why its result is unknown. The numbers stand on the wire
/// (`docs/wire-protocol.md`); [`Display`](fmt::Display) gives the word that users see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// No server of the target is known there. The request did not run.
    NoRoute = 1,
    /// A bound of the backlog is reached. The request did not run.
    Busy = 2,
    /// The time to live ended before a worker was free. The request did not run and never will.
    Expired = 3,
    /// The worker died with the request in flight. The request may have run, in part or whole.
    ServerLost = 4,
    /// The message is larger than the limit. A request did not run; a reply of this size was dropped after the run.
    TooLarge = 5,
    /// The frames are not a message of this protocol.
    Malformed = 6,
    /// This peer may not send this.
    Unauthorized = 7,
    /// The broker is stopping. The request did not run.
    ShuttingDown = 8,
}

impl Reason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::NoRoute,
        Self::Busy,
        Self::Expired,
        Self::ServerLost,
        Self::TooLarge,
        Self::Malformed,
        Self::Unauthorized,
        Self::ShuttingDown,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a code; `None` for a code of a later protocol.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The word of this reason, such as `NoRoute`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "NoRoute",
            Self::Busy => "Busy",
            Self::Expired => "Expired",
            Self::ServerLost => "ServerLost",
            Self::TooLarge => "TooLarge",
            Self::Malformed => "Malformed",
            Self::Unauthorized => "Unauthorized",
            Self::ShuttingDown => "ShuttingDown",
        }
    }

    /// Whether the request surely did not run, so that sending it elsewhere cannot run it twice, and another node
    /// may well take it.
    #[must_use]
    pub const fn another_node_may_take_it(self) -> bool {
        matches!(self, Self::NoRoute | Self::Busy | Self::ShuttingDown)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the reason for machines, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
#[non_exhaustive]
pub struct Refusal {
    /// What happened.
    pub reason: Reason,
    /// The same in a sentence, naming the thing and the limit.
    pub detail: String,
}

impl Refusal {
    /// A refusal from its parts.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_and_go_both_ways() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.code()), index + 1);
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Reason::from_code(9), None);
    }
}
