//! Messages from workers and listeners.

use zmqv2_proto::{Flags, Header, HeaderView, Kind, Reason};

use super::framing::Malformed;
use super::payload::Payload;

pub(crate) enum WorkerMessage {
    /// An answer to a request. `refused`: the reason, if it is a refusal.
    Answer { tag: u64, credit: u16, refused: Option<Reason>, payload: Payload },
    /// The worker has finished acknowledged requests. `wide`: it takes more from now on.
    Credit { credit: u16, wide: bool },
    /// The worker hands back a request that it has not started.
    HandedBack { tag: u64, payload: Payload },
}

pub(crate) fn read(payload: Payload) -> Result<WorkerMessage, Malformed> {
    let view = HeaderView::new(payload.header())?;
    let refused = match view.kind() {
        Kind::Reply | Kind::Ack => None,
        // An unknown code is of a later protocol, and the answer is a refusal all the same.
        Kind::Refusal => Some(view.reason().ok().flatten().unwrap_or(Reason::Malformed)),
        Kind::Credit => {
            return Ok(WorkerMessage::Credit { credit: view.count(), wide: view.flags().contains(Flags::WIDE) });
        }
        kind if kind.is_request() => return Ok(WorkerMessage::HandedBack { tag: view.tag(), payload }),
        other => return Err(Malformed::Kind(other)),
    };
    let (tag, credit) = (view.tag(), view.count());
    Ok(WorkerMessage::Answer { tag, credit, refused, payload })
}

/// Reads a notification that a listener requeues: the listener's header, and the notification as a
/// broker receives it.
pub(crate) fn read_requeued(payload: Payload) -> Result<(Header, Payload), Malformed> {
    let requeued = Header::decode(payload.header())?;
    let mut header = Header::new(Kind::Notify, requeued.id);
    (header.key, header.server) = (requeued.key.clone(), requeued.server.clone());
    (header.ttl, header.delivered) = (requeued.ttl, requeued.delivered);
    Ok((requeued, payload.with_header(&header.encode())))
}
