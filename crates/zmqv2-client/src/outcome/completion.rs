//! The result of a message. The I/O thread gives it once, and the sender can wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use zmqv2_proto::{Target, process_id};

use crate::interceptor::chain::Around;
use crate::outcome::Completion;
use crate::outcome::call_error::CallError;
use crate::wake::wake;
use crate::{callback_thread, clock};

/// Gives the completion. If it is dropped without one, the message counts as abandoned.
#[derive(Debug)]
pub(crate) struct CompletionSender {
    slot: Arc<Slot>,
    started: Instant,
    around: Around,
    is_call: bool,
}

/// Waits for the completion.
#[derive(Debug)]
pub(crate) struct CompletionReceiver(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    /// The process of the sender and the receiver.
    pid: u32,
    target: Arc<Target>,
    state: Mutex<SlotState>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    completion: Option<Completion>,
    done: bool,
    waker: Option<Waker>,
    /// The number of waiting threads. Without one, no system call is needed.
    waiting: usize,
}

impl CompletionSender {
    pub(crate) fn new(started: Instant, target: Arc<Target>) -> (Self, CompletionReceiver) {
        let (state, done) = (Mutex::default(), Condvar::new());
        let slot = Arc::new(Slot { pid: process_id(), target, state, done });
        (Self { slot: Arc::clone(&slot), started, around: Around::default(), is_call: false }, CompletionReceiver(slot))
    }

    /// These interceptors see the completion.
    pub(crate) fn with_interceptors(mut self, around: Around, is_call: bool) -> Self {
        (self.around, self.is_call) = (around, is_call);
        self
    }

    /// Whether the receiver still exists.
    pub(crate) fn has_receiver(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }

    /// Gives the completion, and leaves it to [`Wakeup::wake`] to wake the receiver.
    pub(crate) fn complete(mut self, completion: Completion) -> Wakeup {
        self.around.complete(&completion, self.is_call);
        self.slot.complete(completion)
    }
}

/// A completion that was given. Dropping it wakes the receiver.
#[must_use]
#[derive(Debug)]
pub(crate) struct Wakeup {
    waiting: Option<Arc<Slot>>,
    waker: Option<Waker>,
}

impl Wakeup {
    pub(crate) fn has_waiter(&self) -> bool {
        self.waiting.is_some() || self.waker.is_some()
    }

    pub(crate) fn wake(self) {}
}

impl Drop for Wakeup {
    /// Wakes the receiver even after the waker of another one has panicked.
    fn drop(&mut self) {
        if let Some(slot) = self.waiting.take() {
            slot.done.notify_all();
        }
        // Outside the lock, because an executor may poll at once on this thread.
        if let Some(waker) = self.waker.take() {
            wake(waker);
        }
    }
}

impl Drop for CompletionSender {
    fn drop(&mut self) {
        if !self.slot.lock().done {
            let after = clock::now().saturating_duration_since(self.started);
            let result = Err(CallError::Closed { target: Box::new(Target::clone(&self.slot.target)) });
            let completion = Completion { result, after };
            self.around.complete(&completion, self.is_call);
            self.slot.complete(completion).wake();
        }
    }
}

impl CompletionReceiver {
    pub(crate) fn is_done(&self) -> bool {
        self.is_inherited() || self.0.lock().done
    }

    /// Whether the message was sent by the parent of this process. It ends there. This process has a
    /// copy of the lock, which a thread of the parent may have held.
    fn is_inherited(&self) -> bool {
        self.0.pid != process_id()
    }

    /// Why this process has no result of the parent's message.
    fn inherited(&self) -> Completion {
        let Slot { pid, target, .. } = &*self.0;
        let target = Box::new(Target::clone(target));
        Completion { result: Err(CallError::Inherited { target, parent: *pid }), after: Duration::ZERO }
    }

    /// Looks at the completion, if it is there.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Completion) -> T) -> Option<T> {
        if self.is_inherited() {
            return Some(look(&self.inherited()));
        }
        self.0.lock().completion.as_ref().map(look)
    }

    /// Takes the completion, if it is there.
    pub(crate) fn take(&self) -> Option<Completion> {
        if self.is_inherited() {
            return Some(self.inherited());
        }
        self.0.lock().completion.take()
    }

    /// Waits for the completion, and returns whether it is there. Without a timeout this ends too,
    /// because every message ends.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        if callback_thread::is_current() || self.is_inherited() {
            return self.is_done();
        }
        let mut state = self.0.lock();
        state.waiting += 1;
        let mut state = match timeout {
            Some(timeout) => {
                let waited = self.0.done.wait_timeout_while(state, timeout, |state| !state.done);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.0.done.wait_while(state, |state| !state.done);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        state.waiting -= 1;
        state.done
    }

    /// Whether the completion is there. If not, `waker` is woken when it comes.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        if self.is_inherited() {
            return true;
        }
        let mut state = self.0.lock();
        if state.done {
            return true;
        }
        state.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        false
    }
}

impl Slot {
    fn complete(self: &Arc<Self>, completion: Completion) -> Wakeup {
        let mut state = self.lock();
        state.completion = Some(completion);
        state.done = true;
        Wakeup { waiting: (state.waiting > 0).then(|| Arc::clone(self)), waker: state.waker.take() }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
