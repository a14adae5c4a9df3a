//! The shared socket, with the requests that were read from it and the unsent answers.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{FIXED_BYTES, Flags, Header, HeaderView, InstanceId, Kind, MessageId};

use super::begun::{BegunRequests, RequestName};
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
    pub(super) begun: BegunRequests,
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
    /// `None`: its header cannot be read, so nobody can cancel it.
    pub(super) name: Option<RequestName>,
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
    /// Header and body, or the number of frames if there are not two.
    pub(super) fn parts(&self) -> Result<(&[u8], &[u8]), usize> {
        match &self.content {
            Content::Frames(frames) => match &frames[..] {
                [header, body] => Ok((header, body)),
                other => Err(other.len()),
            },
            Content::Part { bundle, header, body } => Ok((&bundle[header.clone()], &bundle[body.clone()])),
        }
    }

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

/// The kind and the name of the message with this header.
fn read_name(header: &[u8]) -> Option<(Kind, RequestName)> {
    let view = HeaderView::new(header).ok()?;
    Some((view.kind(), RequestName { tag: view.tag(), id: view.id() }))
}

impl SharedSocket {
    /// A socket for this number of threads.
    pub(super) fn new(socket: Socket, instance: InstanceId, turns: Turns, threads: usize) -> Self {
        Self {
            turns,
            socket,
            instance,
            route: None,
            queue: VecDeque::new(),
            begun: BegunRequests::new(threads),
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

    /// Adds one request, or a bundle of them. Cancels what the broker cancels.
    fn enqueue(&mut self, frames: &mut Vec<Frame>, now: Instant) {
        let route = match &self.route {
            Some(route) if **route == *frames[0] => Arc::clone(route),
            _ => {
                self.turns.broker_changed();
                Arc::clone(self.route.insert(Arc::from(&frames[0][..])))
            }
        };
        let is_bundle = matches!(&frames[..], [_, _, only] if Bundled::of(only).is_some());
        if !is_bundle {
            let named = if let [_, _, header, _] = &frames[..] { read_name(header) } else { None };
            let content = Content::Frames(frames.drain(PREFIX..).collect());
            self.take(&route, named, content, now);
        } else if let Some(bundle) = frames.pop().map(Arc::new) {
            for message in Bundled::of(&bundle).into_iter().flatten() {
                match message {
                    Ok((header, body)) => {
                        let named = read_name(header);
                        let (header, body) = (range(&bundle, header), range(&bundle, body));
                        let content = Content::Part { bundle: Arc::clone(&bundle), header, body };
                        self.take(&route, named, content, now);
                    }
                    Err(error) => self.log_dropped(&error.to_string()),
                }
            }
        }
    }

    fn take(&mut self, route: &Route, named: Option<(Kind, RequestName)>, content: Content, now: Instant) {
        if let Some((Kind::Cancel, name)) = named {
            return self.cancel(name, now);
        }
        let (broker, name) = (self.turns.broker(), named.map(|(_, name)| name));
        self.queue.push_back(Request { route: Arc::clone(route), broker, name, content });
        self.turns.received(now, 1);
    }

    /// Nobody waits for this request of the current broker. If it has not begun, it goes back.
    fn cancel(&mut self, name: RequestName, now: Instant) {
        let broker = self.turns.broker();
        let waits = |request: &Request| request.broker == broker && request.name == Some(name);
        let found = self.queue.iter().position(waits).and_then(|at| self.queue.remove(at));
        let Some(mut request) = found else { return self.begun.cancel(name) };
        self.begun.cancel_all(name.id);
        self.turns.handed_back();
        let route = Arc::clone(&request.route);
        if let Ok((header, body)) = request.message() {
            self.answer(&route, header, body, now);
        }
    }

    /// Whether answers wait for the next [`send`](Self::send).
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
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
