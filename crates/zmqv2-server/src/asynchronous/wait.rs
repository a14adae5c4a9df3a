//! Waits for blocking work without blocking an executor.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

struct Slot<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

/// Runs `work` on a thread of its own. The thread goes on if the future is dropped.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<impl Future<Output = T> + Send> {
    let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
    let shared = Arc::clone(&slot);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = work();
        let mut slot = lock(&shared);
        slot.result = Some(result);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    })?;
    Ok(std::future::poll_fn(move |context| {
        let mut slot = lock(&slot);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }))
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
