//! What became of a message that nobody blocks for.

pub(crate) mod answered;
pub(crate) mod call_error;
pub(crate) mod completion;
pub(crate) mod counters;
pub(crate) mod receiver_answer;
pub(crate) mod receiver_tracker;
pub(crate) mod remote_error;
pub(crate) mod result_group;
pub(crate) mod send_error;

use std::fmt;
use std::time::Duration;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Address, NodeName, Refusal, ServerName};

use crate::outcome::call_error::{AtNode, Span};

/// What became of a cast, of a fanout at one server, or of a notification for one pool.
///
/// | outcome | the method |
/// |---|---|
/// | `Acked` | was accepted by a server; it runs if that server lives |
/// | `Stored` | has not run; it will when a listener takes it (notifications only) |
/// | `Refused` | did not run, and never will (`ServerLost`, `TooLarge`: it may have) |
/// | `Unacknowledged`, `sent: false` | did not run, and never will |
/// | `Unacknowledged`, `sent: true` | may have run, or may still run |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A server has accepted it.
    Acked {
        /// The server.
        server: ServerName,
        /// The node of that server.
        node: NodeName,
        /// From the cast to the acknowledgement.
        elapsed: Duration,
    },
    /// A notification is kept by the broker of a node, and no listener has taken it yet. The broker delivers it when one is
    /// free or comes, within its time to live, and more than once if a listener dies; with a durable store, it outlives the
    /// broker.
    Stored {
        /// The node of that broker.
        node: NodeName,
        /// From the sending to this answer.
        elapsed: Duration,
    },
    /// It was answered that it was not, or not completely, run; the reason says which.
    Refused {
        /// The reason and a sentence.
        refusal: Refusal,
        /// The node that refused; `None`: the directory knows no node to ask.
        node: Option<NodeName>,
        /// From the cast to the refusal.
        after: Duration,
    },
    /// Nobody has said anything: no connection, a connection that broke, or silence until the timeout.
    Unacknowledged {
        /// From the cast to its end.
        after: Duration,
        /// Whether it had been sent to anybody who may have it.
        sent: bool,
    },
}

impl Outcome {
    /// Whether a server has accepted it.
    #[must_use]
    pub fn is_acked(&self) -> bool {
        matches!(self, Self::Acked { .. })
    }

    /// Whether somebody else answers for it now: a server has accepted it, or a broker keeps it for a listener.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        matches!(self, Self::Acked { .. } | Self::Stored { .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acked { server, node, elapsed } => {
                write!(f, "accepted by {server} on node {node} after {}", Span(*elapsed))
            }
            Self::Stored { node, elapsed } => write!(f, "stored on node {node} after {}", Span(*elapsed)),
            Self::Refused { refusal, node, after } => {
                write!(f, "refused{} after {}: {refusal}", AtNode(node.as_ref()), Span(*after))
            }
            Self::Unacknowledged { after, sent: true } => write!(f, "no acknowledgement within {}", Span(*after)),
            Self::Unacknowledged { after, sent: false } => write!(f, "not sent within {}", Span(*after)),
        }
    }
}

/// The end of a message, cast or call.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) kind: CompletionKind,
    pub(crate) after: Duration,
}

#[derive(Debug)]
pub(crate) enum CompletionKind {
    /// Accepted; with a body: a reply.
    Answered {
        server: ServerName,
        node: NodeName,
        body: Option<Frame>,
    },
    Refused {
        refusal: Refusal,
        node: Option<NodeName>,
    },
    Unreachable {
        node: NodeName,
        address: Address,
    },
    ConnectionLost {
        node: NodeName,
        address: Address,
    },
    NoAnswer {
        node: NodeName,
        address: Address,
    },
    /// Of a question for a call: its broker knows it.
    InFlight,
    /// The client was closed, or its I/O thread is gone.
    Closed {
        sent: bool,
    },
}

impl Completion {
    pub(crate) fn outcome(&self) -> Outcome {
        let after = self.after;
        let unacknowledged = |sent| Outcome::Unacknowledged { after, sent };
        match &self.kind {
            CompletionKind::Answered { server, node, .. } => {
                Outcome::Acked { server: server.clone(), node: node.clone(), elapsed: after }
            }
            CompletionKind::Refused { refusal, node } => {
                Outcome::Refused { refusal: refusal.clone(), node: node.clone(), after }
            }
            CompletionKind::Unreachable { .. } => unacknowledged(false),
            CompletionKind::ConnectionLost { .. } | CompletionKind::NoAnswer { .. } | CompletionKind::InFlight => {
                unacknowledged(true)
            }
            CompletionKind::Closed { sent } => unacknowledged(*sent),
        }
    }
}
