//! The threads that send: each one message at a time, or one thread with many outstanding messages.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, select};

use super::pattern::{self, PendingMessage};
use super::progress::Progress;
use super::results::{Ended, Results};
use super::schedule::Schedule;
use crate::serve::now;

/// A channel on which nothing is ever sent. It reports that its other side is gone.
pub(super) type End = Receiver<Infallible>;

pub(super) struct Run {
    pub(super) schedule: Schedule,
    /// Disconnected when the run is interrupted.
    stopped: End,
    progress: Arc<Progress>,
    /// The number of messages that were due so far.
    started: AtomicU64,
    sent: AtomicU64,
    results: Mutex<Results>,
}

impl Run {
    pub(super) fn new(schedule: Schedule, stopped: End, progress: Arc<Progress>, results: Results) -> Self {
        Self {
            schedule,
            stopped,
            progress,
            started: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            results: Mutex::new(results),
        }
    }

    pub(super) fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of sent messages. Read it after the results, so that no more have ended.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Starts the threads that send. They end, and drop `alive`, when every message has ended.
    pub(super) fn start(
        self: &Arc<Self>,
        sender: &Arc<pattern::Sender>,
        concurrency: usize,
        alive: &Sender<Infallible>,
    ) -> std::io::Result<()> {
        let threads = match **sender {
            pattern::Sender::Blocking(_) => concurrency,
            pattern::Sender::Async(_) => 1,
        };
        for _ in 0..threads {
            let (run, sender, alive) = (Arc::clone(self), Arc::clone(sender), alive.clone());
            let work = move || {
                match &*sender {
                    pattern::Sender::Blocking(send) => run.send_one_by_one(send),
                    pattern::Sender::Async(send) => Window::new(&run, concurrency).send_all(send),
                }
                drop(alive);
            };
            std::thread::Builder::new().name("bench".to_owned()).spawn(work)?;
        }
        Ok(())
    }

    fn send_one_by_one(&self, send: &dyn Fn() -> Ended) {
        while let Some(at) = self.schedule.due_at(self.started.fetch_add(1, Ordering::Relaxed), now()) {
            if self.wait_until(at) {
                return;
            }
            let began = self.begin();
            self.record(at, began, send());
        }
    }

    /// Waits. Returns whether the run is interrupted.
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
        let first = self.results().record(began.saturating_duration_since(at), ended);
        if let Some((kind, failure)) = first {
            self.progress.print(&format!("{failure} (the first of: {})", kind.name()));
        }
    }
}

/// Slots for outstanding messages. Each is woken when its message has ended.
struct Window<'a> {
    run: &'a Run,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Slots that were woken.
    woken: Receiver<usize>,
}

struct Slot {
    message: Option<Message>,
    slot_waker: Arc<SlotWaker>,
    waker: Waker,
}

struct Message {
    pending: PendingMessage,
    at: Instant,
    began: Instant,
}

struct SlotWaker {
    slot: usize,
    /// Keeps each slot in the channel at most once, so that the channel never overflows.
    is_woken: AtomicBool,
    channel: Sender<usize>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            // Without a receiver the run has ended.
            let _ = self.channel.try_send(self.slot);
        }
    }
}

impl<'a> Window<'a> {
    fn new(run: &'a Run, slots: usize) -> Self {
        let (channel, woken) = crossbeam_channel::bounded(slots);
        let slot = |slot| {
            let slot_waker = Arc::new(SlotWaker { slot, is_woken: AtomicBool::new(false), channel: channel.clone() });
            Slot { message: None, waker: Arc::clone(&slot_waker).into(), slot_waker }
        };
        Self { run, slots: (0..slots).map(slot).collect(), free: (0..slots).rev().collect(), woken }
    }

    fn send_all(&mut self, send: &dyn Fn() -> Result<PendingMessage, Ended>) {
        let mut number = 0;
        loop {
            while let Ok(slot) = self.woken.try_recv() {
                self.poll(slot);
            }
            let now = now();
            let due = if self.run.is_stopped() { None } else { self.run.schedule.due_at(number, now) };
            match due {
                Some(at) if at <= now => {
                    if let Some(slot) = self.free.pop() {
                        number += 1;
                        self.send(slot, at, send);
                    } else {
                        self.wait_for_slot();
                    }
                }
                Some(at) => self.wait_until(at),
                None if self.free.len() == self.slots.len() => return,
                None => self.wait_for_slot(),
            }
        }
    }

    fn send(&mut self, slot: usize, at: Instant, send: &dyn Fn() -> Result<PendingMessage, Ended>) {
        let began = self.run.begin();
        match send() {
            Ok(pending) => {
                self.slots[slot].message = Some(Message { pending, at, began });
                // The first poll registers the waker.
                self.poll(slot);
            }
            Err(ended) => {
                self.run.record(at, began, ended);
                self.free.push(slot);
            }
        }
    }

    fn poll(&mut self, slot: usize) {
        let Slot { message, slot_waker, waker } = &mut self.slots[slot];
        // Before the poll, so that no wake from now on is lost.
        slot_waker.is_woken.store(false, Ordering::SeqCst);
        let Some(Message { pending, at, began }) = message else { return };
        let Poll::Ready(ended) = pending.as_mut().poll(&mut Context::from_waker(waker)) else { return };
        self.run.record(*at, *began, ended);
        *message = None;
        self.free.push(slot);
    }

    fn wait_for_slot(&mut self) {
        if let Ok(slot) = self.woken.recv() {
            self.poll(slot);
        }
    }

    fn wait_until(&mut self, at: Instant) {
        let left = at.saturating_duration_since(now());
        select! {
            recv(self.woken) -> slot => if let Ok(slot) = slot { self.poll(slot) },
            recv(self.run.stopped) -> _ => {}
            default(left) => {}
        }
    }
}
