//! Messages as they come out of a socket, taken apart without copying.

use std::time::Instant;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{
    Header, HeaderView, InvalidHeader, Kind, MessageId, NodeName, Reason, Refusal, ServerName, Ttl, rewrite_hop,
};

/// The path back is the sender's, kept as it is; more than this is no honest path.
const MAX_PATH_BYTES: usize = 1024;

/// Through which socket a message came, and an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// From the network.
    Network,
    /// From this node's socket directory.
    Local,
}

/// The path back to whoever sent a request.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) door: Door,
    /// Routing id, whatever the sender's side put behind it, and the empty delimiter.
    path: Vec<Frame>,
    tag: u64,
    id: MessageId,
}

impl Clone for Origin {
    /// For copies that are answered on their own: a few bytes.
    fn clone(&self) -> Self {
        let path = self.path.iter().map(|frame| Frame::from(&frame[..])).collect();
        Self { door: self.door, path, tag: self.tag, id: self.id }
    }
}

/// The frames that go through.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) header: Frame,
    pub(crate) body: Frame,
}

impl Clone for Load {
    /// For copies of fanouts, and for notifications, which stay here while a listener has them. The bytes are copied: the
    /// binding has no way to share a frame, and a send to a local worker copies them anyway.
    fn clone(&self) -> Self {
        Self { header: Frame::from(&self.header[..]), body: Frame::from(&self.body[..]) }
    }
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
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    #[error("a {0:?} message cannot come from there")]
    Kind(Kind),
    #[error("control message: {0}")]
    Control(String),
}

/// Cuts what a ROUTER received into path and message. The path is given back even if the message is malformed, so
/// that a lock-step sender is answered.
pub(crate) fn take_apart(door: Door, frames: &mut Vec<Frame>) -> (Option<Origin>, Result<Load, Malformed>) {
    let delimiter = frames.iter().skip(1).position(|frame| frame.is_empty()).map(|at| at + 1);
    let Some(delimiter) = delimiter.filter(|at| frames[..*at].iter().map(|f| f.len()).sum::<usize>() <= MAX_PATH_BYTES)
    else {
        return (None, Err(Malformed::NoDelimiter));
    };
    let mut rest = frames.drain(delimiter + 1..);
    let load = match (rest.next(), rest.next(), rest.next()) {
        (Some(header), Some(body), None) => Ok(Load { header, body }),
        (header, body, third) => Err(Malformed::Frames(
            usize::from(header.is_some()) + usize::from(body.is_some()) + usize::from(third.is_some()) + rest.len(),
        )),
    };
    drop(rest);
    let view = load.as_ref().ok().and_then(|load| HeaderView::new(&load.header).ok());
    let (tag, id) = view.map_or((0, MessageId::from_bytes([0; 16])), |view| (view.tag(), view.id()));
    (Some(Origin { door, path: std::mem::take(frames), tag, id }), load)
}

impl Origin {
    /// The frames that answer with a worker's load; `more` answers are still to come.
    pub(crate) fn answer(self, mut load: Load, more: u16) -> impl Iterator<Item = Frame> {
        rewrite_hop(&mut load.header, self.tag, Ttl::ZERO);
        // The worker's credit is nobody else's business.
        Header::stamp_count(&mut load.header, more);
        self.path.into_iter().chain([load.header, load.body])
    }

    /// The frames that answer with a refusal.
    pub(crate) fn refuse(self, node: &NodeName, refusal: &Refusal) -> impl Iterator<Item = Frame> {
        self.refuse_copy(node, refusal, None, 0)
    }

    /// The frames that refuse the copy that was made for a server; `more` answers are still to come.
    pub(crate) fn refuse_copy(
        self,
        node: &NodeName,
        refusal: &Refusal,
        server: Option<ServerName>,
        more: u16,
    ) -> impl Iterator<Item = Frame> {
        let mut header = Header::new(Kind::Refusal, self.id);
        (header.reason, header.server, header.count) = (Some(refusal.reason), server, more);
        self.say(header, node, refusal.detail.as_bytes())
    }

    /// The frames that say that a notification is kept; `more` answers are still to come.
    pub(crate) fn keep(self, node: &NodeName, pool: Option<ServerName>, more: u16) -> impl Iterator<Item = Frame> {
        let mut header = Header::new(Kind::Stored, self.id);
        (header.server, header.count) = (pool, more);
        self.say(header, node, &[])
    }

    /// The frames that answer with a message of the broker itself.
    pub(crate) fn reply(self, kind: Kind, node: &NodeName, body: &[u8]) -> impl Iterator<Item = Frame> {
        let header = Header::new(kind, self.id);
        self.say(header, node, body)
    }

    fn say(self, mut header: Header, node: &NodeName, body: &[u8]) -> impl Iterator<Item = Frame> {
        header.tag = self.tag;
        header.node = Some(node.clone());
        self.path.into_iter().chain([Frame::from(header.encode()), Frame::from(body)])
    }

    /// Who sent it, to tell one noisy peer from another.
    pub(crate) fn peer(&self) -> &[u8] {
        self.path.first().map_or(&[], |frame| &frame[..])
    }
}

impl Load {
    /// The frames that go to a worker, from now on its node's clock: what waits in the worker's socket goes on expiring.
    pub(crate) fn deliver(mut self, tag: u64, ttl: Ttl, delivery: u16) -> [Frame; 3] {
        rewrite_hop(&mut self.header, tag, ttl);
        Header::stamp_count(&mut self.header, delivery);
        Header::stamp_delivered(&mut self.header, Ttl::monotonic_millis());
        [Frame::new(), self.header, self.body]
    }

    /// The bytes of both frames.
    pub(crate) fn size(&self) -> usize {
        self.header.len() + self.body.len()
    }

    /// Refuses a body over `limit` bytes.
    pub(crate) fn check_size(&self, limit: usize) -> Result<(), Refusal> {
        let size = self.body.len();
        if size <= limit {
            return Ok(());
        }
        let detail = format!("the body has {size} bytes, this broker's limit is {limit} (rpc_zmq_max_message_bytes)");
        Err(Refusal::new(Reason::TooLarge, detail))
    }
}

/// What comes from a worker.
pub(crate) enum Said {
    /// An answer to a request.
    Answer(WorkerAnswer),
    /// It has ended so many requests that it had acknowledged.
    Free(u16),
}

/// A worker's answer.
pub(crate) struct WorkerAnswer {
    pub(crate) tag: u64,
    pub(crate) credit: u16,
    pub(crate) refused: Option<Reason>,
    pub(crate) load: Load,
}

/// What a worker's link received.
pub(crate) fn take_reply(frames: &mut Vec<Frame>) -> Result<Said, Malformed> {
    let count = frames.len();
    let mut taken = frames.drain(..);
    let (Some(delimiter), Some(header), Some(body), None) = (taken.next(), taken.next(), taken.next(), taken.next())
    else {
        return Err(Malformed::Frames(count.saturating_sub(1)));
    };
    if !delimiter.is_empty() {
        return Err(Malformed::NoDelimiter);
    }
    let view = HeaderView::new(&header)?;
    let refused = match view.kind() {
        Kind::Reply | Kind::Ack => None,
        // What is refused for a reason of a later protocol is refused.
        Kind::Refusal => Some(view.reason().ok().flatten().unwrap_or(Reason::Malformed)),
        Kind::Credit => return Ok(Said::Free(view.count())),
        other => return Err(Malformed::Kind(other)),
    };
    let (tag, credit) = (view.tag(), view.count());
    Ok(Said::Answer(WorkerAnswer { tag, credit, refused, load: Load { header, body } }))
}

/// What a listener gives back: what it says of it, and the notification as it came.
pub(crate) fn given_back(load: Load) -> Result<(Header, Load), Malformed> {
    let given = Header::decode(&load.header)?;
    let mut notification = Header::new(Kind::Notify, given.id);
    (notification.key, notification.server, notification.ttl) = (given.key.clone(), given.server.clone(), given.ttl);
    Ok((given, Load { header: Frame::from(notification.encode()), body: load.body }))
}

/// When a message that arrived at `now` expires.
pub(crate) fn deadline(view: &HeaderView<'_>, now: Instant) -> Instant {
    view.ttl().deadline(now)
}
