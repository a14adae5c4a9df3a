//! One receiver's answer to a message.

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{NodeName, Refusal, ServerName};

/// What one receiver says.
#[derive(Debug)]
pub(crate) struct ReceiverAnswer {
    pub(crate) server: Option<ServerName>,
    pub(crate) node: NodeName,
    pub(crate) kind: AnswerKind,
    /// The number of the send that it answers.
    pub(crate) attempt: u8,
}

#[derive(Debug)]
pub(crate) enum AnswerKind {
    Accepted,
    Stored,
    Reply(Frame),
    /// A call, says its broker.
    InFlight,
    /// Of the copy that it was to have.
    Refused(Refusal),
}
