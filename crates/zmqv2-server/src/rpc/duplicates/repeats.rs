//! Serves a request that comes again: waits for the first run of it, and hands out its answer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::{Flags, MessageId};

use crate::rpc::duplicates::recent::{Bounds, RecentIds, Seen};
use crate::runtime::now;

/// The answer to a call: flags and body. Empty for a cast, which has been answered before it ran.
pub(crate) type StoredAnswer = Option<Arc<(Flags, Vec<u8>)>>;

#[derive(Debug)]
pub(crate) struct RepeatedRequests {
    recent: Mutex<RecentIds<StoredAnswer>>,
    answered: Condvar,
}

impl Default for RepeatedRequests {
    fn default() -> Self {
        Self { recent: Mutex::new(RecentIds::new(Bounds::default())), answered: Condvar::new() }
    }
}

impl RepeatedRequests {
    /// What is known of a request; remembers it.
    pub(crate) fn see(&self, id: MessageId, deadline: Instant) -> Seen<StoredAnswer> {
        self.lock().see(id, deadline, now())
    }

    /// The answer of a request that runs already, or nothing at its deadline.
    pub(crate) fn wait(&self, id: MessageId, deadline: Instant) -> Option<StoredAnswer> {
        let mut recent = self.lock();
        loop {
            let left = deadline.saturating_duration_since(now());
            match recent.see(id, deadline, now()) {
                Seen::Answered(kept) => return Some(kept),
                Seen::Running if !left.is_zero() => {}
                // `New`: forgotten meanwhile, above the bounds; running it now could be the second time.
                Seen::Running | Seen::New => return None,
            }
            recent = self.answered.wait_timeout(recent, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps the answer of a request that has run.
    pub(crate) fn keep(&self, id: MessageId, kept: StoredAnswer) {
        let bytes = kept.as_ref().map_or(0, |kept| kept.1.len());
        self.lock().answer(id, kept, bytes, now());
        self.answered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, RecentIds<StoredAnswer>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
