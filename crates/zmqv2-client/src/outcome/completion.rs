//! One value, given by the I/O thread and waited for by anybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::clock;
use crate::outcome::{Finish, How};

/// The giving side. Dropped without having given, it says that nobody knows.
#[derive(Debug)]
pub(crate) struct Promise {
    cell: Arc<Cell>,
    started: Instant,
}

/// The waiting side.
#[derive(Debug)]
pub(crate) struct Expected(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    state: Mutex<State>,
    given: Condvar,
}

#[derive(Debug, Default)]
struct State {
    finish: Option<Finish>,
    given: bool,
    waker: Option<Waker>,
    /// Threads that wait: without one, giving costs no system call.
    waiting: usize,
}

impl Promise {
    pub(crate) fn new(started: Instant) -> (Self, Expected) {
        let cell = Arc::new(Cell::default());
        (Self { cell: Arc::clone(&cell), started }, Expected(cell))
    }

    /// Whether anybody is left who could look at it.
    pub(crate) fn is_expected(&self) -> bool {
        Arc::strong_count(&self.cell) > 1
    }

    pub(crate) fn give(self, finish: Finish) {
        self.cell.put(finish).announce();
    }

    /// Gives the value; whoever waits for it learns of it with [`Given::announce`].
    pub(crate) fn put(self, finish: Finish) -> Given {
        self.cell.put(finish)
    }
}

/// A value that was given, and perhaps somebody who waits for it. Wakes whoever that is when it is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Given {
    waiting: Option<Arc<Cell>>,
    waker: Option<Waker>,
}

impl Given {
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.is_some() || self.waker.is_some()
    }

    /// Wakes whoever waits.
    pub(crate) fn announce(self) {}
}

impl Drop for Given {
    /// Also when another one's waker has panicked: nobody waits for ever.
    fn drop(&mut self) {
        if let Some(cell) = self.waiting.take() {
            cell.given.notify_all();
        }
        // Outside of the lock: an executor may poll at once, on this very thread.
        if let Some(waker) = self.waker.take()
            && catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err()
        {
            log::error!("the waker of an outcome panicked");
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.cell.lock().given {
            let after = clock::now().saturating_duration_since(self.started);
            self.cell.put(Finish { how: How::Closed { sent: true }, after }).announce();
        }
    }
}

impl Expected {
    pub(crate) fn is_given(&self) -> bool {
        self.0.lock().given
    }

    /// Looks at the value, if it is there.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Finish) -> T) -> Option<T> {
        self.0.lock().finish.as_ref().map(look)
    }

    /// Takes the value, if it is there.
    pub(crate) fn take(&self) -> Option<Finish> {
        self.0.lock().finish.take()
    }

    /// Waits until the value is there; whether it is. `None`: without limit, for every message ends.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut state = self.0.lock();
        state.waiting += 1;
        let mut state = match timeout {
            Some(timeout) => {
                let waited = self.0.given.wait_timeout_while(state, timeout, |state| !state.given);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.0.given.wait_while(state, |state| !state.given);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        state.waiting -= 1;
        state.given
    }

    /// Whether the value is there; if not, `waker` is woken when it comes.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        if state.given {
            return true;
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }
}

impl Cell {
    fn put(self: &Arc<Self>, finish: Finish) -> Given {
        let mut state = self.lock();
        state.finish = Some(finish);
        state.given = true;
        Given { waiting: (state.waiting > 0).then(|| Arc::clone(self)), waker: state.waker.take() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
