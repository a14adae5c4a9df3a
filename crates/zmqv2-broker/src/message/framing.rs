//! Messages as they come out of a socket, taken apart without copying.

use std::time::Instant;
use std::vec::Drain;

use zmqv2_proto::bundle::{Bundled, InvalidBundle};
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{
    Flags, Header, HeaderView, InvalidHeader, Kind, MessageId, NodeName, Reason, Refusal, ServerName, Ttl, rewrite_hop,
};

use crate::message::payload::Payload;
use crate::message::return_path::{MAX_PATH_BYTES, ReturnPath};

/// Through which socket a message came, and an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingress {
    /// From the network.
    Network,
    /// From this node's socket directory.
    Local,
}

/// Whoever sent a request, and wants an answer.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) ingress: Ingress,
    pub(crate) path: ReturnPath,
    tag: u64,
    id: MessageId,
    /// The sender reads bundles.
    pub(crate) bundles: bool,
}

/// Why a message cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no empty delimiter frame within {MAX_PATH_BYTES} bytes")]
    NoDelimiter,
    #[error("{0} frames behind the delimiter; a message has a header and a body")]
    Frames(usize),
    #[error("more than {} frames", zmqv2_proto::transport::MAX_FRAMES)]
    Overlong,
    #[error("a request names no node and no reason; only an answer does")]
    Answered,
    #[error(
        "a worker with a socket of its own hands back a request; only those that share one have more than they can run"
    )]
    HandedBack,
    #[error("a request is handed back with more bytes than any request may have (rpc_zmq_max_message_bytes)")]
    HandedBackLarger,
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
    #[error("a {0:?} message cannot come from there")]
    Kind(Kind),
    #[error("control message: {0}")]
    Control(String),
}

/// What stands behind a path.
pub(crate) enum Content {
    One(Payload),
    /// Several messages, each to be answered on its own.
    Bundle(Frame),
}

/// Cuts what a ROUTER received into path and message. The path is given back even if the message is malformed, so
/// that a lock-step sender is answered.
pub(crate) fn take_apart(frames: &mut Vec<Frame>) -> Option<(ReturnPath, Result<Content, Malformed>)> {
    let delimiter = frames.iter().skip(1).position(|frame| frame.is_empty())? + 1;
    let path = ReturnPath::of(&frames[..=delimiter])?;
    Some((path, content(frames.drain(delimiter + 1..))))
}

/// What stands behind a delimiter.
fn content(mut frames: Drain<'_, Frame>) -> Result<Content, Malformed> {
    let count = frames.len();
    match (frames.next(), frames.next(), frames.next()) {
        (Some(header), Some(body), None) => Ok(Content::One(Payload::new(header, body))),
        (Some(only), None, None) if Bundled::of(&only).is_some() => Ok(Content::Bundle(only)),
        _ => Err(Malformed::Frames(count)),
    }
}

impl Origin {
    /// The sender of the message with this header, if there is one.
    pub(crate) fn of(ingress: Ingress, path: ReturnPath, header: &[u8]) -> Self {
        match HeaderView::new(header) {
            Ok(view) => {
                Self { ingress, path, tag: view.tag(), id: view.id(), bundles: view.flags().contains(Flags::BUNDLES) }
            }
            Err(_) => Self { ingress, path, tag: 0, id: MessageId::from_bytes([0; 16]), bundles: false },
        }
    }

    /// A worker's load as the answer; `more` answers are still to come.
    pub(crate) fn answer(&self, mut payload: Payload, more: u16) -> Payload {
        rewrite_hop(payload.header_mut(), self.tag, Ttl::ZERO);
        // The worker's credit is nobody else's business.
        Header::stamp_count(payload.header_mut(), more);
        payload
    }

    /// A refusal.
    pub(crate) fn refuse(&self, node: &NodeName, refusal: &Refusal) -> Payload {
        self.refuse_copy(node, refusal, None, 0)
    }

    /// The refusal of the copy that was made for a server; `more` answers are still to come.
    pub(crate) fn refuse_copy(
        &self,
        node: &NodeName,
        refusal: &Refusal,
        server: Option<ServerName>,
        more: u16,
    ) -> Payload {
        let mut header = Header::new(Kind::Refusal, self.id);
        (header.reason, header.server, header.count) = (Some(refusal.reason), server, more);
        self.say(header, node, refusal.detail.as_bytes())
    }

    /// A notification is kept; `more` answers are still to come.
    pub(crate) fn keep(&self, node: &NodeName, pool: Option<ServerName>, more: u16) -> Payload {
        let mut header = Header::new(Kind::Stored, self.id);
        (header.server, header.count) = (pool, more);
        self.say(header, node, &[])
    }

    /// A message of the broker itself.
    pub(crate) fn reply(&self, kind: Kind, node: &NodeName, body: &[u8]) -> Payload {
        self.say(Header::new(kind, self.id), node, body)
    }

    fn say(&self, mut header: Header, node: &NodeName, body: &[u8]) -> Payload {
        header.tag = self.tag;
        header.node = Some(node.clone());
        Payload::copied(&header.encode(), body)
    }

    /// Who sent it, to tell one noisy peer from another.
    pub(crate) fn peer(&self) -> &[u8] {
        self.path.peer()
    }
}

/// What comes from a worker.
pub(crate) enum WorkerMessage {
    /// An answer to a request.
    Answer(WorkerAnswer),
    /// It has ended so many requests that it had acknowledged, and perhaps takes more from now on.
    Free { credit: u16, wide: bool },
    /// A request, back as it came: it has not begun.
    HandedBack { tag: u64, payload: Payload },
}

/// A worker's answer.
pub(crate) struct WorkerAnswer {
    pub(crate) tag: u64,
    pub(crate) credit: u16,
    pub(crate) refused: Option<Reason>,
    pub(crate) payload: Payload,
}

/// What a worker's link received.
pub(crate) fn take_reply(frames: &mut Vec<Frame>) -> Result<Content, Malformed> {
    if frames.first().is_none_or(|delimiter| !delimiter.is_empty()) {
        return Err(Malformed::NoDelimiter);
    }
    content(frames.drain(1..))
}

/// What a worker says.
pub(crate) fn understand(payload: Payload) -> Result<WorkerMessage, Malformed> {
    let view = HeaderView::new(payload.header())?;
    let refused = match view.kind() {
        Kind::Reply | Kind::Ack => None,
        // What is refused for a reason of a later protocol is refused.
        Kind::Refusal => Some(view.reason().ok().flatten().unwrap_or(Reason::Malformed)),
        Kind::Credit => {
            return Ok(WorkerMessage::Free { credit: view.count(), wide: view.flags().contains(Flags::WIDE) });
        }
        kind if kind.is_request() => return Ok(WorkerMessage::HandedBack { tag: view.tag(), payload }),
        other => return Err(Malformed::Kind(other)),
    };
    let (tag, credit) = (view.tag(), view.count());
    Ok(WorkerMessage::Answer(WorkerAnswer { tag, credit, refused, payload }))
}

/// What a listener gives back: what it says of it, and the notification as it came.
pub(crate) fn given_back(payload: Payload) -> Result<(Header, Payload), Malformed> {
    let given = Header::decode(payload.header())?;
    let mut notification = Header::new(Kind::Notify, given.id);
    (notification.key, notification.server, notification.ttl) = (given.key.clone(), given.server.clone(), given.ttl);
    Ok((given, payload.with_header(&notification.encode())))
}

/// When a message that arrived at `now` expires.
pub(crate) fn deadline(view: &HeaderView<'_>, now: Instant) -> Instant {
    view.ttl().deadline(now)
}
