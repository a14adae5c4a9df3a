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
pub(super) const PROMPT: Duration = Duration::from_micros(100);

/// The end of a thread's last action. Where the comments name no action, any action may be the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The thread has just started, or its last action has no other input.
    Free,
    /// After [`Action::SendAnswers`].
    AnswersSent,
    /// After [`Action::Park`].
    Unparked,
    /// After [`Action::Read`]: the queue and the socket are empty, and all answers were sent.
    SocketEmpty,
    /// After [`Action::WaitForSocket`].
    SocketReady,
    /// After [`Action::WaitForSocket`] or [`Action::Read`]: no more requests come, because the
    /// server stops or the socket failed.
    Stopped,
    /// After [`Action::Watch`] or [`Action::Sleep`].
    Watched,
    /// After [`Action::WaitForRoom`].
    WaitedForRoom,
}

/// A thread's next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Run the first request of the queue.
    Run,
    /// Read requests from the socket into the queue.
    Read,
    /// Wait until the socket may have something to read, or the server stops.
    WaitForSocket,
    /// Send the answers, because the thread is about to wait.
    SendAnswers,
    /// Wait until another thread wakes a parked thread.
    Park,
    /// Wait for a [`TICK`], or until the server stops. This thread is the watcher.
    Watch,
    /// Wait until a request begins, or the server stops. This thread is the watcher.
    Sleep,
    /// This thread no longer watches. If `hand_back`, do as for [`HandBack`](Self::HandBack). Send
    /// the answers, and wake a parked thread.
    EndWatch { hand_back: bool },
    /// All workers are busy. Wait for a [`TICK`], or until the server stops.
    WaitForRoom,
    /// Hand back the last [`excess`](Turns::excess) requests of the queue, and send the answers.
    HandBack,
    /// End the thread.
    End,
}

/// The threads to wake when a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    pub(super) watcher: bool,
    /// One of the parked threads.
    pub(super) parked: bool,
}

/// A message to the broker, which leaves with the next answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit {
    /// This number of places is free again.
    pub(super) places: u16,
    /// From now on, the broker may send as many requests at a time as the wide window has.
    pub(super) widen: bool,
}

/// The watcher's last look.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// [`Turns::begun`] at that time.
    begun: u64,
    /// The number of ticks until then without a new request.
    quiet_ticks: u32,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    workers: usize,
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
    /// `begun` when a thread began to wait for room. At most one thread waits for room: all others
    /// run requests.
    begun_without_room: u64,
    /// When requests came into the empty queue, or a thread was last woken for them.
    waits_since: Option<Instant>,
    /// How many of the next requests wake a thread, because a handler was slow.
    spread: u32,
    /// Acknowledged requests of the current broker that have run, and whose places are not given
    /// back yet.
    free_places: u16,
    /// A thread waits for the socket.
    reader_waits: bool,
    /// `None`: no thread watches.
    watch: Option<Watch>,
    parked: usize,
    stopped: bool,
}

impl Turns {
    pub(super) fn new(workers: u16, window: u16) -> Self {
        Self { workers: workers.into(), window: Window::new(workers, window), ..Self::default() }
    }

    /// Returns the next action of the thread that has done `input`. No rule here needs the time:
    /// reading the clock costs as much as a step of a quick request.
    pub(super) fn handle(&mut self, input: Input) -> Action {
        match input {
            Input::Free => {}
            Input::AnswersSent => return self.wait(),
            Input::Unparked => self.parked -= 1,
            Input::SocketEmpty => {
                self.reader_waits = true;
                return Action::WaitForSocket;
            }
            Input::SocketReady => self.reader_waits = false,
            Input::Stopped => (self.reader_waits, self.stopped) = (false, true),
            Input::Watched => return self.watch(),
            Input::WaitedForRoom if self.begun == self.begun_without_room && !self.stopped => return Action::HandBack,
            Input::WaitedForRoom => {}
        }
        if self.can_run() {
            Action::Run
        } else if self.stopped {
            Action::End
        } else if self.reader_waits {
            Action::SendAnswers
        } else if self.queued > 0 {
            self.begun_without_room = self.begun;
            Action::WaitForRoom
        } else {
            Action::Read
        }
    }

    fn can_run(&self) -> bool {
        self.queued > 0 && self.running < self.workers
    }

    /// Another thread waits for the socket, so this thread parks, or watches if no thread does.
    fn wait(&mut self) -> Action {
        // Sending may have read requests.
        if self.can_run() {
            return Action::Run;
        }
        if self.watch.is_none() {
            return self.watch();
        }
        self.parked += 1;
        Action::Park
    }

    /// The watcher looks, for the first time or after a wait. If no thread waits for the socket and
    /// no request has begun since the last look, the thread that read last runs a slow handler, and
    /// the watcher takes its place.
    fn watch(&mut self) -> Action {
        let quiet = self.watch.take().filter(|watch| watch.begun == self.begun);
        let quiet_ticks = quiet.map_or(0, |watch| watch.quiet_ticks + 1);
        if self.stopped {
            return Action::EndWatch { hand_back: false };
        }
        if quiet_ticks > 0 && !self.reader_waits {
            self.spread = SPREAD_AFTER_SLOW;
            return Action::EndWatch { hand_back: self.running >= SLOW_AT_ONCE.min(self.workers) };
        }
        self.watch = Some(Watch { begun: self.begun, quiet_ticks });
        if quiet_ticks < QUIET_TICKS { Action::Watch } else { Action::Sleep }
    }

    /// A request of another broker has come. That broker knows nothing of the requests that run,
    /// nor of how quick they are.
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

    /// The first request of the queue begins. If no thread watches, a parked thread is woken: it
    /// reads or watches while this request runs.
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
        Wake { watcher: self.watch.is_some_and(|watch| watch.quiet_ticks >= QUIET_TICKS), parked }
    }

    /// A request has its answer, and the first unsent answer waits since `since`. Returns whether
    /// the answers leave now. They may wait while requests are about to begin, if a watcher can
    /// send them in case a handler is slow.
    pub(super) fn answered(&self, now: Instant, since: Instant) -> bool {
        let may_wait = self.queued > 0
            && self.watch.is_some()
            && self.spread == 0
            && now.saturating_duration_since(since) < PROMPT;
        !may_wait
    }

    /// An acknowledged request of this broker has run. Returns whether the free places are half of
    /// the window. If so, they go back now and do not wait for an answer: one half is on its way
    /// back while the other half is on its way here.
    pub(super) fn place_freed(&mut self, broker: u32) -> bool {
        self.free_places = self.free_places.saturating_add((broker == self.broker).into());
        self.free_places >= self.window.size() / 2
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

    /// A request of this broker had begun, and goes back to it, because nobody has run it.
    pub(super) fn given_back(&mut self, broker: u32) {
        self.running -= 1;
        if broker == self.broker {
            self.running_current -= 1;
            self.window.narrow();
        }
    }

    /// How many requests are handed back, from the end of the queue: those of the current broker
    /// that all workers together cannot run at the same time.
    pub(super) fn excess(&self) -> usize {
        (self.running_current + self.queued_current).saturating_sub(self.workers).min(self.queued_current)
    }

    /// A request of the current broker was handed back from the queue.
    pub(super) fn handed_back(&mut self) {
        self.queued -= 1;
        self.queued_current -= 1;
        self.window.narrow();
    }

    /// The credit for the current broker, which leaves with the answers now.
    pub(super) fn take_credit(&mut self) -> Option<Credit> {
        let credit = Credit { places: std::mem::take(&mut self.free_places), widen: self.window.try_widen() };
        (credit.places > 0 || credit.widen).then_some(credit)
    }

    /// A credit with these places was not sent. They go back with the next credit. A broker takes
    /// back no more places than it gave, so even another broker may get them.
    pub(super) fn return_places(&mut self, places: u16) {
        self.free_places = self.free_places.saturating_add(places);
    }

    /// Whether a thread waits for the socket.
    pub(super) fn reader_waits(&self) -> bool {
        self.reader_waits
    }
}
