//! The first question on a connection, and its answer.
//!
//! No request leaves before the answer is there. So every request to a broker that reads stamps has
//! one, and none waits without bound in a network that is cut. The answer costs one round trip for
//! each connection.

use std::time::Instant;

use zmqv2_proto::hello::{HELLO_ID, Hello, Welcome};
use zmqv2_proto::{Header, HeaderView, Kind};

use super::Peer;
use crate::clock;

/// How far the beginning of one connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Greeting {
    /// Nothing was asked.
    #[default]
    Due,
    /// The question was sent at this time.
    Asked(Instant),
    /// The broker has answered.
    Answered,
}

impl Greeting {
    pub(crate) fn is_asked(self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// Reads a message that may be the answer to the question. Returns whether it is.
    pub(crate) fn read(&mut self, view: &HeaderView<'_>, body: &[u8], peer: &Peer) -> bool {
        let Self::Asked(sent) = *self else { return false };
        if view.id() != HELLO_ID {
            return false;
        }
        match view.kind() {
            Kind::Welcome => match Welcome::read(body) {
                Ok(welcome) => peer.welcomed(&welcome, view, sent, clock::now()),
                Err(error) => {
                    log::warn!("a broker described itself in words that cannot be read: {error}");
                    peer.refused_welcome();
                }
            },
            Kind::Refusal => peer.refused_welcome(),
            _ => return false,
        }
        *self = Self::Answered;
        true
    }
}

/// Header and body of the question. The client takes bodies of up to this many bytes.
pub(crate) fn question(max_message_bytes: usize) -> [Vec<u8>; 2] {
    [Header::new(Kind::Inquire, HELLO_ID).encode(), Hello::new(max_message_bytes).write()]
}
