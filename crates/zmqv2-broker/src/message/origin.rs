//! Where a request came from, and the answers to it.

use std::time::Duration;

use zmqv2_proto::{Flags, Header, HeaderView, Kind, MessageId, NodeName, Refusal, ServerName, Ttl, rewrite_hop};

use super::payload::Payload;
use super::return_path::ReturnPath;

/// The socket through which a message came, and through which its answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ingress {
    Network,
    Local,
}

/// The sender of a request, who waits for an answer.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) ingress: Ingress,
    pub(crate) path: ReturnPath,
    tag: u64,
    id: MessageId,
    pub(crate) bundles: bool,
}

impl Origin {
    /// The sender of the message with this header.
    pub(crate) fn of(ingress: Ingress, path: ReturnPath, view: &HeaderView<'_>) -> Self {
        Self { ingress, path, tag: view.tag(), id: view.id(), bundles: view.flags().contains(Flags::BUNDLES) }
    }

    /// The sender of a message whose header cannot be read. Answers have zero as tag and id.
    pub(crate) fn unreadable(ingress: Ingress, path: ReturnPath) -> Self {
        Self { ingress, path, tag: 0, id: MessageId::from_bytes([0; 16]), bundles: false }
    }

    /// A worker's answer, readdressed to the sender. `remaining` answers follow.
    pub(crate) fn answer(&self, mut payload: Payload, remaining: u16) -> Payload {
        rewrite_hop(payload.header_mut(), self.tag, Ttl::ZERO);
        // This overwrites the worker's credit, which only the broker needs.
        Header::stamp_count(payload.header_mut(), remaining);
        payload
    }

    /// A refusal of the request, or of the copy for `server`; `remaining` answers follow.
    pub(crate) fn refuse(
        &self,
        node: &NodeName,
        refusal: &Refusal,
        server: Option<ServerName>,
        remaining: u16,
    ) -> Payload {
        let mut header = Header::new(Kind::Refusal, self.id);
        (header.reason, header.server, header.count) = (Some(refusal.reason), server, remaining);
        self.broker_message(header, node, refusal.detail.as_bytes())
    }

    /// Confirms that a notification is stored. `remaining` answers follow.
    pub(crate) fn confirm_stored(&self, node: &NodeName, pool: Option<ServerName>, remaining: u16) -> Payload {
        let mut header = Header::new(Kind::Stored, self.id);
        (header.server, header.count) = (pool, remaining);
        self.broker_message(header, node, &[])
    }

    pub(crate) fn reply(&self, kind: Kind, node: &NodeName, body: &[u8]) -> Payload {
        self.broker_message(Header::new(kind, self.id), node, body)
    }

    /// A call is in flight. The server that has it gave no sign of life for `silence`.
    pub(crate) fn in_flight(&self, node: &NodeName, silence: Duration) -> Payload {
        let mut header = Header::new(Kind::InFlight, self.id);
        header.ttl = silence.into();
        self.broker_message(header, node, &[])
    }

    fn broker_message(&self, mut header: Header, node: &NodeName, body: &[u8]) -> Payload {
        header.tag = self.tag;
        header.node = Some(node.clone());
        Payload::copied(&header.encode(), body)
    }
}
