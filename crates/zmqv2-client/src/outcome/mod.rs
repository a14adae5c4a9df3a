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

use serde::de::DeserializeOwned;
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{NodeName, Reason, Refusal, Reply, ServerName, Target};

use crate::delivery::attempt::Verdict;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::{AtNode, CallError, Span};
use crate::outcome::receiver_answer::{AnswerKind, ReceiverAnswer};
use crate::outcome::remote_error::RemoteError;
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destination;

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
    pub(crate) result: Result<ReceiverAnswer, CallError>,
    pub(crate) after: Duration,
}

impl Completion {
    /// How a message ended that nobody looks after any more.
    pub(crate) fn abandoned(target: &Target, after: Duration) -> Self {
        Self { result: Err(CallError::Closed { target: Box::new(target.clone()) }), after }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let unacknowledged = |sent| Outcome::Unacknowledged { after: self.after, sent };
        match &self.result {
            Ok(answer) => answer.outcome(self.after).unwrap_or_else(|| unacknowledged(true)),
            Err(CallError::Refused { refusal, node, .. }) => {
                Outcome::Refused { refusal: refusal.clone(), node: node.clone(), after: self.after }
            }
            Err(error) => unacknowledged(error.may_have_run()),
        }
    }

    /// The result of a call of `method`.
    pub(crate) fn into_answered<R: DeserializeOwned>(
        self,
        method: &str,
        target: &Target,
        allowed_modules: &[String],
    ) -> Result<Answered<R>, CallError> {
        let target = || Box::new(target.clone());
        let ReceiverAnswer { server: Some(server), node, kind: AnswerKind::Reply(body), .. } = self.result? else {
            return Err(CallError::Closed { target: target() });
        };
        match Reply::decode(&body) {
            Ok(Ok(value)) => Ok(Answered { value, server, node, elapsed: self.after }),
            Ok(Err(failure)) => Err(RemoteError::new(failure, allowed_modules, server, node).into()),
            Err(source) => Err(CallError::Answer { method: method.to_owned(), target: target(), source }),
        }
    }
}

impl Verdict {
    /// How a message ended, for its sender. `destination` gives the node of a candidate.
    /// `socket_error` is why no socket to the last candidate could be opened, if none could.
    pub(crate) fn into_call_error(
        self,
        target: &Target,
        after: Duration,
        destination: impl FnOnce(usize) -> Option<Destination>,
        socket_error: Option<TransportError>,
    ) -> CallError {
        let target = Box::new(target.clone());
        let at = |candidate: usize| destination(candidate).map(|Destination { node, address }| (node, address));
        match (self, socket_error) {
            (Self::Refused(refusal, node), _) => CallError::Refused { refusal, target, node, after },
            (Self::NoCandidate, _) => {
                let refusal = Refusal::new(Reason::NoRoute, format!("the directory knows no node of {target}"));
                CallError::Refused { refusal, target, node: None, after }
            }
            (Self::NeverReady, _) => {
                let refusal = Refusal::new(Reason::Expired, format!("no server of {target} became ready to take it"));
                CallError::Refused { refusal, target, node: None, after }
            }
            (Self::Unreachable { .. }, Some(source)) => SendError::Transport { target, source }.into(),
            (Self::Unreachable { candidate }, None) => match at(candidate) {
                Some((node, address)) => CallError::Unreachable { target, node, address, after },
                None => SendError::Closed { target }.into(),
            },
            (Self::ConnectionLost { candidate }, _) => match at(candidate) {
                Some((node, address)) => CallError::ConnectionLost { target, node, address, after },
                None => CallError::Closed { target },
            },
            (Self::NoAnswer { candidate }, _) => match at(candidate) {
                Some((node, address)) => CallError::Timeout { target, node, address, after },
                None => CallError::Closed { target },
            },
            (Self::Closed { sent: true }, _) => CallError::Closed { target },
            (Self::Closed { sent: false }, _) => SendError::Closed { target }.into(),
        }
    }
}
