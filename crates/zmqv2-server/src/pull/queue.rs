//! The requests that have come and were not polled yet.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zmqv2_proto::deadline;

use crate::error::ServerError;
use crate::runtime::now;
use crate::runtime::shared_socket::{Deferred, Inbox};
use crate::runtime::wakeup::Waker;

/// Which requests are polled, and what becomes of those that are not.
pub(super) trait Gate: Send + Sync + 'static {
    /// Returns a request that is to be polled. Answers every other one.
    fn admit(&self, request: Deferred) -> Option<Deferred>;

    /// Gives back a request that nobody has polled.
    fn give_back(&self, request: Deferred);

    /// The time of a request has ended before it was polled.
    fn expired(&self, request: Deferred);
}

/// At most as long as a server has places.
pub(super) struct PullQueue<G> {
    pub(super) gate: Arc<G>,
    state: Mutex<State>,
    came: Condvar,
    /// Its descriptor is readable while there are requests, or the server drains.
    readable: Waker,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Deferred>,
    draining: bool,
    /// A poll has found nothing after the drain began, so nobody polls again.
    closed: bool,
}

impl<G: Gate> PullQueue<G> {
    pub(super) fn new(gate: G) -> Result<Self, ServerError> {
        let readable = Waker::new().map_err(ServerError::Thread)?;
        Ok(Self { gate: Arc::new(gate), state: Mutex::default(), came: Condvar::new(), readable })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.readable.fd()
    }

    /// Takes up to `most` requests, in the order in which they came. Waits for the first one until
    /// `timeout`, or until the drain begins. Requests whose time has ended meanwhile are left out.
    pub(super) fn poll(&self, most: usize, timeout: Duration) -> Vec<Deferred> {
        let end_at = deadline(now(), timeout);
        let mut state = self.lock();
        loop {
            let now = now();
            let count = most.min(state.requests.len());
            let polled = state.requests.drain(..count);
            let (taken, late): (Vec<_>, Vec<_>) = polled.partition(|request| request.deadline > now);
            if state.requests.is_empty() && !state.draining {
                self.readable.clear();
            }
            if !late.is_empty() {
                // Before any wait: each of them has a place.
                drop(state);
                late.into_iter().for_each(|request| self.gate.expired(request));
                state = self.lock();
            } else if taken.is_empty() && most > 0 && state.draining {
                state.closed = true;
            }
            let left = end_at.saturating_duration_since(now);
            if !taken.is_empty() || most == 0 || state.closed || left.is_zero() {
                return taken;
            }
            if state.requests.is_empty() && !state.draining {
                state = self.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Ends the wait of every poll.
    pub(super) fn drain(&self) {
        self.lock().draining = true;
        self.came.notify_all();
        self.readable.wake();
    }

    /// Gives back what nobody has polled.
    pub(super) fn close(&self) {
        let left = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.requests)
        };
        for request in left {
            self.gate.give_back(request);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G: Gate> Inbox for PullQueue<G> {
    fn take(&self, request: Deferred) {
        let Some(request) = self.gate.admit(request) else { return };
        let mut state = self.lock();
        if state.closed {
            drop(state);
            // The broker gives it to another server.
            return self.gate.give_back(request);
        }
        state.requests.push_back(request);
        self.readable.wake();
        drop(state);
        self.came.notify_one();
    }
}
