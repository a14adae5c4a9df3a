//! Why a message could not be sent.

use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::MatchmakerError;
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{BodyError, InvalidName, Target, Version};

use crate::outcome::text::Span;

/// Why a message could not be sent.
///
/// Nothing was sent, so nothing will run. Such a message appears in no counter, and no observer
/// sees it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is larger than `rpc_zmq_max_message_bytes`.
    #[error("message of {size} bytes for {target} is too large, the limit is {limit} bytes")]
    TooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// The target.
        target: Box<Target>,
    },
    /// The client has too many messages without an outcome. With
    /// [`WhenFull::Refuse`](crate::WhenFull::Refuse), this comes at once, otherwise when the
    /// timeout of the message has passed.
    #[error("{open} messages with {bytes} bytes are outstanding, no room for one more to {target}")]
    Full {
        /// The number of messages without an outcome.
        open: usize,
        /// The size of these messages in bytes.
        bytes: usize,
        /// The target.
        target: Box<Target>,
    },
    /// The client was [closed](crate::RpcClient::close).
    #[error("the client is closed, nothing is sent to {target}")]
    Closed {
        /// The target.
        target: Box<Target>,
    },
    /// A callback of a client (an observer or a waker) made a call that blocks. It would stop the
    /// client. Use [`RpcClient::call_async`](crate::RpcClient::call_async) there, or another thread.
    #[error("a callback of a client (observer or waker) cannot wait for {target}: use call_async() or another thread")]
    WouldBlock {
        /// The target.
        target: Box<Target>,
    },
    /// The version of the message is above the version cap, or has another major version.
    #[error("message version {version} for {target} is not covered by the version cap {cap}")]
    VersionCap {
        /// The version of the message.
        version: Version,
        /// The cap.
        cap: Version,
        /// The target.
        target: Box<Target>,
    },
    /// The target means every server, and a call or a cast goes to one. Use
    /// [`RpcClient::fanout`](crate::RpcClient::fanout).
    #[error("{target} is a fanout target, and a call or cast goes to one server: use fanout()")]
    FanoutTarget {
        /// The target.
        target: Box<Target>,
    },
    /// An [interceptor](crate::Interceptor) of this program refused the message.
    #[error("an interceptor refused the message for {target}")]
    Intercepted {
        /// The target.
        target: Box<Target>,
        /// The error of the interceptor.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The method or the topic has no valid name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The arguments or the context cannot be written as JSON.
    #[error("arguments of {method} for {target} cannot be written")]
    Arguments {
        /// The method.
        method: String,
        /// The target.
        target: Box<Target>,
        /// What is wrong with them.
        source: BodyError,
    },
    /// The payload or the context of a notification cannot be written as JSON.
    #[error("payload of {event_type} for {target} cannot be written")]
    Payload {
        /// The type of the event.
        event_type: String,
        /// The target.
        target: Box<Target>,
        /// What is wrong with it.
        source: BodyError,
    },
    /// The directory failed to say where the target is, and the broker of this node has no server
    /// of it. This may pass, even if an operator must correct something.
    #[error("cannot look up {target} after {}", Span(*after))]
    Directory {
        /// The target.
        target: Box<Target>,
        /// How long the client asked.
        after: Duration,
        /// The error of the directory. All messages that waited for the same answer share it.
        source: Arc<MatchmakerError>,
    },
    /// The directory did not answer in time.
    #[error("the {directory} directory did not say within {} where {target} is", Span(*after))]
    DirectorySilent {
        /// The target.
        target: Box<Target>,
        /// The kind of directory.
        directory: &'static str,
        /// How long the client waited.
        after: Duration,
    },
    /// The parent of this process began to send it before the fork. A child does not go on with it.
    #[error("process {parent}, which has forked this one, began to send to {target}: it goes on there")]
    Inherited {
        /// The target.
        target: Box<Target>,
        /// The process that made the future.
        parent: u32,
    },
    /// A socket or the I/O thread cannot be opened. Most often, the process has no file descriptor
    /// left.
    #[error("cannot send to {target}")]
    Transport {
        /// The target.
        target: Box<Target>,
        /// The error of the socket or the thread.
        source: TransportError,
    },
}

impl SendError {
    /// Whether the same message may be sent successfully later: the directory could not say where
    /// its target is, or the client has no room.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Directory { .. } | Self::DirectorySilent { .. } | Self::Full { .. })
    }

    /// The problem of the directory, in one line, if this is one.
    pub(crate) fn directory_problem(&self) -> Option<String> {
        match self {
            Self::Directory { source, .. } => Some(source.to_string()),
            Self::DirectorySilent { directory, .. } => Some(format!("the {directory} directory did not answer")),
            _ => None,
        }
    }
}
