//! A pool: many workers behind one ROUTER, which take turns with it.
//!
//! The broker gives a server no more requests at a time than it has workers, so whatever is here can run at once. Still, most
//! handlers are quick, and waking another thread costs more than running them: a worker that has read a few requests runs
//! them itself, one after the other, sends the answers, and reads on. Nobody reads meanwhile. If a handler takes its time,
//! the *watcher*, another worker that looks on once in [`TICK`], takes the reader's place, and the next worker becomes the
//! watcher; after that, requests are shared out at once for a while. So a slow handler delays others by about a tick.
//!
//! An acknowledged request keeps its place until it has run; the place is given back with the next answer, or in a message
//! of its own when there is none.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zmqv2_proto::transport::{Frame, Notice, Received, Socket, TransportError};
use zmqv2_proto::{Header, InstanceId, Kind, MessageId};

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
/// The frames before header and body: the path and the delimiter.
const PATH: usize = 2;

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
    route: Option<Vec<u8>>,
    inbox: VecDeque<Vec<Frame>>,
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

type Turn<'a> = MutexGuard<'a, Desk>;

impl<W: Work> Pool<W> {
    pub(crate) fn new(socket: Socket, work: Arc<W>, instance: InstanceId, workers: u16) -> Result<Self, ServerError> {
        let notice = socket.notice().map_err(ServerError::Thread)?;
        let desk = Desk {
            socket,
            route: None,
            inbox: VecDeque::new(),
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
            hoard: (workers / 4).max(1),
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
            if let Some(frames) = desk.inbox.pop_front() {
                desk = self.serve(desk, lane, frames);
            } else if desk.ended {
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
        if desk.give_back(self.instance) && desk.socket.readiness()?.readable {
            return Ok(desk);
        }
        desk.reading = true;
        drop(desk);
        let waited = self.notice.wait([halt.stop.fd(), self.bell.fd()]);
        self.bell.hear();
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
    fn serve<'a>(&'a self, mut desk: Turn<'a>, lane: &Lane, mut frames: Vec<Frame>) -> Turn<'a> {
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
        if frames.len() < PATH || !frames[1].is_empty() {
            log::error!("{} got {} frames without a delimiter, and drops them", lane.server, frames.len());
            return self.turn();
        }
        let Answer { mut header, body, then } = lane.answer(&*self.work, &mut frames[PATH..]);
        frames.truncate(PATH);
        let mut desk = self.turn();
        // An earlier broker's answer takes nothing along.
        let freed = if desk.leads_to_the_broker(&frames[0]) { std::mem::take(&mut desk.freed) } else { 0 };
        header.count = header.count.saturating_add(freed);
        frames.extend([Frame::from(header.encode()), Frame::from(body)]);
        // The broker is gone, or another one is there, which does not wait for this.
        if let Err(error) = desk.socket.send(frames) {
            desk.freed = desk.freed.saturating_add(freed);
            log::debug!("an answer of {} was not taken: {error}", lane.server);
        }
        self.look_around(&mut desk);
        match then {
            Then::Run(accepted) => {
                drop(desk);
                self.work.run(vec![accepted], lane);
                desk = self.turn();
                desk.freed = desk.freed.saturating_add(1);
                if desk.freed >= self.hoard {
                    desk.give_back(self.instance);
                    self.look_around(&mut desk);
                }
            }
            Then::Tell(word) => lane.teller.tell(word),
            Then::Settled | Then::Wait => {}
        }
        if began.elapsed() > SLOW {
            desk.share = SHARED_AFTER_SLOW;
        }
        desk
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
        desk.give_back(self.instance);
        self.look_around(&mut desk);
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
        self.parked.notify_one();
        desk
    }
}

impl Desk {
    /// Reads what has come, up to [`READ_AT_ONCE`] requests.
    fn take_in(&mut self) -> Result<(), TransportError> {
        while self.inbox.len() < READ_AT_ONCE {
            let mut frames = Vec::with_capacity(PATH + 2);
            match self.socket.receive(&mut frames)? {
                Received::Nothing => break,
                Received::Message => {
                    if frames.first().is_some_and(|route| !self.leads_to_the_broker(route)) {
                        self.route = frames.first().map(|route| route.to_vec());
                    }
                    if self.inbox.is_empty() {
                        self.waits_since = now();
                    }
                    self.inbox.push_back(frames);
                }
                Received::Overlong => log::error!("a request with too many frames is dropped"),
            }
        }
        Ok(())
    }

    fn leads_to_the_broker(&self, route: &[u8]) -> bool {
        self.route.as_deref() == Some(route)
    }

    /// Gives places back that no answer has taken along; whether there were any.
    fn give_back(&mut self, instance: InstanceId) -> bool {
        let freed = std::mem::take(&mut self.freed);
        let Some(route) = self.route.as_ref().filter(|_| freed > 0) else { return false };
        let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*instance.as_bytes()));
        header.count = freed;
        let frames = [Frame::from(&route[..]), Frame::new(), Frame::from(header.encode()), Frame::new()];
        // The next broker gets it, which takes no more than it has given.
        if let Err(error) = self.socket.send(frames) {
            self.freed = freed;
            log::debug!("the broker did not take {freed} credit: {error}");
        }
        true
    }
}
