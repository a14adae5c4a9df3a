//! The shared socket, with the requests that were read from it and the unsent answers.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{FIXED_BYTES, Flags, Header, InstanceId, Kind, MessageId};

use super::turns::{Credit, Turns};
use crate::runtime::log_limit::LogLimit;
use crate::runtime::now;
use crate::runtime::worker::{Body, Message, message};

/// The frames before header and body: the routing id and the delimiter.
const PREFIX: usize = 2;

/// The routing id of a broker.
pub(super) type Route = Arc<[u8]>;

/// The threads of a server share it under their mutex.
pub(super) struct SharedSocket {
    pub(super) turns: Turns,
    socket: Socket,
    instance: InstanceId,
    /// The current broker: the sender of the last request.
    route: Option<Route>,
    pub(super) queue: VecDeque<Request>,
    /// Unsent answers.
    answers: Bundle,
    /// The broker that gets them. `None`: there are none.
    answers_to: Option<Route>,
    /// When the first of them was added.
    answers_since: Instant,
    frames: Vec<Frame>,
    log_limit: LogLimit,
}

pub(super) struct Request {
    pub(super) route: Route,
    /// See [`Turns::broker`].
    pub(super) broker: u32,
    content: Content,
}

/// Header and body.
enum Content {
    Frames(Vec<Frame>),
    /// A part of a bundle, which lives until the last of its requests has run.
    Part {
        bundle: Arc<Frame>,
        header: Range<usize>,
        body: Range<usize>,
    },
}

impl Request {
    /// The message. If it is no part of a bundle, its body is taken out of the request.
    pub(super) fn message(&mut self) -> Message<'_> {
        match &mut self.content {
            Content::Frames(frames) => message(frames),
            Content::Part { bundle, header, body } => Ok((&bundle[header.clone()], Body::Part(&bundle[body.clone()]))),
        }
    }
}

/// The position of `part` in `whole`.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

impl SharedSocket {
    pub(super) fn new(socket: Socket, instance: InstanceId, turns: Turns) -> Self {
        Self {
            turns,
            socket,
            instance,
            route: None,
            queue: VecDeque::new(),
            answers: Bundle::new(),
            answers_to: None,
            answers_since: now(),
            frames: Vec::new(),
            log_limit: LogLimit::default(),
        }
    }

    /// Whether the socket has something to read. After a send, the thread must ask: the send may
    /// have consumed the event of a message that is still there.
    pub(super) fn is_readable(&self) -> Result<bool, TransportError> {
        Ok(self.socket.readiness()?.readable)
    }

    /// Reads messages until the queue has `most` requests, or the socket is empty.
    pub(super) fn read(&mut self, most: usize) -> Result<(), TransportError> {
        let mut frames = std::mem::take(&mut self.frames);
        let mut read_at = None;
        while self.queue.len() < most {
            match self.socket.receive(&mut frames)? {
                Received::Nothing => break,
                Received::Message if frames.len() >= PREFIX && frames[1].is_empty() => {
                    let read_at = *read_at.get_or_insert_with(now);
                    self.enqueue(&mut frames, read_at);
                }
                Received::Message => self.log_dropped("a request without a delimiter"),
                Received::Overlong => self.log_dropped("a request with too many frames"),
            }
        }
        self.frames = frames;
        Ok(())
    }

    fn log_dropped(&mut self, what: &str) {
        if let Some(omitted) = self.log_limit.allows(now()) {
            log::error!("a message to this server is dropped: {what}{omitted}");
        }
    }

    /// Adds one request, or a bundle of them.
    fn enqueue(&mut self, frames: &mut Vec<Frame>, now: Instant) {
        let route = match &self.route {
            Some(route) if **route == *frames[0] => Arc::clone(route),
            _ => {
                self.turns.broker_changed();
                Arc::clone(self.route.insert(Arc::from(&frames[0][..])))
            }
        };
        let (broker, before) = (self.turns.broker(), self.queue.len());
        let is_bundle = matches!(&frames[..], [_, _, only] if Bundled::of(only).is_some());
        if !is_bundle {
            let content = Content::Frames(frames.drain(PREFIX..).collect());
            self.queue.push_back(Request { route, broker, content });
        } else if let Some(bundle) = frames.pop().map(Arc::new) {
            for message in Bundled::of(&bundle).into_iter().flatten() {
                match message {
                    Ok((header, body)) => {
                        let (header, body) = (range(&bundle, header), range(&bundle, body));
                        let content = Content::Part { bundle: Arc::clone(&bundle), header, body };
                        self.queue.push_back(Request { route: Arc::clone(&route), broker, content });
                    }
                    Err(error) => self.log_dropped(&error.to_string()),
                }
            }
        }
        self.turns.received(now, self.queue.len() - before);
    }

    /// Adds an answer to those that leave with the next [`send`](Self::send). Sends it at once if
    /// it is too large for a bundle. Returns since when the first answer waits.
    pub(super) fn answer<B>(&mut self, route: &Route, header: &[u8], body: B, now: Instant) -> Instant
    where
        B: Deref<Target = [u8]> + Into<Frame>,
    {
        let small = Bundle::takes(body.len());
        let other_broker = self.answers_to.as_ref().is_some_and(|to| to != route);
        if other_broker || !small || !self.answers.has_room(header.len(), body.len()) {
            self.send();
        }
        if small {
            if self.answers.is_empty() {
                self.answers_to = Some(Arc::clone(route));
                self.answers_since = now;
            }
            self.answers.push(header, &body);
        } else {
            let frames = [Frame::from(&route[..]), Frame::new(), Frame::from(header), body.into()];
            // If the broker of this request is gone, no other broker waits for the answer.
            if let Err(error) = self.socket.send(frames) {
                log::debug!("an answer was not sent: {error}");
            }
        }
        self.answers_since
    }

    /// Hands the last [`excess`](Turns::excess) requests of the queue back to the broker, as they
    /// came.
    pub(super) fn hand_back(&mut self) {
        if let Err(error) = self.read(usize::MAX) {
            log::error!("cannot read requests: {error}");
        }
        let now = now();
        for mut request in self.queue.split_off(self.queue.len() - self.turns.excess()) {
            let route = Arc::clone(&request.route);
            if let Ok((header, body)) = request.message() {
                self.answer(&route, header, body, now);
                self.turns.handed_back();
            } else {
                self.queue.push_back(request);
            }
        }
    }

    /// Sends the answers and the credit. Returns whether there were any.
    pub(super) fn send(&mut self) -> bool {
        let Some(route) = self.answers_to.take().or_else(|| self.route.clone()) else { return false };
        // An earlier broker gets no credit, and a full bundle has no room for it.
        let takes_credit = self.route.as_ref() == Some(&route) && self.answers.has_room(FIXED_BYTES, 0);
        let credit = if takes_credit { self.turns.take_credit() } else { None };
        if let Some(Credit { places, widen }) = credit {
            let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*self.instance.as_bytes()));
            header.count = places;
            header.flags = if widen { Flags::WIDE } else { Flags::NONE };
            self.answers.push(&header.encode(), &[]);
        }
        if self.answers.is_empty() {
            return false;
        }
        let frames = [Frame::from(&route[..]), Frame::new(), Frame::from(self.answers.frame())];
        if let Err(error) = self.socket.send(frames) {
            log::debug!("the broker did not take {} answers: {error}", self.answers.len());
            self.turns.return_places(credit.map_or(0, |credit| credit.places));
        }
        self.answers.clear();
        if !takes_credit {
            // Now the credit leaves alone.
            self.send();
        }
        true
    }
}
