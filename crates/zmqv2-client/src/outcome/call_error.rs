//! Why a call returned no result.

use std::fmt;
use std::time::Duration;

use zmqv2_proto::{Address, BodyError, InvalidName, NoConnection, NodeName, Reason, Refusal, Target};

use crate::outcome::remote_error::RemoteError;
use crate::outcome::send_error::SendError;
use crate::outcome::text::{AtNode, Span};

/// Why a call returned no result.
///
/// [`may_have_run`](Self::may_have_run) says whether it is safe to call again. After any of these
/// errors, the client can make the next call at once.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with an error.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The request could not be sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// A broker refused the request, or the client did because the directory knows no node. The
    /// [reason](Reason) says whether the method may have run.
    #[error("{target} was refused{} after {}: {refusal}", AtNode(node.as_ref()), Span(*after))]
    Refused {
        /// The reason and a sentence.
        refusal: Refusal,
        /// The target of the call.
        target: Box<Target>,
        /// The node that refused; `None`: the directory knows no node to ask.
        node: Option<NodeName>,
        /// How long the call took.
        after: Duration,
    },
    /// The request was sent, and no reply came in time. Or the broker did not confirm in time that
    /// it still has the call
    /// ([`call_monitor_timeout`](crate::RpcClientBuilder::call_monitor_timeout)).
    #[error("no reply from {target} within {} (node {node}, {address})", Span(*after))]
    Timeout {
        /// The target of the call.
        target: Box<Target>,
        /// The node that has the request.
        node: NodeName,
        /// The address of the broker of that node.
        address: Address,
        /// How long the call took.
        after: Duration,
    },
    /// No node of the target could be connected to in time. Nothing was sent.
    #[error("no connection to {target} within {} (node {node}, {address}): {}", Span(*after), cause.explain(address))]
    Unreachable {
        /// The target of the call.
        target: Box<Target>,
        /// The node that was tried last.
        node: NodeName,
        /// The address of the broker of that node.
        address: Address,
        /// How long the call took.
        after: Duration,
        /// Why there is no connection to that node, as far as it is known.
        cause: NoConnection,
    },
    /// The connection broke after the request was sent, so the reply cannot come any more.
    #[error("connection lost while {target} had the request, after {} (node {node}, {address})", Span(*after))]
    ConnectionLost {
        /// The target of the call.
        target: Box<Target>,
        /// The node that had the request.
        node: NodeName,
        /// The address of the broker of that node.
        address: Address,
        /// How long the call took.
        after: Duration,
    },
    /// The method ran, and its result does not have the type that the caller expects.
    #[error("result of {method} from {target} is not what the caller expects")]
    Answer {
        /// The method.
        method: String,
        /// The target of the call.
        target: Box<Target>,
        /// What is wrong with the result.
        source: BodyError,
    },
    /// The client was [closed](crate::RpcClient::close) after the request was sent and before the
    /// reply came.
    #[error("the client was closed before {target} replied")]
    Closed {
        /// The target of the call.
        target: Box<Target>,
    },
    /// A callback of a client (an observer or a waker) waited for the result. It would have waited for
    /// its own thread. Poll the handle there, or wait in another thread.
    #[error(
        "a callback of a client (observer or waker) cannot wait for the reply of {target}: poll the handle, or wait in \
         another thread"
    )]
    WouldBlock {
        /// The target of the call.
        target: Box<Target>,
    },
    /// The parent of this process made the call before the fork. Its result is in the parent.
    #[error("the call to {target} was made by process {parent}, which has forked this one: its result is there")]
    Inherited {
        /// The target of the call.
        target: Box<Target>,
        /// The process that made the call.
        parent: u32,
    },
}

/// The same text as [`Display`](fmt::Display), because Rust prints the error of `main` in this
/// form.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For `client.prepare().server(name)?` in a function that returns `CallError`.
impl From<InvalidName> for CallError {
    fn from(error: InvalidName) -> Self {
        Self::NotSent(error.into())
    }
}

impl CallError {
    /// The reason, if the call was refused.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.reason),
            _ => None,
        }
    }

    /// Whether the method may have run, in part or whole. If not, a second call cannot run it
    /// twice.
    ///
    /// | error | may have run |
    /// |---|---|
    /// | `Remote`, `Answer` | yes: it did, unless the remote error says that it could not |
    /// | `Timeout`, `ConnectionLost`, `Closed`, `WouldBlock`, `Inherited` | yes, and it may still run |
    /// | `Refused` | as [`Refusal::may_have_run`] says: with `ServerLost`, and with `TooLarge` from a broker or server |
    /// | `NotSent`, `Unreachable` | no: nothing was sent |
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.may_have_run(),
            Self::NotSent(_) | Self::Unreachable { .. } => false,
            Self::Remote(_)
            | Self::Answer { .. }
            | Self::Timeout { .. }
            | Self::ConnectionLost { .. }
            | Self::Closed { .. }
            | Self::WouldBlock { .. }
            | Self::Inherited { .. } => true,
        }
    }

    /// What went wrong, in one line, without the target and the time.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Unreachable { node, address, cause, .. } => {
                format!("no connection to node {node} at {address}: {}", cause.explain(address))
            }
            Self::ConnectionLost { node, address, .. } => {
                format!("the connection to node {node} at {address} was lost")
            }
            Self::Timeout { node, address, .. } => format!("node {node} at {address} has not answered"),
            Self::NotSent(SendError::Transport { source, .. }) => source.to_string(),
            other => other.to_string(),
        }
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
        let error = CallError::Unreachable {
            target: target(),
            node: "n1".parse().unwrap(),
            address: Address::Tcp("h:1".parse().unwrap()),
            after: Duration::from_millis(1_001),
            cause: NoConnection::Refused,
        };
        assert_eq!(
            error.to_string(),
            "no connection to openstack/t at s1 within 1.0 s (node n1, tcp://h:1): connection refused; is zmqv2-broker \
             running there?"
        );
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
    fn a_refusal_says_whether_the_method_may_have_run() {
        for reason in Reason::ALL {
            let refusal = Refusal::new(reason, "");
            let error = CallError::Refused { refusal, target: target(), node: None, after: Duration::ZERO };
            assert_eq!(error.may_have_run(), reason.may_have_run(), "{reason}");
        }
        assert!(Reason::ServerLost.may_have_run() && !Reason::NoRoute.may_have_run());
    }

    #[test]
    fn an_error_is_small_and_crosses_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<CallError>();
        assert!(size_of::<CallError>() <= 128, "{}", size_of::<CallError>());
    }
}
