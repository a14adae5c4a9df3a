//! What the workers of a pool take turns with: the socket, what was read from it, and what is to be sent.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{FIXED_BYTES, Flags, Header, InstanceId, Kind, MessageId};

use super::window::Window;
use crate::runtime::now;
use crate::runtime::rep_worker::{Body, Message, message};

/// The frames before header and body: the path and the delimiter.
const PATH: usize = 2;

/// The way back to a broker.
pub(super) type Route = Arc<[u8]>;

/// What the worker whose turn it is has before it.
pub(super) struct Desk {
    socket: Socket,
    instance: InstanceId,
    /// The broker: whoever has sent the last request.
    route: Option<Route>,
    pub(super) inbox: VecDeque<Request>,
    /// Answers that have not left yet, and where they go.
    answers: Bundle,
    answers_to: Option<Route>,
    /// Since when the first of them has waited.
    pub(super) answered: Instant,
    frames: Vec<Frame>,
    /// Since when what is in the inbox has waited, or since somebody was woken for it.
    pub(super) waits_since: Instant,
    /// Somebody waits for the socket.
    pub(super) reading: bool,
    /// How many workers have nothing to do, without the watcher.
    pub(super) parked: usize,
    pub(super) watched: bool,
    /// The watcher sleeps until something begins.
    pub(super) dozes: bool,
    /// How many requests have begun.
    pub(super) begun: u64,
    /// How many run now, and how many of them came from the broker that is there now.
    pub(super) running: usize,
    running_here: usize,
    pub(super) window: Window,
    /// How many requests are shared out at once, because handlers were slow.
    pub(super) share: u32,
    /// Acknowledged requests that have run, and whose places were not given back yet.
    pub(super) freed: u16,
    pub(super) ended: bool,
}

/// A request, and where its answer goes.
pub(super) struct Request {
    pub(super) route: Route,
    content: Content,
}

/// Its header and body.
enum Content {
    Frames(Vec<Frame>),
    /// A part of a bundle, which stays until the last of its requests has run.
    Part {
        bundle: Arc<Frame>,
        header: Range<usize>,
        body: Range<usize>,
    },
}

impl Request {
    /// The message, whose body may be taken out.
    pub(super) fn message(&mut self) -> Message<'_> {
        match &mut self.content {
            Content::Frames(frames) => message(frames),
            Content::Part { bundle, header, body } => Ok((&bundle[header.clone()], Body::Part(&bundle[body.clone()]))),
        }
    }
}

/// Where a part of these bytes is.
fn place(of: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - of.as_ptr().addr();
    start..start + part.len()
}

impl Desk {
    pub(super) fn new(socket: Socket, instance: InstanceId, window: Window) -> Self {
        Self {
            socket,
            instance,
            route: None,
            inbox: VecDeque::new(),
            answers: Bundle::new(),
            answers_to: None,
            answered: now(),
            frames: Vec::new(),
            waits_since: now(),
            reading: false,
            parked: 0,
            watched: false,
            dozes: false,
            begun: 0,
            running: 0,
            running_here: 0,
            window,
            share: 0,
            freed: 0,
            ended: false,
        }
    }

    /// Whether the socket has something to read. A receive that finds nothing leaves no notice unheard; a send may.
    pub(super) fn is_readable(&self) -> Result<bool, TransportError> {
        Ok(self.socket.readiness()?.readable)
    }

    /// Reads what has come, until there are so many requests.
    pub(super) fn take_in(&mut self, most: usize) -> Result<(), TransportError> {
        let mut frames = std::mem::take(&mut self.frames);
        while self.inbox.len() < most {
            match self.socket.receive(&mut frames)? {
                Received::Nothing => break,
                Received::Message if frames.len() >= PATH && frames[1].is_empty() => self.take(&mut frames),
                Received::Message => log::error!("a request without a delimiter is dropped"),
                Received::Overlong => log::error!("a request with too many frames is dropped"),
            }
        }
        self.frames = frames;
        Ok(())
    }

    /// One message, or a bundle of them.
    fn take(&mut self, frames: &mut Vec<Frame>) {
        if self.inbox.is_empty() {
            self.waits_since = now();
        }
        let route = match &self.route {
            Some(route) if **route == *frames[0] => Arc::clone(route),
            _ => {
                // Another broker, which knows nothing of what runs and of how quick it is.
                (self.running_here, self.freed) = (0, 0);
                self.window.narrow();
                Arc::clone(self.route.insert(Arc::from(&frames[0][..])))
            }
        };
        let is_bundle = matches!(&frames[..], [_, _, only] if Bundled::of(only).is_some());
        if !is_bundle {
            let content = Content::Frames(frames.drain(PATH..).collect());
            return self.inbox.push_back(Request { route, content });
        }
        let Some(bundle) = frames.pop().map(Arc::new) else { return };
        for message in Bundled::of(&bundle).into_iter().flatten() {
            match message {
                Ok((header, body)) => {
                    let (header, body) = (place(&bundle, header), place(&bundle, body));
                    let content = Content::Part { bundle: Arc::clone(&bundle), header, body };
                    self.inbox.push_back(Request { route: Arc::clone(&route), content });
                }
                Err(error) => log::error!("requests are dropped: {error}"),
            }
        }
    }

    /// Whether the broker that is there now has sent what came from there.
    fn is_here(&self, route: &Route) -> bool {
        self.route.as_ref().is_some_and(|here| Arc::ptr_eq(here, route))
    }

    /// A request begins.
    pub(super) fn begin(&mut self, request: &Request) {
        self.begun += 1;
        self.running += 1;
        self.running_here += usize::from(self.is_here(&request.route));
    }

    /// It has ended.
    pub(super) fn end(&mut self, request: &Request) {
        self.running -= 1;
        self.running_here -= usize::from(self.is_here(&request.route));
    }

    /// An acknowledged request has run, and its broker may have its place again.
    pub(super) fn free(&mut self, request: &Request) {
        self.freed = self.freed.saturating_add(self.is_here(&request.route).into());
    }

    /// Keeps an answer until [`send`](Self::send); sends one that is too large for that at once.
    pub(super) fn answer<B>(&mut self, route: &Route, header: &[u8], body: B, ended: Instant)
    where
        B: Deref<Target = [u8]> + Into<Frame>,
    {
        let small = Bundle::takes(body.len());
        let other = self.answers_to.as_ref().is_some_and(|other| other != route);
        if other || !small || !self.answers.has_room(header.len(), body.len()) {
            self.send();
        }
        if small {
            if self.answers.is_empty() {
                self.answers_to = Some(Arc::clone(route));
                self.answered = ended;
            }
            self.answers.push(header, &body);
            return;
        }
        let frames = [Frame::from(&route[..]), Frame::new(), Frame::from(header), body.into()];
        // The broker is gone, or another one is there, which does not wait for this.
        if let Err(error) = self.socket.send(frames) {
            log::debug!("an answer was not taken: {error}");
        }
    }

    /// What the broker that is there now has given above what `workers` can run goes back to it, the youngest of it.
    pub(super) fn hand_back(&mut self, workers: usize) {
        if let Err(error) = self.take_in(usize::MAX) {
            log::error!("cannot read requests: {error}");
        }
        // An earlier broker's are in front of them.
        let here = self.inbox.iter().rev().take_while(|request| self.is_here(&request.route)).count();
        let excess = (self.running_here + here).saturating_sub(workers);
        let now = now();
        for mut request in self.inbox.split_off(self.inbox.len() - excess.min(here)) {
            let route = Arc::clone(&request.route);
            if self.is_here(&route)
                && let Ok((header, body)) = request.message()
            {
                self.answer(&route, header, body, now);
                self.window.narrow();
            } else {
                self.inbox.push_back(request);
            }
        }
    }

    /// Sends the answers, and gives back what places are free; whether there was anything.
    pub(super) fn send(&mut self) -> bool {
        let Some(route) = self.answers_to.take().or_else(|| self.route.clone()) else { return false };
        // An earlier broker's answers take nothing along, nor do those that fill a bundle.
        let along = self.route.as_ref() == Some(&route) && self.answers.has_room(FIXED_BYTES, 0);
        let freed = if along { std::mem::take(&mut self.freed) } else { 0 };
        let widens = along && self.window.is_due();
        if freed > 0 || widens {
            let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*self.instance.as_bytes()));
            header.count = freed;
            if widens {
                header.flags = Flags::WIDE;
                self.window.widen();
            }
            self.answers.push(&header.encode(), &[]);
        }
        if self.answers.is_empty() {
            return false;
        }
        // The next broker gets the places, which takes no more than it has given.
        if let Err(error) = self.socket.send([Frame::from(&route[..]), Frame::new(), Frame::from(self.answers.frame())])
        {
            self.freed = self.freed.saturating_add(freed);
            log::debug!("the broker did not take {} answers: {error}", self.answers.len());
        }
        self.answers.clear();
        if !along && self.freed > 0 {
            self.send();
        }
        true
    }
}
