//! Leaving the GIL, and coming back while the interpreter may be about to end.
//!
//! A thread that asks for the GIL of an interpreter that ends is ended by Python, in the middle of
//! Rust code, which aborts the process. So a thread that comes back then sleeps for ever instead, as
//! all threads of a process end with it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::clock::now;

static EXITING: AtomicBool = AtomicBool::new(false);
/// Threads that have decided to ask for the GIL and do not have it yet.
static RETURNING: AtomicI64 = AtomicI64::new(0);

/// Whether this is the thread that ends the interpreter, and the only one that sees signals.
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Runs `work` without the GIL. `may_return` says whether a thread may come back with this result
/// although the interpreter is about to end.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send, may_return: impl Fn(&T) -> bool + Sync) -> T {
    let value = py.detach(|| {
        let value = work();
        RETURNING.fetch_add(1, Ordering::SeqCst);
        if EXITING.load(Ordering::SeqCst) && !is_main_thread() && !may_return(&value) {
            RETURNING.fetch_sub(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        }
        value
    });
    RETURNING.fetch_sub(1, Ordering::SeqCst);
    value
}

/// Call it when the interpreter is about to end (`atexit`): afterwards, no thread asks for the GIL.
#[pyfunction]
pub fn at_exit(py: Python<'_>) {
    EXITING.store(true, Ordering::SeqCst);
    py.detach(|| {
        let end = now() + Duration::from_secs(1);
        while RETURNING.load(Ordering::SeqCst) > 0 && now() < end {
            thread::yield_now();
        }
    });
}

/// Call it in a process that was forked: the threads of the parent do not exist there.
#[pyfunction]
pub fn after_fork() {
    EXITING.store(false, Ordering::SeqCst);
    RETURNING.store(0, Ordering::SeqCst);
}
