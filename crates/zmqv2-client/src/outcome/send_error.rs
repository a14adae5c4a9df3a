//! Why a message was not even taken over.

use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::MatchmakerError;
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{BodyError, InvalidName, Target, Version};

use crate::outcome::call_error::{CallError, Span};

/// Why a cast, a notification, or a call that does not block, could not begin. Nothing was sent, and nothing counts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is larger than `rpc_zmq_max_message_bytes`.
    #[error("message of {size} bytes for {target} is too large, the limit is {limit} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// Whom it was for.
        target: Box<Target>,
    },
    /// The table of outstanding messages is full: at once with
    /// [`WhenFull::Refuse`](crate::WhenFull::Refuse), else for the whole timeout.
    #[error("{open} messages with {bytes} bytes are outstanding, no room for one more to {target}")]
    Full {
        /// How many messages are outstanding.
        open: usize,
        /// How many bytes they have.
        bytes: usize,
        /// Whom it was for.
        target: Box<Target>,
    },
    /// The client was [closed](crate::RpcClient::close).
    #[error("the client is closed, nothing is sent to {target}")]
    Closed {
        /// Whom it was for.
        target: Box<Target>,
    },
    /// The message's version is above the cap, or of another major version.
    #[error("message version {version} for {target} is not covered by the version cap {cap}")]
    VersionCap {
        /// The version of the message.
        version: Version,
        /// The cap.
        cap: Version,
        /// Whom it was for.
        target: Box<Target>,
    },
    /// This is for one server, and the target means every server.
    #[error("{target} is a fanout target: this goes to one server")]
    FanoutTarget {
        /// Whom it was for.
        target: Box<Target>,
    },
    /// The method, or a part of the target, has no valid name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The arguments or the context cannot be written as JSON.
    #[error("arguments of {method} for {target} cannot be written")]
    Arguments {
        /// The method.
        method: String,
        /// Whom it was for.
        target: Box<Target>,
        /// What is wrong with them.
        source: BodyError,
    },
    /// The payload of a notification, or its context, cannot be written as JSON.
    #[error("payload of {event_type} for {target} cannot be written")]
    Payload {
        /// The type of the event.
        event_type: String,
        /// Whom it was for.
        target: Box<Target>,
        /// What is wrong with it.
        source: BodyError,
    },
    /// The directory cannot say where the target is.
    #[error("cannot look up {target} after {}", Span(*after))]
    Directory {
        /// Whom it was for.
        target: Box<Target>,
        /// How long it took.
        after: Duration,
        /// Why; shared by all that waited for the same answer.
        source: Arc<MatchmakerError>,
    },
    /// The directory did not answer in time.
    #[error("the {directory} directory did not say within {} where {target} is", Span(*after))]
    DirectorySilent {
        /// Whom it was for.
        target: Box<Target>,
        /// The kind of directory.
        directory: &'static str,
        /// How long it took.
        after: Duration,
    },
    /// The thread that owns the sockets cannot be started, most often for lack of file descriptors or memory.
    #[error("cannot send to {target}")]
    Transport {
        /// Whom it was for.
        target: Box<Target>,
        /// What failed.
        source: TransportError,
    },
}

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLarge { size, limit, target } => Self::TooLarge { size, limit, target },
            SendError::Full { open, bytes, target } => Self::Full { open, bytes, target },
            SendError::Closed { target } => Self::Closed { target, sent: false },
            SendError::VersionCap { version, cap, target } => Self::VersionCap { version, cap, target },
            SendError::FanoutTarget { target } => Self::FanoutTarget { target },
            SendError::InvalidName(error) => Self::InvalidName(error),
            SendError::Arguments { method, target, source } => Self::Arguments { method, target, source },
            SendError::Payload { event_type: method, target, source } => Self::Arguments { method, target, source },
            SendError::Directory { target, after, source } => Self::Directory { target, after, source },
            SendError::DirectorySilent { target, directory, after } => {
                Self::DirectorySilent { target, directory, after }
            }
            SendError::Transport { target, source } => Self::Transport { target, sent: false, source },
        }
    }
}
