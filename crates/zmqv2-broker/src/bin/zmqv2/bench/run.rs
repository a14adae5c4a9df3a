//! The threads that send: one message each at a time, or one with many on their way.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, select};

use super::pattern::{self, Ticket};
use super::progress::Screen;
use super::results::{Ended, Tally};
use super::schedule::Pace;
use crate::serve::now;

/// A channel on which nothing is ever sent: what it tells is that its other side is gone.
pub(super) type End = Receiver<Infallible>;

/// What the threads of a run share.
pub(super) struct Run {
    pub(super) pace: Pace,
    /// Ends when the run is cut short.
    stopped: End,
    screen: Arc<Screen>,
    /// Messages whose turn has come.
    turns: AtomicU64,
    sent: AtomicU64,
    tally: Mutex<Tally>,
}

impl Run {
    pub(super) fn new(pace: Pace, stopped: End, screen: Arc<Screen>, tally: Tally) -> Self {
        Self { pace, stopped, screen, turns: AtomicU64::new(0), sent: AtomicU64::new(0), tally: Mutex::new(tally) }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages were sent; read after the tally, it is at least as many as have ended.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Starts the threads that send; they end when nothing more is to be sent and everything has ended, and drop `alive`.
    pub(super) fn start(
        self: &Arc<Self>,
        sender: &Arc<pattern::Sender>,
        concurrency: usize,
        alive: &Sender<Infallible>,
    ) -> std::io::Result<()> {
        let threads = match **sender {
            pattern::Sender::Blocking(_) => concurrency,
            pattern::Sender::Later(_) => 1,
        };
        for _ in 0..threads {
            let (run, sender, alive) = (Arc::clone(self), Arc::clone(sender), alive.clone());
            let work = move || {
                match &*sender {
                    pattern::Sender::Blocking(send) => run.one_by_one(send),
                    pattern::Sender::Later(send) => Window::new(&run, concurrency).send_all(send),
                }
                drop(alive);
            };
            std::thread::Builder::new().name("bench".to_owned()).spawn(work)?;
        }
        Ok(())
    }

    fn one_by_one(&self, send: &dyn Fn() -> Ended) {
        while let Some(at) = self.pace.turn(self.turns.fetch_add(1, Ordering::Relaxed), now()) {
            if self.wait_until(at) {
                return;
            }
            let began = self.begin();
            self.record(at, began, send());
        }
    }

    /// Waits; true: the run is cut short.
    fn wait_until(&self, at: Instant) -> bool {
        match self.stopped.recv_deadline(at) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.stopped.try_recv(), Err(TryRecvError::Disconnected))
    }

    fn begin(&self) -> Instant {
        self.sent.fetch_add(1, Ordering::SeqCst);
        now()
    }

    fn record(&self, at: Instant, began: Instant, ended: Ended) {
        let first = self.tally().record(began.saturating_duration_since(at), ended);
        if let Some((kind, failure)) = first {
            self.screen.say(&format!("{failure} (the first of: {})", kind.name()));
        }
    }
}

/// Places for messages on their way; each rings when its message has ended.
struct Window<'a> {
    run: &'a Run,
    places: Vec<Place>,
    free: Vec<usize>,
    /// Places that have rung.
    rung: Receiver<usize>,
}

struct Place {
    message: Option<Message>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Message {
    ticket: Ticket,
    at: Instant,
    began: Instant,
}

struct Bell {
    place: usize,
    /// So that each place is at most once in the channel, which has room for that.
    is_rung: AtomicBool,
    channel: Sender<usize>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // Without the other side nobody waits any more.
            let _ = self.channel.try_send(self.place);
        }
    }
}

impl<'a> Window<'a> {
    fn new(run: &'a Run, places: usize) -> Self {
        let (channel, rung) = crossbeam_channel::bounded(places);
        let place = |place| {
            let bell = Arc::new(Bell { place, is_rung: AtomicBool::new(false), channel: channel.clone() });
            Place { message: None, waker: Arc::clone(&bell).into(), bell }
        };
        Self { run, places: (0..places).map(place).collect(), free: (0..places).rev().collect(), rung }
    }

    fn send_all(&mut self, send: &dyn Fn() -> Result<Ticket, Ended>) {
        let mut number = 0;
        loop {
            while let Ok(place) = self.rung.try_recv() {
                self.look(place);
            }
            let now = now();
            let turn = if self.run.is_stopped() { None } else { self.run.pace.turn(number, now) };
            match turn {
                Some(at) if at <= now => {
                    if let Some(place) = self.free.pop() {
                        number += 1;
                        self.send(place, at, send);
                    } else {
                        self.wait_for_bell();
                    }
                }
                Some(at) => self.wait_until(at),
                None if self.free.len() == self.places.len() => return,
                None => self.wait_for_bell(),
            }
        }
    }

    fn send(&mut self, place: usize, at: Instant, send: &dyn Fn() -> Result<Ticket, Ended>) {
        let began = self.run.begin();
        match send() {
            Ok(ticket) => {
                self.places[place].message = Some(Message { ticket, at, began });
                // The first look asks for the bell to be rung.
                self.look(place);
            }
            Err(ended) => {
                self.run.record(at, began, ended);
                self.free.push(place);
            }
        }
    }

    /// Looks whether the message of a place has ended.
    fn look(&mut self, place: usize) {
        let Place { message, bell, waker } = &mut self.places[place];
        // Before the look: whatever rings from now on is heard.
        bell.is_rung.store(false, Ordering::SeqCst);
        let Some(Message { ticket, at, began }) = message else { return };
        let Poll::Ready(ended) = ticket.as_mut().poll(&mut Context::from_waker(waker)) else { return };
        self.run.record(*at, *began, ended);
        *message = None;
        self.free.push(place);
    }

    /// Every message ends, so a bell rings.
    fn wait_for_bell(&mut self) {
        if let Ok(place) = self.rung.recv() {
            self.look(place);
        }
    }

    fn wait_until(&mut self, at: Instant) {
        let left = at.saturating_duration_since(now());
        select! {
            recv(self.rung) -> place => if let Ok(place) = place { self.look(place) },
            recv(self.run.stopped) -> _ => {}
            default(left) => {}
        }
    }
}
