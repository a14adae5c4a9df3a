//! Wakes futures at a given time, by the clock of the I/O thread. So they need no executor with
//! timers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::clock;
use crate::io::admission::NotQueued;
use crate::io::queue::IoQueue;
use crate::wake::wake;

/// The futures that wait for a time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    state: Mutex<TimerState>,
    /// How many there are. Without one, the thread takes no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct TimerState {
    closed: bool,
    next_number: u64,
    by_time: BTreeMap<(Instant, u64), Waker>,
}

impl Timers {
    /// Takes the wakers whose time has come.
    pub(super) fn take_due(&self, now: Instant, due: &mut Vec<Waker>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        while let Some(first) = state.by_time.first_entry().filter(|first| first.key().0 <= now) {
            due.push(first.remove());
        }
        self.count.store(state.by_time.len(), Ordering::SeqCst);
    }

    /// When the next one is due. Call it after [`IoQueue::begin_sleep`]: whoever adds another one wakes
    /// the thread then.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.lock().by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// The thread ends: every timer is over now.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let all = std::mem::take(&mut state.by_time);
        self.count.store(0, Ordering::SeqCst);
        drop(state);
        all.into_values().for_each(wake);
    }

    fn lock(&self) -> MutexGuard<'_, TimerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a time. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Timer<'a> {
    queue: &'a IoQueue,
    at: Instant,
    number: Option<u64>,
}

impl<'a> Timer<'a> {
    pub(crate) fn new(queue: &'a IoQueue, at: Instant) -> Self {
        Self { queue, at, number: None }
    }

    /// Whether the time has come. If not, `waker` is woken then. An error: the client was closed before.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<(), NotQueued>> {
        if clock::now() >= self.at {
            return Poll::Ready(Ok(()));
        }
        let timers = &self.queue.timers;
        let mut state = timers.lock();
        if state.closed {
            return Poll::Ready(Err(NotQueued::Closed));
        }
        let is_new = self.number.is_none();
        let number = *self.number.get_or_insert_with(|| {
            state.next_number += 1;
            state.next_number
        });
        state.by_time.insert((self.at, number), waker.clone());
        timers.count.store(state.by_time.len(), Ordering::SeqCst);
        drop(state);
        if is_new {
            // The thread may sleep for longer.
            self.queue.idle_waker.wake();
        }
        Poll::Pending
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let timers = &self.queue.timers;
            let mut state = timers.lock();
            state.by_time.remove(&(self.at, number));
            timers.count.store(state.by_time.len(), Ordering::SeqCst);
        }
    }
}
