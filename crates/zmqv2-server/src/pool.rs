//! A pool: many workers behind one ROUTER, which take turns with it.
//!
//! Most handlers are quick, and waking another thread costs more than running them: a worker that has read a few requests runs
//! them itself, one after the other, sends the answers, and reads on. Nobody reads meanwhile. If a handler takes its time,
//! the *watcher*, another worker that looks on once in [`TICK`], takes the reader's place, and the next worker becomes the
//! watcher; after that, requests are shared out at once for a while. So a slow handler delays others by about a tick.
//!
//! The broker gives a server no more requests at a time than it has workers, and more of them ([`Window`]) while handlers are
//! quick. When some are slow, what is here above the number of workers goes back. There is one thread more than workers run
//! handlers, so that somebody is left to do that.
//!
//! Answers leave in bundles, at the latest when no request is left to run. If a handler takes its time meanwhile, the watcher
//! sends them after a tick or two.
//!
//! An acknowledged request keeps its place until it has run; the place is given back with the answers that leave next, or on
//! its own when there are none.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::transport::{Frame, Notice, Received, Socket, TransportError};
use zmqv2_proto::{FIXED_BYTES, Flags, Header, InstanceId, Kind, MessageId};

use crate::error::ServerError;
use crate::lane::{Answer, Halt, Lane, Then, Work};
use crate::registration::now;
use crate::wake::Bell;
use crate::window::Window;

/// How often the watcher looks on.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks in which nothing began, it sleeps until something does.
const QUIET_TICKS: u32 = 100;
/// A handler that took longer than this is slow.
const SLOW: Duration = Duration::from_micros(500);
/// So many requests are shared out after a slow one. Few: on a busy machine, a handler that had to wait for a processor looks
/// slow, too.
const SHARED_AFTER_SLOW: u32 = 4;
/// When so many handlers run and nothing has begun for a tick, they are all slow, as far as anybody can tell.
const SLOW_AT_ONCE: usize = 4;
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
    workers: usize,
    /// The most requests that the broker gives at a time, usually and while they are quick.
    windows: [u16; 2],
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
    /// How many run now, and how many of them came from the broker that is there now.
    running: usize,
    running_here: usize,
    window: Window,
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
    pub(crate) fn new(
        socket: Socket,
        work: Arc<W>,
        instance: InstanceId,
        workers: u16,
        window: u16,
    ) -> Result<Self, ServerError> {
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
            running: 0,
            running_here: 0,
            window: Window::new(window > workers),
            share: 0,
            freed: 0,
            ended: false,
        };
        Ok(Self {
            work,
            instance,
            workers: workers.into(),
            windows: [workers, window.max(workers)],
            desk: Mutex::new(desk),
            notice,
            bell: Bell::new().map_err(ServerError::Thread)?,
            parked: Condvar::new(),
            watcher: Condvar::new(),
        })
    }

    /// One worker, or the thread that is left when all workers run something: serves requests until the stop signal,
    /// finishing what has come.
    pub(crate) fn run(&self, lane: &Lane) {
        let mut desk = self.turn();
        loop {
            if desk.running < self.workers
                && let Some(request) = desk.inbox.pop_front()
            {
                desk = self.serve(desk, lane, request);
            } else if desk.ended {
                desk.send(self.instance);
                return;
            } else if desk.reading {
                desk = self.rest(desk);
            } else if !desk.inbox.is_empty() {
                desk = self.relieve(desk);
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
        desk.take_in(READ_AT_ONCE)?;
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
            desk.take_in(READ_AT_ONCE)?;
            self.end(&mut desk);
        }
        Ok(desk)
    }

    /// Answers a request, and runs it.
    fn serve<'a>(&'a self, mut desk: Turn<'a>, lane: &Lane, mut request: Request) -> Turn<'a> {
        desk.begun += 1;
        desk.running += 1;
        desk.running_here += 1;
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
        let mut took = ended.saturating_duration_since(began);
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
                took = began.elapsed();
                // Half a window on its way back and the other half on its way here keep everybody busy.
                if desk.freed >= self.windows[usize::from(desk.window.is_wide())] / 2 {
                    self.send(&mut desk);
                }
            }
            Then::Tell(word) => lane.teller.tell(word),
            Then::Settled | Then::Wait => {}
        }
        if took > SLOW {
            desk.share = SHARED_AFTER_SLOW;
        }
        desk.window.ran(took);
        desk.running -= 1;
        if desk.is_here(&request.route) {
            desk.running_here -= 1;
        }
        desk
    }

    /// All workers run something, and more has come. If that lasts for a tick, others may have it.
    fn relieve<'a>(&'a self, desk: Turn<'a>) -> Turn<'a> {
        let begun = desk.begun;
        let mut desk = self.watcher.wait_timeout(desk, TICK).unwrap_or_else(PoisonError::into_inner).0;
        if desk.begun == begun && !desk.ended {
            self.hand_back(&mut desk);
            self.send(&mut desk);
        }
        desk
    }

    /// What the broker has given above the number of workers goes back to it, the youngest of it.
    fn hand_back(&self, desk: &mut Desk) {
        if let Err(error) = desk.take_in(usize::MAX) {
            log::error!("cannot read requests: {error}");
        }
        let stays = self.workers.saturating_sub(desk.running_here).min(desk.inbox.len());
        let excess = desk.inbox.split_off(stays);
        let answered = now();
        for Request { route, mut frames } in excess {
            match &mut frames[..] {
                [header, body] if desk.is_here(&route) => {
                    let body = std::mem::replace(body, Frame::new());
                    desk.answer(&route, header, body, answered, self.instance);
                    desk.window.narrow();
                }
                _ => desk.inbox.push_back(Request { route, frames }),
            }
        }
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
        if let Err(error) = desk.take_in(READ_AT_ONCE) {
            log::error!("cannot read requests: {error}");
        }
        if !desk.inbox.is_empty() {
            self.bell.ring();
        }
    }

    /// Nothing to do, and somebody else reads.
    fn rest<'a>(&'a self, mut desk: Turn<'a>) -> Turn<'a> {
        self.send(&mut desk);
        if !desk.inbox.is_empty() && desk.running < self.workers {
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
                if desk.running >= SLOW_AT_ONCE.min(self.workers) {
                    self.hand_back(&mut desk);
                }
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
    /// Reads what has come, until there are so many requests.
    fn take_in(&mut self, most: usize) -> Result<(), TransportError> {
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
                self.running_here = 0;
                self.window.narrow();
                Arc::clone(self.route.insert(Arc::from(&frames[0][..])))
            }
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

    /// Whether the broker that is there now has sent what came from there.
    fn is_here(&self, route: &Route) -> bool {
        self.route.as_ref().is_some_and(|here| Arc::ptr_eq(here, route))
    }

    /// Keeps an answer until [`send`](Self::send); sends one that is too large for that at once.
    fn answer<B>(&mut self, route: &Route, header: &[u8], body: B, ended: Instant, instance: InstanceId)
    where
        B: Deref<Target = [u8]> + Into<Frame>,
    {
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
        let frames = [Frame::from(&route[..]), Frame::new(), Frame::from(header), body.into()];
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
        let widens = along && self.window.is_due();
        if freed > 0 || widens {
            let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*instance.as_bytes()));
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
            self.send(instance);
        }
        true
    }
}
