//! Which thread does what with the shared socket. Pure: no lock, socket, thread or clock.
//!
//! The threads of a server ask this machine, under their mutex, and do what it says. Its rules are
//! shown by the texts in `scenarios/`; `docs/decisions/0014-pool.md` and
//! `0021-windows.md` give their reasons.

use std::time::{Duration, Instant};

use super::window::Window;

/// How long the watcher waits before it looks again.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// After so many ticks without a new request, the watcher sleeps until one begins.
const QUIET_TICKS: u32 = 100;
/// A handler that takes longer than this is slow. A request that waits longer wakes a thread.
const SLOW: Duration = Duration::from_micros(500);
/// After a slow handler, each of the next requests wakes a thread, this many times. The number is
/// small because on a busy machine, a handler that waits for a processor looks slow, too.
const SPREAD_AFTER_SLOW: u32 = 4;
/// If at least this many handlers run and nothing has begun for a tick, all of them count as slow.
const SLOW_AT_ONCE: usize = 4;
/// An answer waits no longer than this for a request that is about to begin.
const PROMPT: Duration = Duration::from_micros(100);

/// What a thread has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// It has nothing to do.
    Free,
    /// It did [`Action::Rest`]: the answers that were there have left.
    Rested,
    /// It did [`Action::Park`].
    Unparked,
    /// It did [`Action::Read`], and found nothing to run.
    SocketEmpty,
    /// It did [`Action::WaitForSocket`].
    SocketReady,
    /// No more requests come: the server stops, or the socket failed.
    Stopped,
    /// It did [`Action::Watch`] or [`Action::Sleep`].
    Watched,
    /// It did [`Action::WaitForRoom`].
    WaitedForRoom { begun: u64 },
}

/// What a thread does next. Unless said otherwise, it is [`Input::Free`] after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Runs the first request of the queue.
    Run,
    /// Reads requests into the queue.
    Read,
    /// Waits until the socket may have something to read.
    WaitForSocket,
    /// Sends the answers that are there.
    Rest,
    /// Waits until it is woken.
    Park,
    /// Waits for a [`TICK`], or until it is woken.
    Watch,
    /// Waits until a request begins.
    Sleep,
    /// Hands requests back if it is told to, sends the answers, and wakes a parked thread.
    EndWatch { hand_back: bool },
    /// All workers are busy. Waits for a [`TICK`], or until it is woken.
    WaitForRoom { begun: u64 },
    /// Hands back requests that do not fit, and sends the answers.
    HandBack,
    /// Ends.
    End,
}

/// Which threads are woken when a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    pub(super) watcher: bool,
    pub(super) parked: bool,
}

/// What the broker learns with the next answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit {
    /// So many places are free again.
    pub(super) places: u16,
    /// It may send more at a time from now on.
    pub(super) widen: bool,
}

/// The watcher's last look.
#[derive(Debug, Clone, Copy)]
struct Watch {
    begun: u64,
    quiet_ticks: u32,
    sleeps: bool,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    workers: usize,
    /// The most requests that the broker sends at a time: usually, and while they are quick.
    windows: [u16; 2],
    window: Window,
    /// The number of the current broker. Requests of an earlier one come first in the queue.
    broker: u32,
    /// All requests in the queue, and those of the current broker.
    queued: usize,
    queued_current: usize,
    running: usize,
    running_current: usize,
    /// How many requests have begun so far.
    begun: u64,
    /// Since when the queue has waited, or since a thread was woken for it.
    waits_since: Option<Instant>,
    /// How many of the next requests wake a thread, because a handler was slow.
    spread: u32,
    /// Acknowledged requests of the current broker that have run, and whose places are not given
    /// back yet.
    free_places: u16,
    /// A thread waits for the socket.
    reader_waits: bool,
    /// A thread watches.
    watch: Option<Watch>,
    parked: usize,
    stopped: bool,
}

impl Turns {
    pub(super) fn new(workers: u16, window: u16) -> Self {
        let windows = [workers, window.max(workers)];
        Self { workers: workers.into(), windows, window: Window::new(window > workers), ..Self::default() }
    }

    /// A thread has done something. Returns what it does next. No rule here needs the time, and
    /// reading the clock costs as much as a step of a quick request.
    pub(super) fn handle(&mut self, input: Input) -> Action {
        match input {
            Input::Free => {}
            Input::Rested => return self.rest(),
            Input::Unparked => self.parked -= 1,
            Input::SocketEmpty => {
                self.reader_waits = true;
                return Action::WaitForSocket;
            }
            Input::SocketReady => self.reader_waits = false,
            Input::Stopped => (self.reader_waits, self.stopped) = (false, true),
            Input::Watched => return self.watch(),
            Input::WaitedForRoom { begun } if begun == self.begun && !self.stopped => return Action::HandBack,
            Input::WaitedForRoom { .. } => {}
        }
        if self.can_run() {
            Action::Run
        } else if self.stopped {
            Action::End
        } else if self.reader_waits {
            Action::Rest
        } else if self.queued > 0 {
            Action::WaitForRoom { begun: self.begun }
        } else {
            Action::Read
        }
    }

    fn can_run(&self) -> bool {
        self.queued > 0 && self.running < self.workers
    }

    /// Another thread waits for the socket.
    fn rest(&mut self) -> Action {
        if self.can_run() {
            return Action::Run;
        }
        if self.watch.is_some() {
            self.parked += 1;
            return Action::Park;
        }
        self.watch = Some(Watch { begun: self.begun, quiet_ticks: 0, sleeps: false });
        Action::Watch
    }

    /// The watcher looks. If no thread waits for the socket and no request has begun since the last
    /// look, the thread that read last runs a slow handler, and the watcher takes its place.
    fn watch(&mut self) -> Action {
        let Some(watch) = &mut self.watch else { return Action::EndWatch { hand_back: false } };
        let quiet = watch.begun == self.begun;
        if self.stopped || (quiet && !self.reader_waits) {
            self.watch = None;
            if self.stopped {
                return Action::EndWatch { hand_back: false };
            }
            self.spread = SPREAD_AFTER_SLOW;
            return Action::EndWatch { hand_back: self.running >= SLOW_AT_ONCE.min(self.workers) };
        }
        let quiet_ticks = if quiet { watch.quiet_ticks + 1 } else { 0 };
        *watch = Watch { begun: self.begun, quiet_ticks, sleeps: quiet_ticks >= QUIET_TICKS };
        if watch.sleeps { Action::Sleep } else { Action::Watch }
    }

    /// Another broker is there. It knows nothing of the requests that run, nor of how quick they
    /// are.
    pub(super) fn broker_changed(&mut self) {
        self.broker = self.broker.wrapping_add(1);
        (self.queued_current, self.running_current, self.free_places) = (0, 0, 0);
        self.window.narrow();
    }

    /// The number of the current broker.
    pub(super) fn broker(&self) -> u32 {
        self.broker
    }

    /// Requests of the current broker were added to the queue.
    pub(super) fn received(&mut self, now: Instant, requests: usize) {
        if self.queued == 0 {
            self.waits_since = Some(now);
        }
        self.queued += requests;
        self.queued_current += requests;
    }

    /// The first request of the queue begins. If no thread watches, one is woken, which then reads
    /// or watches while this request runs.
    pub(super) fn begin(&mut self, now: Instant) -> Wake {
        let current = usize::from(self.queued == self.queued_current);
        self.queued -= 1;
        self.queued_current -= current;
        self.begun += 1;
        self.running += 1;
        self.running_current += current;
        let more = self.queued > 0;
        let spread = more && self.spread > 0;
        let waits = more && self.waits_since.is_some_and(|since| now.saturating_duration_since(since) > SLOW);
        let parked = self.parked > 0 && (spread || waits || self.watch.is_none());
        if parked {
            self.spread -= u32::from(spread);
            self.waits_since = Some(now);
        }
        Wake { watcher: self.watch.is_some_and(|watch| watch.sleeps), parked }
    }

    /// A request has its answer, and the first unsent answer waits `since` this time. Returns
    /// whether the answers leave now. They may wait while requests are about to begin, if there is
    /// a watcher to send them in case a handler is slow.
    pub(super) fn answered(&self, now: Instant, since: Instant) -> bool {
        let may_wait = self.queued > 0
            && self.watch.is_some()
            && self.spread == 0
            && now.saturating_duration_since(since) < PROMPT;
        !may_wait
    }

    /// An acknowledged request of this broker has run. Returns whether free places go back now,
    /// and do not wait for an answer: they do when they are half of the window. Then one half is on
    /// its way back while the other half is on its way here.
    pub(super) fn place_freed(&mut self, broker: u32) -> bool {
        self.free_places = self.free_places.saturating_add((broker == self.broker).into());
        self.free_places >= self.windows[usize::from(self.window.is_wide())] / 2
    }

    /// A request of this broker has ended. Returns whether the thread hands requests back, because
    /// handlers have become slow.
    pub(super) fn ended(&mut self, broker: u32, took: Duration) -> bool {
        if took > SLOW {
            self.spread = SPREAD_AFTER_SLOW;
        }
        self.window.record(took);
        self.running -= 1;
        self.running_current -= usize::from(broker == self.broker);
        self.window.take_slow()
    }

    /// How many requests are handed back, from the end of the queue: those of the current broker
    /// that all workers together cannot run at the same time.
    pub(super) fn excess(&self) -> usize {
        (self.running_current + self.queued_current).saturating_sub(self.workers).min(self.queued_current)
    }

    /// The last request of the queue was handed back.
    pub(super) fn handed_back(&mut self) {
        self.queued -= 1;
        self.queued_current -= 1;
        self.window.narrow();
    }

    /// What goes to the current broker with the answers that leave now.
    pub(super) fn take_credit(&mut self) -> Option<Credit> {
        let credit = Credit { places: std::mem::take(&mut self.free_places), widen: self.window.should_widen() };
        if credit.widen {
            self.window.widen();
        }
        (credit.places > 0 || credit.widen).then_some(credit)
    }

    /// The credit was not sent. The next broker gets the places; it takes no more than it gave.
    pub(super) fn return_places(&mut self, places: u16) {
        self.free_places = self.free_places.saturating_add(places);
    }

    pub(super) fn has_free_places(&self) -> bool {
        self.free_places > 0
    }

    /// Whether a thread waits for the socket.
    pub(super) fn reader_waits(&self) -> bool {
        self.reader_waits
    }
}
