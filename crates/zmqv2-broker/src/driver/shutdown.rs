//! When a stopping broker ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use zmqv2_proto::deadline;

use super::actions::Routing;
use crate::engine::Input;
use crate::threads::now;

/// A drained broker ends after this long without an answer. A request that arrives when nobody
/// reads any more would look to its sender as if it might have run. It would also make the kernel
/// reset the connection, and the sender would lose the answers that it has not read yet.
const QUIET: Duration = Duration::from_millis(100);
/// The longest time for which a drained broker goes on refusing requests, and waits for listeners.
const MAX_LINGER: Duration = Duration::from_secs(1);

/// Stops a running broker from another thread. `Send + Sync`, cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopper {
    requests: Arc<AtomicU8>,
    waker: Arc<mio::Waker>,
}

impl Stopper {
    /// The first call stops the broker gracefully: it takes no new work, finishes what is in flight
    /// within [`drain_timeout`](crate::Settings::drain_timeout), and ends. The second call ends it
    /// now.
    pub fn stop(&self) {
        let add = |requests: u8| Some(requests.saturating_add(1));
        let _ = self.requests.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the broker: {error}");
        }
    }

    fn requests(&self) -> u8 {
        self.requests.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
pub(super) struct Shutdown {
    stopper: Stopper,
    drain_timeout: Duration,
    /// When the broker ends even if something is still in flight.
    end_at: Option<Instant>,
}

impl Shutdown {
    pub(super) fn new(waker: Arc<mio::Waker>, drain_timeout: Duration) -> Self {
        Self { stopper: Stopper { requests: Arc::default(), waker }, drain_timeout, end_at: None }
    }

    pub(super) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    pub(super) fn begin_if_requested(&mut self, routing: &mut Routing) {
        if self.stopper.requests() > 0 && self.end_at.is_none() {
            let (in_flight, timeout) = (routing.engine().in_flight(), self.drain_timeout);
            log::info!("stopping: {in_flight} requests in flight have {timeout:?} to finish");
            self.end_at = Some(deadline(now(), timeout));
            routing.handle_now(Input::Drain);
        }
    }

    /// When the broker ends, unless it sends another answer before.
    pub(super) fn ends_at(&self, routing: &Routing) -> Option<Instant> {
        let drained = routing.drained_at.map(|drained_at| {
            // A listener may be about to finish a notification. Without its report the notification
            // would be delivered again after the restart.
            let awaits_listeners = routing.store.is_durable() && routing.engine().has_unhandled_notifications();
            let latest = drained_at + MAX_LINGER;
            if awaits_listeners { latest } else { latest.min(routing.last_answer_at + QUIET) }
        });
        [drained, self.end_at].into_iter().flatten().min()
    }

    pub(super) fn is_over(&self, routing: &Routing) -> bool {
        self.is_immediate() || self.ends_at(routing).is_some_and(|at| at <= now())
    }

    /// Whether late requests may still be refused.
    pub(super) fn may_linger(&self, routing: &Routing) -> bool {
        !self.is_immediate() && routing.drained_at.is_some_and(|at| now() < at + MAX_LINGER)
    }

    fn is_immediate(&self) -> bool {
        self.stopper.requests() > 1
    }
}
