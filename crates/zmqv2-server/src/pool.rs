//! A pool: many workers behind one ROUTER, which take turns with it.
//!
//! The broker gives a server no more requests at a time than it has workers, so whatever is here can run at once. Still, most
//! handlers are quick, and waking another thread costs more than running them: a worker that has read a few requests runs
//! them itself, one after the other, sends the answers, and reads on. Nobody reads meanwhile. If a handler takes its time,
//! the *watcher*, another worker that looks on once in [`TICK`], takes the reader's place, and the next worker becomes the
//! watcher; after that, requests are shared out at once for a while. So a slow handler delays others by about a tick.
//!
//! Answers leave in bundles, at the latest when no request is left to run. If a handler takes its time meanwhile, the watcher
//! sends them after a tick or two.
//!
//! An acknowledged request keeps its place until it has run; the place is given back with the answers that leave next, or on
//! its own when there are none.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::transport::{Frame, Notice, Received, Socket, TransportError};
use zmqv2_proto::{FIXED_BYTES, Header, InstanceId, Kind, MessageId};

use crate::error::ServerError;
use crate::lane::{Answer, Halt, Lane, Then, Work};
use crate::registration::now;
use crate::wake::Bell;

/// How often the watcher looks on.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks in which nothing began, it sleeps until something does.
const QUIET_TICKS: u32 = 100;
/// A handler that took longer than this is slow.
const SLOW: Duration = Duration::from_micros(500);
/// So many requests are shared out after a slow one. Few: on a busy machine, a handler that had to wait for a processor looks
/// slow, too.
const SHARED_AFTER_SLOW: u32 = 4;
/// The most requests that are read before they run.
const READ_AT_ONCE: usize = 64;
/// Answers wait no longer than this for a handler that is about to begin.
const PROMPT: Duration = Duration::from_micros(100);
/// The frames before header and body: the path and the delimiter.
const PATH: usize = 2;

/// The way back to a broker.
type Route = Arc<[u8]>;

/// What the workers of a server share.
pub(crate) struct Pool<W> {
    work: Arc<W>,
    instance: InstanceId,
    /// Credit is told at the latest when this much of it has come together.
    hoard: u16,
    desk: Mutex<Desk>,
    notice: Notice,
    bell: Bell,
    parked: Condvar,
    watcher: Condvar,
}

/// What the worker whose turn it is has before it.
struct Desk {
    socket: Socket,
    /// The broker: whoever has sent the last request.
    route: Option<Route>,
    inbox: VecDeque<Request>,
    /// Answers that have not left yet, and where they go.
    answers: Bundle,
    answers_to: Option<Route>,
    /// Since when the first of them has waited.
    answered: Instant,
    frames: Vec<Frame>,
    /// Since when what is in there has waited, or since somebody was woken for it.
    waits_since: Instant,
    /// Somebody waits for the socket.
    reading: bool,
    /// How many workers have nothing to do, without the watcher.
    parked: usize,
    watched: bool,
    /// The watcher sleeps until something begins.
    dozes: bool,
    /// How many requests have begun.
    begun: u64,
    /// How many requests are shared out at once, because handlers were slow.
    share: u32,
    /// Acknowledged requests that have run, and whose places were not given back yet.
    freed: u16,
    ended: bool,
}

/// A request, and where its answer goes.
struct Request {
    route: Route,
    frames: Vec<Frame>,
}

type Turn<'a> = MutexGuard<'a, Desk>;

impl<W: Work> Pool<W> {
    pub(crate) fn new(socket: Socket, work: Arc<W>, instance: InstanceId, workers: u16) -> Result<Self, ServerError> {
        let notice = socket.notice().map_err(ServerError::Thread)?;
        let desk = Desk {
            socket,
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
            share: 0,
            freed: 0,
            ended: false,
        };
        Ok(Self {
            work,
            instance,
            hoard: (workers / 2).max(1),
            desk: Mutex::new(desk),
            notice,
            bell: Bell::new().map_err(ServerError::Thread)?,
            parked: Condvar::new(),
            watcher: Condvar::new(),
        })
    }

    /// One worker: serves requests until the stop signal, finishing what has come.
    pub(crate) fn run(&self, lane: &Lane) {
        let mut desk = self.turn();
        loop {
            if let Some(request) = desk.inbox.pop_front() {
                desk = self.serve(desk, lane, request);
            } else if desk.ended {
                desk.send(self.instance);
                return;
            } else if desk.reading {
                desk = self.rest(desk);
            } else {
                desk = self.read(desk, &lane.halt).unwrap_or_else(|error| {
                    log::error!("the workers of {} end: {error}", lane.server);
                    let mut desk = self.turn();
                    self.end(&mut desk);
                    desk
                });
            }
        }
    }

    fn turn(&self) -> Turn<'_> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, desk: &mut Desk) {
        desk.ended = true;
        self.parked.notify_all();
        self.watcher.notify_all();
        self.bell.ring();
    }

    /// Takes in what has come, or waits until something has.
    fn read<'a>(&'a self, mut desk: Turn<'a>, halt: &Halt) -> Result<Turn<'a>, TransportError> {
        desk.take_in()?;
        if !desk.inbox.is_empty() {
            return Ok(desk);
        }
        // A receive that finds nothing leaves no notice unheard, a send may.
        if desk.send(self.instance) && desk.socket.readiness()?.readable {
            return Ok(desk);
        }
        desk.reading = true;
        drop(desk);
        let waited = self.notice.wait([halt.stop.fd(), self.bell.fd()]);
        if matches!(waited, Ok([_, true])) {
            self.bell.hear();
        }
        let mut desk = self.turn();
        desk.reading = false;
        waited.map_err(|source| TransportError::Socket { action: "wait", source })?;
        if halt.stop.is_given() {
            // What the broker has given until it let go of this server is here.
            desk.take_in()?;
            self.end(&mut desk);
        }
        Ok(desk)
    }

    /// Answers a request, and runs it.
    fn serve<'a>(&'a self, mut desk: Turn<'a>, lane: &Lane, mut request: Request) -> Turn<'a> {
        desk.begun += 1;
        if desk.dozes {
            self.watcher.notify_one();
        }
        let began = now();
        // Somebody must look on while this one runs: if nobody does, the next worker comes and reads, or looks on.
        let shared_out = desk.share > 0 && !desk.inbox.is_empty();
        let waits = !desk.inbox.is_empty() && began.saturating_duration_since(desk.waits_since) > SLOW;
        if desk.parked > 0 && (shared_out || waits || !desk.watched) {
            desk.share -= u32::from(shared_out);
            desk.waits_since = began;
            self.parked.notify_one();
        }
        drop(desk);
        let Answer { header, body, then } = lane.answer(&*self.work, &mut request.frames);
        let ended = now();
        let mut desk = self.turn();
        if ended.saturating_duration_since(began) > SLOW {
            desk.share = SHARED_AFTER_SLOW;
        }
        desk.answer(&request.route, &header.encode(), body, ended, self.instance);
        // With nobody to look on, they must not wait for a handler. (If somebody waits for the socket and the inbox is not empty, he has been
        // woken: so it does no harm that an answer which left by itself may have used up his notice.)
        let kept = !desk.inbox.is_empty()
            && desk.watched
            && desk.share == 0
            && ended.saturating_duration_since(desk.answered) < PROMPT;
        if !kept {
            self.send(&mut desk);
        }
        match then {
            Then::Run(accepted) => {
                drop(desk);
                self.work.run(vec![accepted], lane);
                desk = self.turn();
                desk.freed = desk.freed.saturating_add(1);
                if began.elapsed() > SLOW {
                    desk.share = SHARED_AFTER_SLOW;
                }
                if desk.freed >= self.hoard {
                    self.send(&mut desk);
                }
            }
            Then::Tell(word) => lane.teller.tell(word),
            Then::Settled | Then::Wait => {}
        }
        desk
    }

    /// Answers leave, and places are given back.
    fn send(&self, desk: &mut Desk) {
        desk.send(self.instance);
        self.look_around(desk);
    }

    /// A send may have used up the notice for whoever waits for the socket.
    fn look_around(&self, desk: &mut Desk) {
        if !desk.reading {
            return;
        }
        if let Err(error) = desk.take_in() {
            log::error!("cannot read requests: {error}");
        }
        if !desk.inbox.is_empty() {
            self.bell.ring();
        }
    }

    /// Nothing to do, and somebody else reads.
    fn rest<'a>(&'a self, mut desk: Turn<'a>) -> Turn<'a> {
        self.send(&mut desk);
        if !desk.inbox.is_empty() {
            return desk;
        }
        if !desk.watched {
            return self.watch(desk);
        }
        desk.parked += 1;
        let mut desk = self.parked.wait(desk).unwrap_or_else(PoisonError::into_inner);
        desk.parked -= 1;
        desk
    }

    /// Looks on until a reader is needed.
    fn watch<'a>(&'a self, mut desk: Turn<'a>) -> Turn<'a> {
        desk.watched = true;
        let mut quiet = 0;
        loop {
            let begun = desk.begun;
            if quiet < QUIET_TICKS {
                desk = self.watcher.wait_timeout(desk, TICK).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                desk.dozes = true;
                desk = self.watcher.wait(desk).unwrap_or_else(PoisonError::into_inner);
                desk.dozes = false;
            }
            if desk.ended {
                break;
            }
            if !desk.reading && desk.begun == begun {
                desk.share = SHARED_AFTER_SLOW;
                break;
            }
            quiet = if desk.begun == begun { quiet + 1 } else { 0 };
        }
        desk.watched = false;
        // Those whose handler takes its time has left some behind, perhaps.
        self.send(&mut desk);
        self.parked.notify_one();
        desk
    }
}

impl Desk {
    /// Reads what has come, until there are [`READ_AT_ONCE`] requests.
    fn take_in(&mut self) -> Result<(), TransportError> {
        let mut frames = std::mem::take(&mut self.frames);
        while self.inbox.len() < READ_AT_ONCE {
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
            _ => Arc::clone(self.route.insert(Arc::from(&frames[0][..]))),
        };
        if let [_, _, only] = &frames[..]
            && let Some(bundled) = Bundled::of(only)
        {
            for message in bundled {
                match message {
                    Ok((header, body)) => {
                        let frames = vec![Frame::from(header), Frame::from(body)];
                        self.inbox.push_back(Request { route: Arc::clone(&route), frames });
                    }
                    Err(error) => log::error!("requests are dropped: {error}"),
                }
            }
            return;
        }
        self.inbox.push_back(Request { route, frames: frames.drain(PATH..).collect() });
    }

    /// Keeps an answer until [`send`](Self::send); sends one that is too large for that at once.
    fn answer(&mut self, route: &Route, header: &[u8], body: Vec<u8>, ended: Instant, instance: InstanceId) {
        let small = Bundle::takes(body.len());
        let other = self.answers_to.as_ref().is_some_and(|other| other != route);
        if other || !small || !self.answers.has_room(header.len(), body.len()) {
            self.send(instance);
        }
        if small {
            if self.answers.is_empty() {
                self.answers_to = Some(Arc::clone(route));
                self.answered = ended;
            }
            self.answers.push(header, &body);
            return;
        }
        let frames = [Frame::from(&route[..]), Frame::new(), Frame::from(header), Frame::from(body)];
        // The broker is gone, or another one is there, which does not wait for this.
        if let Err(error) = self.socket.send(frames) {
            log::debug!("an answer was not taken: {error}");
        }
    }

    /// Sends the answers, and gives back what places are free; whether there was anything.
    fn send(&mut self, instance: InstanceId) -> bool {
        let Some(route) = self.answers_to.take().or_else(|| self.route.clone()) else { return false };
        // An earlier broker's answers take nothing along, nor do those that fill a bundle.
        let along = self.route.as_ref() == Some(&route) && self.answers.has_room(FIXED_BYTES, 0);
        let freed = if along { std::mem::take(&mut self.freed) } else { 0 };
        if freed > 0 {
            let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*instance.as_bytes()));
            header.count = freed;
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
            self.send(instance);
        }
        true
    }
}
