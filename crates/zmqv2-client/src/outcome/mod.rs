//! How messages end: the public types, and their way from the I/O thread to the sender.

pub(crate) mod answered;
pub(crate) mod call_error;
pub(crate) mod completion;
pub(crate) mod counters;
pub(crate) mod raw_reply;
pub(crate) mod receiver_answer;
pub(crate) mod receiver_tracker;
pub(crate) mod remote_error;
pub(crate) mod result_group;
pub(crate) mod result_reader;
pub(crate) mod send_error;
mod text;

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{Address, NextStep, NoConnection, NodeName, Reason, Refusal, Reply, ServerName, Target};

use crate::delivery::attempt::Verdict;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::raw_reply::RawReply;
use crate::outcome::receiver_answer::{AnswerKind, ReceiverAnswer};
use crate::outcome::remote_error::RemoteError;
use crate::outcome::send_error::SendError;
use crate::outcome::text::{AtNode, Span};
use crate::routing::destinations::Destination;
use crate::routing::directory::Doubt;

/// How a cast ended, a fanout at one server, or a notification for one pool.
///
/// | outcome | the method |
/// |---|---|
/// | `Acked` | runs, unless the server that accepted it dies first |
/// | `Stored` | runs when a listener takes it (notifications only) |
/// | `Refused` | may have run if [`Refusal::may_have_run`] says so, otherwise never runs |
/// | `Directory` | did not run and never will; a second message may find a server |
/// | `Unacknowledged`, `sent: false` | did not run and never will |
/// | `Unacknowledged`, `sent: true` | may have run, or may still run |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A server accepted it.
    Acked {
        /// The server.
        server: ServerName,
        /// The node of the server.
        node: NodeName,
        /// The time from sending to this answer.
        elapsed: Duration,
    },
    /// A broker keeps the notification, because no listener has taken it yet. The broker delivers
    /// it within its time to live, more than once if a listener dies. With a durable store, the
    /// notification survives the end of the broker.
    Stored {
        /// The node of the broker.
        node: NodeName,
        /// The time from sending to this answer.
        elapsed: Duration,
    },
    /// It was refused, or it was lost together with its server. The reason says which.
    Refused {
        /// The reason and a sentence.
        refusal: Refusal,
        /// The node that refused; `None`: the directory knows no node to ask.
        node: Option<NodeName>,
        /// The time from sending to this answer.
        after: Duration,
    },
    /// No server was found, and the directory could not say that there is none. The same message
    /// may find a server later.
    Directory {
        /// The error of the directory, in one line.
        problem: String,
        /// The time from sending to the end.
        after: Duration,
    },
    /// There was no answer: no connection, a lost connection, or silence until the timeout.
    Unacknowledged {
        /// The time from sending to the end.
        after: Duration,
        /// Whether it was sent, so that a server may have it.
        sent: bool,
        /// What went wrong, in one line, for people: the node, and for example why there is no
        /// connection to it.
        problem: String,
    },
}

impl Outcome {
    /// Whether it is `Acked`.
    #[must_use]
    pub fn is_acked(&self) -> bool {
        matches!(self, Self::Acked { .. })
    }

    /// Whether it is `Acked` or `Stored`, so that the sender has nothing left to do.
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
            Self::Directory { problem, after } => write!(f, "not found within {}: {problem}", Span(*after)),
            Self::Unacknowledged { after, sent, problem } => {
                let what = if *sent { "no acknowledgement" } else { "not sent" };
                write!(f, "{what} within {}: {problem}", Span(*after))
            }
        }
    }
}

/// How a message ended.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) result: Result<ReceiverAnswer, CallError>,
    pub(crate) after: Duration,
}

impl Completion {
    pub(crate) fn outcome(&self) -> Outcome {
        let unacknowledged = |sent, problem| Outcome::Unacknowledged { after: self.after, sent, problem };
        match &self.result {
            Ok(answer) => {
                let other = || unacknowledged(true, "the answer is no acknowledgement".to_owned());
                answer.outcome(self.after).unwrap_or_else(other)
            }
            Err(CallError::Refused { refusal, node, .. }) => {
                Outcome::Refused { refusal: refusal.clone(), node: node.clone(), after: self.after }
            }
            Err(CallError::NotSent(error)) if let Some(problem) = error.directory_problem() => {
                Outcome::Directory { problem, after: self.after }
            }
            Err(error) => unacknowledged(error.may_have_run(), error.problem()),
        }
    }

    /// The result of a call of `method`.
    pub(crate) fn into_answered<R: DeserializeOwned>(
        self,
        method: &str,
        target: &Target,
        allowed_modules: &[String],
    ) -> Result<Answered<R>, CallError> {
        let Answered { value, server, node, elapsed } = self.into_raw(target)?;
        match Reply::decode(value.body()) {
            Ok(Ok(value)) => Ok(Answered { value, server, node, elapsed }),
            Ok(Err(failure)) => Err(RemoteError::new(failure, allowed_modules, server, node).into()),
            Err(source) => {
                Err(CallError::Answer { method: method.to_owned(), target: Box::new(target.clone()), source })
            }
        }
    }

    /// The reply to a call, unread.
    pub(crate) fn into_raw(self, target: &Target) -> Result<Answered<RawReply>, CallError> {
        let ReceiverAnswer { server: Some(server), node, kind: AnswerKind::Reply { body, is_failure }, .. } =
            self.result?
        else {
            return Err(CallError::Closed { target: Box::new(target.clone()) });
        };
        Ok(Answered { value: RawReply::new(body, is_failure), server, node, elapsed: self.after })
    }
}

impl Verdict {
    /// Whether it says that no node has the server, as far as the directory knows.
    fn says_that_there_is_none(&self) -> bool {
        match self {
            Self::NoCandidate | Self::NeverReady => true,
            Self::Refused(refusal, _) => {
                matches!(refusal.reason.next_step(), NextStep::OtherNode { server_is_there: false, .. })
            }
            _ => false,
        }
    }

    /// The error for the sender of a message. `destination` returns the node of a candidate.
    /// `doubt` is why other nodes may have the server. `socket_error` is why no socket to the last
    /// candidate could be opened, if none could. `cause` is why an address could not be reached.
    pub(crate) fn into_call_error(
        self,
        target: &Target,
        after: Duration,
        destination: impl FnOnce(usize) -> Option<Destination>,
        doubt: Option<&Doubt>,
        socket_error: Option<TransportError>,
        cause: impl FnOnce(&Address) -> NoConnection,
    ) -> CallError {
        let target = Box::new(target.clone());
        if let Some(doubt) = doubt
            && self.says_that_there_is_none()
        {
            return doubt.clone().into_error(target, after).into();
        }
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
                Some((node, address)) => {
                    let cause = cause(&address);
                    CallError::Unreachable { target, node, address, after, cause }
                }
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
