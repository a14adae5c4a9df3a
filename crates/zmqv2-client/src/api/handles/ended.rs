//! A descriptor that becomes readable when handles have ended, for event loops.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};
use zmqv2_proto::process_id;

use crate::api::handles::report::{ReportHandle, ReportResult};
use crate::api::handles::single::{CallHandle, CastHandle};

/// Tells an event loop which handles have ended: its descriptor is readable while there are tokens of
/// handles that have ended and were not [taken](Self::take).
///
/// A program [watches](Self::watch) a handle under a token of its choice. When the handle has ended,
/// the program gets the token, and asks the handle for its result. Watch handles of one client or of
/// several. A handle that nobody watches costs nothing.
///
/// The number of watched handles whose tokens were not taken is bounded. After a fork, the child makes
/// a new one: this one has no tokens there, and its descriptor is that of the parent.
///
/// ```no_run
/// use std::collections::HashMap;
/// use std::os::fd::AsFd;
/// use zmqv2_client::{EndedHandles, RequestContext, RpcClient, Target};
///
/// # fn wait_until_readable(_: std::os::fd::BorrowedFd<'_>) {}
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RpcClient::builder(Target::topic("calculator")?).build()?;
/// let ended = EndedHandles::new(1_000)?;
/// let mut calls = HashMap::new();
/// for number in 0..10 {
///     let call = client.call_async::<u64>(&RequestContext::new(), "square", &(number,))?;
///     ended.watch(&call, number)?;
///     calls.insert(number, call);
/// }
/// while !calls.is_empty() {
///     wait_until_readable(ended.as_fd()); // the event loop
///     for call in ended.take().into_iter().filter_map(|token| calls.remove(&token)) {
///         println!("{}", call.wait()?);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EndedHandles(Arc<Shared>);

/// A handle that [`EndedHandles`] can watch: [`CallHandle`], [`CastHandle`],
/// [`FanoutHandle`](crate::FanoutHandle), [`NotifyHandle`](crate::NotifyHandle).
pub trait Handle: sealed::PollEnded {}

mod sealed {
    use std::task::Waker;

    pub trait PollEnded {
        /// Whether it has ended. If not, `waker` is woken when it has.
        fn poll_ended(&self, waker: &Waker) -> bool;
    }
}

/// Why a handle cannot be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// So many handles are watched already, or have ended and their tokens were not taken.
    #[error("{limit} handles are watched already: take the tokens of those that have ended, or set a higher limit")]
    Full {
        /// The limit, as given to [`EndedHandles::new`].
        limit: usize,
    },
    /// The parent of this process has made it.
    #[error("it was made by process {parent}, which has forked this one: make another one in this process")]
    Inherited {
        /// The process that has made it.
        parent: u32,
    },
}

#[derive(Debug)]
struct Shared {
    pid: u32,
    limit: usize,
    /// Its counter is above 0 while there are tokens.
    readable: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: VecDeque<u64>,
    /// Handles that are watched and have not ended.
    open: usize,
}

impl EndedHandles {
    /// For `limit` handles at a time.
    ///
    /// # Errors
    /// The error of the system, if it gives no descriptor.
    pub fn new(limit: usize) -> io::Result<Self> {
        let readable = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Shared { pid: process_id(), limit, readable, state: Mutex::default() })))
    }

    /// Watches a handle. When it has ended, [`take`](Self::take) returns the token, once. Watch a
    /// handle once, and do not await it: only the last of those that want to know of its end learns of
    /// it. A handle that is dropped still gives its token.
    ///
    /// # Errors
    /// [`WatchError`]. The handle is as it was.
    pub fn watch(&self, handle: &impl Handle, token: u64) -> Result<(), WatchError> {
        let Shared { pid, limit, .. } = *self.0;
        if pid != process_id() {
            return Err(WatchError::Inherited { parent: pid });
        }
        let mut state = self.0.lock();
        if state.open + state.ended.len() >= limit {
            return Err(WatchError::Full { limit });
        }
        state.open += 1;
        drop(state);
        let watched = Arc::new(Watched { token, ended: AtomicBool::new(false), shared: Arc::clone(&self.0) });
        if handle.poll_ended(&Waker::from(Arc::clone(&watched))) {
            watched.end();
        }
        Ok(())
    }

    /// The tokens of the handles that have ended, in the order in which they ended. Afterwards, the
    /// descriptor is not readable until another one ends.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        if self.0.pid != process_id() {
            return Vec::new();
        }
        let mut state = self.0.lock();
        if !state.ended.is_empty() {
            // With the lock, so that no new token loses its event. It cannot fail: the counter is 1.
            let _ = rustix::io::read(&self.0.readable, &mut [0; 8]);
        }
        std::mem::take(&mut state.ended).into()
    }
}

impl AsFd for EndedHandles {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of one watched handle.
struct Watched {
    token: u64,
    ended: AtomicBool,
    shared: Arc<Shared>,
}

impl Watched {
    fn end(&self) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.shared.lock();
        state.open -= 1;
        state.ended.push_back(self.token);
        if state.ended.len() == 1 {
            // It cannot fail: the counter was 0.
            let _ = rustix::io::write(&self.shared.readable, &1_u64.to_ne_bytes());
        }
    }
}

impl Wake for Watched {
    fn wake(self: Arc<Self>) {
        self.end();
    }
}

impl Drop for Watched {
    /// Somebody else awaits the handle now.
    fn drop(&mut self) {
        if !*self.ended.get_mut() && self.shared.pid == process_id() {
            self.shared.lock().open -= 1;
        }
    }
}

impl<R> sealed::PollEnded for CallHandle<R> {
    fn poll_ended(&self, waker: &Waker) -> bool {
        self.poll_ended(waker)
    }
}

impl sealed::PollEnded for CastHandle {
    fn poll_ended(&self, waker: &Waker) -> bool {
        self.poll_ended(waker)
    }
}

impl<R: ReportResult> sealed::PollEnded for ReportHandle<R> {
    fn poll_ended(&self, waker: &Waker) -> bool {
        self.poll_ended(waker)
    }
}

impl<R> Handle for CallHandle<R> {}
impl Handle for CastHandle {}
impl<R: ReportResult> Handle for ReportHandle<R> {}
