//! The clock of all threads, and threads beside the event loop.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

/// A broker that ends waits this long for each of its threads.
const MAX_CLOSE: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "threads are drivers: they read the clock for everything else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A thread that may wait for a disk or a network, and gets its work from the event loop.
///
/// Dropping this value tells the thread to end, and waits for that within a bound.
pub(crate) struct BackgroundThread<T> {
    work: Option<Sender<T>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended. Nothing is ever sent.
    ended: Receiver<()>,
    /// The log line if the thread does not end in time.
    if_slow: &'static str,
}

impl<T: Send + 'static> BackgroundThread<T> {
    /// Starts a thread that calls `run`, which returns when the channel is disconnected.
    pub(crate) fn start(
        name: &str,
        if_slow: &'static str,
        run: impl FnOnce(&Receiver<T>) + Send + 'static,
    ) -> std::io::Result<Self> {
        // Unbounded, so that the event loop never waits.
        let (work, inbox) = crossbeam_channel::unbounded();
        let (running, ended) = crossbeam_channel::bounded(0);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _running: Sender<()> = running;
            run(&inbox);
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), ended, if_slow })
    }

    /// Returns false if the thread has ended.
    pub(crate) fn submit(&self, work: T) -> bool {
        self.work.as_ref().is_some_and(|sender| sender.send(work).is_ok())
    }
}

impl<T> Drop for BackgroundThread<T> {
    fn drop(&mut self) {
        drop(self.work.take());
        if self.ended.recv_timeout(MAX_CLOSE) == Err(RecvTimeoutError::Timeout) {
            return log::warn!("{}", self.if_slow);
        }
        // A panic of the thread has been printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
