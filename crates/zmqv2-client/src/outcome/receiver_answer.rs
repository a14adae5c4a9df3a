//! The answer of one receiver.

use std::time::Duration;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{NodeName, Refusal, ServerName};

use crate::outcome::Outcome;

#[derive(Debug)]
pub(crate) struct ReceiverAnswer {
    pub(crate) server: Option<ServerName>,
    pub(crate) node: NodeName,
    pub(crate) kind: AnswerKind,
    /// The number of the send that is answered.
    pub(crate) attempt: u8,
}

#[derive(Debug)]
pub(crate) enum AnswerKind {
    Accepted,
    Stored,
    Reply {
        body: Frame,
        /// Whether the header says that it is a failure.
        is_failure: bool,
    },
    /// The broker confirms that the call is in flight. Its server gave no sign of life for
    /// `silence`.
    InFlight {
        silence: Duration,
    },
    /// The receiver refused its copy.
    Refused(Refusal),
}

impl ReceiverAnswer {
    /// The outcome at this receiver. `None`: it accepted the message without a name.
    pub(crate) fn outcome(&self, elapsed: Duration) -> Option<Outcome> {
        let node = self.node.clone();
        Some(match &self.kind {
            AnswerKind::Stored => Outcome::Stored { node, elapsed },
            AnswerKind::Refused(refusal) => {
                Outcome::Refused { refusal: refusal.clone(), node: Some(node), after: elapsed }
            }
            AnswerKind::Accepted | AnswerKind::Reply { .. } | AnswerKind::InFlight { .. } => {
                Outcome::Acked { server: self.server.clone()?, node, elapsed }
            }
        })
    }
}
