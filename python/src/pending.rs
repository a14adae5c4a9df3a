//! A message that is on its way, and the ways to wait for its end.

use std::future::Future;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rustix::event::{EventfdFlags, eventfd};
use zmqv2_client::{Outcome, RawReply};

use crate::clock::now;
use crate::errors::{Failure, describe};
use crate::exit::{detached, is_main_thread};

/// How long the main thread waits before it looks at signals.
const SLICE: Duration = Duration::from_millis(100);

/// How a message ended that has succeeded.
pub enum Answer {
    /// The reply to a call.
    Reply(RawReply),
    /// How a cast, or each copy of a fanout or notification, ended.
    Outcomes(Vec<Outcome>),
    /// Nothing more to say.
    Done,
}

pub type Ended = Result<Answer, Failure>;
type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;

enum State {
    Running(Running),
    Ended(Ended),
    Taken,
}

/// A message that is on its way. It is sent when somebody begins to wait for it. If nobody has a
/// reference any more, a call is cancelled.
#[pyclass(frozen)]
pub struct Pending(Mutex<State>);

impl Pending {
    pub fn new(future: impl Future<Output = Ended> + Send + 'static) -> Self {
        Self(Mutex::new(State::Running(Box::pin(future))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended. If not, `waker` is woken when it is to be asked again.
    fn poll(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        let State::Running(future) = &mut *state else { return true };
        match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => false,
            Poll::Ready(ended) => {
                *state = State::Ended(ended);
                true
            }
        }
    }

    /// Waits on this thread until `end`.
    fn wait_until(&self, end: Option<Instant>) -> bool {
        let woken = Arc::new(ThreadWaker { thread: thread::current(), woken: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if self.poll(&waker) {
                return true;
            }
            while !woken.woken.swap(false, Ordering::Acquire) {
                match end {
                    None => thread::park(),
                    Some(end) => {
                        let left = end.saturating_duration_since(now());
                        if left.is_zero() {
                            return false;
                        }
                        thread::park_timeout(left);
                    }
                }
            }
        }
    }
}

#[pymethods]
impl Pending {
    /// Waits for the end, at most `timeout` seconds. Returns whether it has ended. Signals are seen
    /// within a tenth of a second.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let end = timeout.and_then(|seconds| now().checked_add(seconds_of(seconds)));
        loop {
            let slice = is_main_thread().then(|| now() + SLICE);
            let until = match (end, slice) {
                (Some(end), Some(slice)) => Some(end.min(slice)),
                (end, slice) => end.or(slice),
            };
            if detached(py, || self.wait_until(until), |_| false) {
                return Ok(true);
            }
            py.check_signals()?;
            if end.is_some_and(|end| end <= now()) {
                return Ok(false);
            }
        }
    }

    /// Returns whether it has ended. If not, `signal` becomes readable when it is to be asked again.
    fn watch(&self, py: Python<'_>, signal: &Signal) -> bool {
        let waker = Waker::from(Arc::clone(&signal.0));
        detached(py, || self.poll(&waker), |_| false)
    }

    /// The result of a message that has ended: for a call the body of the reply and whether it is a
    /// failure, and otherwise a list of outcomes (a word, whether the method may have run, a sentence).
    /// Ask once. Raises `Failed`.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let state = std::mem::replace(&mut *self.lock(), State::Taken);
        match state {
            State::Ended(ended) => to_python(py, ended),
            State::Running(_) => Err(PyRuntimeError::new_err("the message has not ended: wait for it first")),
            State::Taken => Err(PyRuntimeError::new_err("the result was taken before")),
        }
    }
}

/// What Python sees of the end of a message.
pub fn to_python(py: Python<'_>, ended: Ended) -> PyResult<Py<PyAny>> {
    match ended.map_err(Failure::into_error)? {
        Answer::Reply(reply) => {
            let body = PyBytes::new(py, reply.body());
            Ok((body, reply.is_failure()).into_pyobject(py)?.into_any().unbind())
        }
        Answer::Outcomes(outcomes) => Ok(PyList::new(py, outcomes.iter().map(describe))?.into_any().unbind()),
        Answer::Done => Ok(py.None()),
    }
}

/// A span from Python: negative ones are zero, and endless ones very long.
pub fn seconds_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 4_000_000.0)).unwrap_or_default()
}

struct ThreadWaker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// A descriptor that becomes readable, for event loops.
#[pyclass(frozen)]
pub struct Signal(Arc<Eventfd>);

struct Eventfd(OwnedFd);

impl Wake for Eventfd {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only when it is readable already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

#[pymethods]
impl Signal {
    #[new]
    fn new() -> PyResult<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        Ok(Self(Arc::new(Eventfd(fd))))
    }

    /// The descriptor.
    fn fileno(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }

    /// Makes it readable.
    fn set(&self) {
        self.0.wake_by_ref();
    }

    /// Makes it not readable.
    fn clear(&self) {
        // It fails only when it is not readable.
        let _ = rustix::io::read(&self.0.0, &mut [0; 8]);
    }
}

/// A future of what another thread sends.
pub struct Receiver(Arc<Mutex<Slot>>);

/// Gives its value to a [`Receiver`].
pub struct Sender(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    value: Option<Ended>,
    waker: Option<Waker>,
}

/// A sender and its receiver.
pub fn oneshot() -> (Sender, Receiver) {
    let slot = Arc::default();
    (Sender(Arc::clone(&slot)), Receiver(slot))
}

impl Sender {
    /// Gives the value. Wakes whoever waits for it.
    pub fn send(self, value: Ended) {
        let waker = {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Receiver {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
