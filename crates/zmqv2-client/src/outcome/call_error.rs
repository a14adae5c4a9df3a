//! What can become of a call that does not return a result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::MatchmakerError;
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{Address, BodyError, InvalidName, NodeName, Reason, Refusal, Target, Version};

use crate::outcome::remote_error::RemoteError;

/// Why a call returned no result.
///
/// Whether it is safe to ask again is answered by [`may_have_run`](Self::may_have_run). The client can be used again at
/// once after any of these.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with an error.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A broker answered that the request was not, or not completely, run; the reason says which.
    #[error("{target} was refused{} after {}: {refusal}", AtNode(node.as_ref()), Span(*after))]
    Refused {
        /// The reason and a sentence.
        refusal: Refusal,
        /// Who was called.
        target: Box<Target>,
        /// The node that refused; `None`: the directory knows no node to ask.
        node: Option<NodeName>,
        /// How long the call took.
        after: Duration,
    },
    /// The request was sent, and no reply came in time; or the broker that has it did not say in time that it is still in
    /// flight ([`call_monitor_timeout`](crate::RpcClientBuilder::call_monitor_timeout)).
    #[error("no reply from {target} within {} (node {node}, {address})", Span(*after))]
    Timeout {
        /// Who was called.
        target: Box<Target>,
        /// The node that was asked.
        node: NodeName,
        /// The address of its broker.
        address: Address,
        /// How long the call took.
        after: Duration,
    },
    /// No node of the target could be connected to in time. Nothing was sent.
    #[error("no connection to {target} within {} (node {node}, {address})", Span(*after))]
    Unreachable {
        /// Who was called.
        target: Box<Target>,
        /// The last node that was tried.
        node: NodeName,
        /// The address of its broker.
        address: Address,
        /// How long the call took.
        after: Duration,
    },
    /// The request was sent, then the connection broke: the reply can never come.
    #[error("connection lost while {target} had the request, after {} (node {node}, {address})", Span(*after))]
    ConnectionLost {
        /// Who was called.
        target: Box<Target>,
        /// The node that was asked.
        node: NodeName,
        /// The address of its broker.
        address: Address,
        /// How long the call took.
        after: Duration,
    },
    /// The request is larger than `rpc_zmq_max_message_bytes`. Nothing was sent.
    #[error("request of {size} bytes for {target} is too large, the limit is {limit} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// Who was called.
        target: Box<Target>,
    },
    /// The message's version is above the cap, or of another major version. Nothing was sent.
    #[error("message version {version} for {target} is not covered by the version cap {cap}")]
    VersionCap {
        /// The version of the message.
        version: Version,
        /// The cap.
        cap: Version,
        /// Who was called.
        target: Box<Target>,
    },
    /// A call has one answer, and the target means every server. Nothing was sent.
    #[error("{target} is a fanout target: a call has one answer")]
    FanoutTarget {
        /// Who was called.
        target: Box<Target>,
    },
    /// The method, or a part of the target, has no valid name. Nothing was sent.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The arguments or the context cannot be written as JSON. Nothing was sent.
    #[error("arguments of {method} for {target} cannot be written")]
    Arguments {
        /// The method.
        method: String,
        /// Who was called.
        target: Box<Target>,
        /// What is wrong with them.
        source: BodyError,
    },
    /// The method ran, and its result is not of the type that the caller expects.
    #[error("result of {method} from {target} is not what the caller expects")]
    Answer {
        /// The method.
        method: String,
        /// Who was called.
        target: Box<Target>,
        /// What is wrong with it.
        source: BodyError,
    },
    /// The directory cannot say where the target is. Nothing was sent.
    #[error("cannot look up {target} after {}", Span(*after))]
    Directory {
        /// Who was called.
        target: Box<Target>,
        /// How long the call took.
        after: Duration,
        /// Why; shared by all calls that waited for the same answer.
        source: Arc<MatchmakerError>,
    },
    /// The directory did not answer in time. Nothing was sent.
    #[error("the {directory} directory did not say within {} where {target} is", Span(*after))]
    DirectorySilent {
        /// Who was called.
        target: Box<Target>,
        /// The kind of directory.
        directory: &'static str,
        /// How long the call took.
        after: Duration,
    },
    /// There is no room for one more outstanding message ([`RpcClient::call_async`](crate::RpcClient::call_async)).
    /// Nothing was sent.
    #[error("{open} messages with {bytes} bytes are outstanding, no room for one more to {target}")]
    Full {
        /// How many messages are outstanding.
        open: usize,
        /// How many bytes they have.
        bytes: usize,
        /// Who was called.
        target: Box<Target>,
    },
    /// The client was [closed](crate::RpcClient::close) before the reply came.
    #[error("the client was closed before {target} replied")]
    Closed {
        /// Who was called.
        target: Box<Target>,
        /// Whether the request had been sent.
        sent: bool,
    },
    /// A socket cannot be opened or used, most often for lack of file descriptors.
    #[error("cannot call {target}")]
    Transport {
        /// Who was called.
        target: Box<Target>,
        /// Whether the request had been sent.
        sent: bool,
        /// What failed.
        source: TransportError,
    },
}

/// As [`Display`](fmt::Display): a program that returns it from `main` prints it in this form.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CallError {
    /// The reason, when a broker refused the request.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.reason),
            _ => None,
        }
    }

    /// Whether the method may have run, in part or whole. If not, asking again cannot run it twice.
    ///
    /// | error | may have run |
    /// |---|---|
    /// | `Remote`, `Answer` | yes: it did, unless the remote error says that it could not |
    /// | `Timeout`, `ConnectionLost` | yes; it may still run |
    /// | `Refused`: `ServerLost`, `TooLarge` | yes: `TooLarge` may be said of the reply |
    /// | `Refused`: all other reasons | no, and it never will |
    /// | `Transport`, `Closed` | if it had been sent |
    /// | `Unreachable`, `TooLarge`, `Full`, `VersionCap`, `FanoutTarget`, `InvalidName`, `Arguments`, `Directory`, `DirectorySilent` | no: nothing was sent |
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Remote(_) | Self::Answer { .. } | Self::Timeout { .. } | Self::ConnectionLost { .. } => true,
            Self::Refused { refusal, .. } => !matches!(
                refusal.reason,
                Reason::NoRoute
                    | Reason::Busy
                    | Reason::Expired
                    | Reason::Malformed
                    | Reason::Unauthorized
                    | Reason::ShuttingDown
            ),
            Self::Transport { sent, .. } | Self::Closed { sent, .. } => *sent,
            Self::Unreachable { .. }
            | Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::VersionCap { .. }
            | Self::FanoutTarget { .. }
            | Self::InvalidName(_)
            | Self::Arguments { .. }
            | Self::Directory { .. }
            | Self::DirectorySilent { .. } => false,
        }
    }
}

/// A span for people: `120 ms`, `5.0 s`.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

/// Nothing, or ` by node n1`.
pub(crate) struct AtNode<'a>(pub(crate) Option<&'a NodeName>);

impl fmt::Display for AtNode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |node| write!(f, " by node {node}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Box<Target> {
        Box::new(Target::topic("t").unwrap().with_server("s1").unwrap())
    }

    #[test]
    fn messages_say_what_happened_to_whom_and_after_how_long() {
        let error = CallError::Timeout {
            target: target(),
            node: "n1".parse().unwrap(),
            address: Address::Tcp("h:1".parse().unwrap()),
            after: Duration::from_millis(5_004),
        };
        assert_eq!(error.to_string(), "no reply from openstack/t at s1 within 5.0 s (node n1, tcp://h:1)");
        let error = CallError::Refused {
            refusal: Refusal::new(Reason::NoRoute, "no server s1"),
            target: target(),
            node: Some("n1".parse().unwrap()),
            after: Duration::from_micros(1_900),
        };
        assert_eq!(error.to_string(), "openstack/t at s1 was refused by node n1 after 1 ms: NoRoute: no server s1");
        assert_eq!(error.reason(), Some(Reason::NoRoute));
    }

    #[test]
    fn only_these_refusals_leave_it_open_whether_the_method_ran() {
        let open: Vec<Reason> = Reason::ALL
            .into_iter()
            .filter(|reason| {
                let refusal = Refusal::new(*reason, "");
                CallError::Refused { refusal, target: target(), node: None, after: Duration::ZERO }.may_have_run()
            })
            .collect();
        assert_eq!(open, [Reason::ServerLost, Reason::TooLarge]);
    }

    #[test]
    fn an_error_is_small_and_crosses_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<CallError>();
        assert!(size_of::<CallError>() <= 128, "{}", size_of::<CallError>());
    }
}
