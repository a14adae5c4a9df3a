//! Gives a request that comes again the answer of its first run.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::{Flags, MessageId};

use super::recent::{RecentIds, Seen};
use crate::runtime::now;

/// The flags and the body of the answer to a call. `None` for a cast, and for a call that was
/// cancelled or whose answer could not be written.
pub(crate) type StoredAnswer = Option<Arc<(Flags, Vec<u8>)>>;

#[derive(Debug, Default)]
pub(crate) struct RepeatedRequests {
    recent: Mutex<RecentIds<StoredAnswer>>,
    answered: Condvar,
}

impl RepeatedRequests {
    /// Looks up a request that may come again until `deadline`. Keeps its id.
    pub(crate) fn record(&self, id: MessageId, deadline: Instant) -> Seen<StoredAnswer> {
        self.lock().record(id, deadline, now())
    }

    /// Waits for the answer of a request that runs, until `deadline`.
    pub(crate) fn wait(&self, id: MessageId, deadline: Instant) -> Option<StoredAnswer> {
        let mut recent = self.lock();
        loop {
            let left = deadline.saturating_duration_since(now());
            match recent.record(id, deadline, now()) {
                Seen::Answered(answer) => return Some(answer),
                Seen::Running if !left.is_zero() => {}
                // `New`: its id was forgotten meanwhile, so a run now could be the second one.
                Seen::Running | Seen::New => return None,
            }
            recent = self.answered.wait_timeout(recent, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps the answer of a request that has run.
    pub(crate) fn store(&self, id: MessageId, answer: StoredAnswer) {
        let bytes = answer.as_ref().map_or(0, |answer| answer.1.len());
        self.lock().store(id, answer, bytes, now());
        self.answered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, RecentIds<StoredAnswer>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
