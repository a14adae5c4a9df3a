//! What the native part tells Python on its own: lines of the log, and the outcomes of messages that
//! nobody waits for. Its threads never wait for the GIL, so both go through a bounded queue.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use zmqv2_client::{Outcome, Target};
use zmqv2_proto::PerProcess;

use crate::errors::describe;

/// Most events that wait for Python. Later ones are counted only.
const MOST: usize = 10_000;

/// The logger of messages that did not succeed.
const OUTCOMES: &str = "zmqv2_outcomes";
/// The client logs such messages itself, but not those whose outcome it knows before the sender has
/// dropped the handle. Here every one is logged, and once.
const LOGGED_HERE: &str = "zmqv2_client::io::driver::completions";

/// A line of the log, or an outcome.
pub enum Event {
    /// The level of Python, the name of the logger, and the text.
    Log(u8, String, String),
    /// The target, the kind, whether the method may have run, and a sentence.
    Outcome(String, &'static str, bool, String),
}

struct Queue {
    readable: Option<OwnedFd>,
    state: Mutex<(VecDeque<Event>, u64)>,
}

static QUEUE: OnceLock<PerProcess<Queue>> = OnceLock::new();

fn queue() -> &'static Queue {
    QUEUE.get_or_init(|| PerProcess::new(Queue::new())).get_or_renew(Queue::new)
}

impl Queue {
    fn new() -> Self {
        let readable = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).ok();
        Self { readable, state: Mutex::default() }
    }

    fn push(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.len() >= MOST {
            state.1 += 1;
            return;
        }
        state.0.push_back(event);
        if state.0.len() == 1
            && let Some(readable) = &self.readable
        {
            // It fails only when it is readable already.
            let _ = rustix::io::write(readable, &1_u64.to_ne_bytes());
        }
    }
}

/// Which outcomes Python wants: bit 0, those that failed; bit 1, the others, too.
static WANTED: AtomicU8 = AtomicU8::new(0);

/// Whether Python wants outcomes, and whether also those of messages that have succeeded.
#[pyfunction]
pub fn want_outcomes(wanted: bool, succeeded: bool) {
    WANTED.store(u8::from(wanted) | u8::from(succeeded) << 1, Ordering::Relaxed);
}

/// Tells Python how a message ended that nobody may wait for.
pub fn push_outcome(target: &Target, outcome: &Outcome) {
    if !outcome.is_taken_over() && log::log_enabled!(target: OUTCOMES, Level::Warn) {
        queue().push(Event::Log(30, OUTCOMES.to_owned(), format!("message to {target}: {outcome}")));
    }
    let wanted = WANTED.load(Ordering::Relaxed);
    if wanted == 0 || (wanted == 1 && outcome.is_taken_over()) {
        return;
    }
    let (kind, may_have_run, text) = describe(outcome);
    queue().push(Event::Outcome(target.to_string(), kind, may_have_run, text));
}

struct ToPython;

impl Log for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates are in this process, too.
        metadata.target().starts_with("zmqv2") && metadata.target() != LOGGED_HERE
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => 40,
            Level::Warn => 30,
            Level::Info => 20,
            Level::Debug | Level::Trace => 10,
        };
        let name = record.target().replace("::", ".");
        queue().push(Event::Log(level, name, record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Makes Python see the log.
pub fn install() {
    if log::set_logger(&ToPython).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// The lowest level of Python that is wanted: 10 (debug) to 50.
#[pyfunction]
pub fn set_log_level(level: u32) -> PyResult<()> {
    let filter = match level {
        0 => return Err(PyValueError::new_err(format!("{level} is no level: levels are above 0"))),
        1..=10 => LevelFilter::Debug,
        11..=20 => LevelFilter::Info,
        21..=30 => LevelFilter::Warn,
        31..=40 => LevelFilter::Error,
        _ => LevelFilter::Off,
    };
    log::set_max_level(filter);
    Ok(())
}

/// A descriptor that is readable while there are events. It is another one after a fork. -1: the
/// system gives no descriptor.
#[pyfunction]
pub fn events_fileno() -> RawFd {
    queue().readable.as_ref().map_or(-1, AsRawFd::as_raw_fd)
}

/// The events so far, and how many were left out because too many waited. An event is a tuple:
/// `("log", level, logger, text)` or `("outcome", target, kind, may_have_run, text)`.
#[pyfunction]
pub fn take_events(py: Python<'_>) -> PyResult<(Vec<Py<PyAny>>, u64)> {
    let queue = queue();
    let (events, lost) = {
        let mut state = queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(readable) = &queue.readable {
            // It fails only when it is not readable.
            let _ = rustix::io::read(readable, &mut [0; 8]);
        }
        std::mem::take(&mut *state)
    };
    let events = events.into_iter().map(|event| match event {
        Event::Log(level, name, text) => Ok(("log", level, name, text).into_pyobject(py)?.into_any().unbind()),
        Event::Outcome(target, kind, may_have_run, text) => {
            Ok(("outcome", target, kind, may_have_run, text).into_pyobject(py)?.into_any().unbind())
        }
    });
    Ok((events.collect::<PyResult<_>>()?, lost))
}
