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

mod desk;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zmqv2_proto::InstanceId;
use zmqv2_proto::transport::{Socket, TransportError, Waiter};

use crate::error::ServerError;
use crate::lane::{Answer, Halt, Lane, Then, Work};
use crate::registration::now;
use crate::wake::Bell;
use crate::window::Window;

use desk::{Desk, Request};

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

/// What the workers of a server share.
pub(crate) struct Pool<W> {
    work: Arc<W>,
    workers: usize,
    /// The most requests that the broker gives at a time, usually and while they are quick.
    windows: [u16; 2],
    desk: Mutex<Desk>,
    notice: Waiter,
    bell: Bell,
    parked: Condvar,
    watcher: Condvar,
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
        let notice = socket.waiter().map_err(ServerError::Thread)?;
        let desk = Desk::new(socket, instance, Window::new(window > workers));
        Ok(Self {
            work,
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
        // The last request's end is the next one's beginning: reading the clock costs as much as a small step of a request.
        let mut clock = None;
        loop {
            let last = clock.take();
            if desk.running < self.workers
                && let Some(request) = desk.inbox.pop_front()
            {
                let ended;
                (desk, ended) = self.serve(desk, lane, request, last.unwrap_or_else(now));
                clock = Some(ended);
            } else if desk.ended {
                desk.send();
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
        if desk.send() && desk.is_readable()? {
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
            desk.take_in(usize::MAX)?;
            self.end(&mut desk);
        }
        Ok(desk)
    }

    /// Answers a request that begins now, and runs it; when it ended.
    fn serve<'a>(
        &'a self,
        mut desk: Turn<'a>,
        lane: &Lane,
        mut request: Request,
        began: Instant,
    ) -> (Turn<'a>, Instant) {
        desk.begin(&request);
        if desk.dozes {
            self.watcher.notify_one();
        }
        // Somebody must look on while this one runs: if nobody does, the next worker comes and reads, or looks on.
        let shared_out = desk.share > 0 && !desk.inbox.is_empty();
        let waits = !desk.inbox.is_empty() && began.saturating_duration_since(desk.waits_since) > SLOW;
        if desk.parked > 0 && (shared_out || waits || !desk.watched) {
            desk.share -= u32::from(shared_out);
            desk.waits_since = began;
            self.parked.notify_one();
        }
        drop(desk);
        let Answer { header, body, then } = lane.answer(&*self.work, request.message(), began);
        let mut ended = now();
        let mut desk = self.turn();
        desk.answer(&request.route, &header.encode(), body, ended);
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
                ended = now();
                desk = self.turn();
                desk.free(&request);
                // Half a window on its way back and the other half on its way here keep everybody busy.
                if desk.freed >= self.windows[usize::from(desk.window.is_wide())] / 2 {
                    self.send(&mut desk);
                }
            }
            Then::Tell(word) => lane.teller.tell(word),
            Then::Settled | Then::Wait => {}
        }
        let took = ended.saturating_duration_since(began);
        if took > SLOW {
            desk.share = SHARED_AFTER_SLOW;
        }
        desk.window.ran(took);
        desk.end(&request);
        if desk.window.has_become_slow() {
            desk.hand_back(self.workers);
            self.send(&mut desk);
        }
        (desk, ended)
    }

    /// All workers run something, and more has come. If that lasts for a tick, others may have it.
    fn relieve<'a>(&'a self, desk: Turn<'a>) -> Turn<'a> {
        let begun = desk.begun;
        let mut desk = self.watcher.wait_timeout(desk, TICK).unwrap_or_else(PoisonError::into_inner).0;
        if desk.begun == begun && !desk.ended {
            desk.hand_back(self.workers);
            self.send(&mut desk);
        }
        desk
    }

    /// Answers leave, and places are given back.
    fn send(&self, desk: &mut Desk) {
        desk.send();
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
                    desk.hand_back(self.workers);
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
