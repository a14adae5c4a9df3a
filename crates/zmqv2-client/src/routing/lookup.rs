//! A question to the directory that has no answer yet. Threads and futures wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use zmqv2_matchmaker::{MatchmakerError, Placement};

use crate::clock;
use crate::wake::wake;

/// The answer of the directory.
pub(crate) type LookupResult = Result<Arc<Placement>, Arc<MatchmakerError>>;

#[derive(Debug, Default)]
pub(crate) struct Lookup {
    state: Mutex<LookupState>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct LookupState {
    answer: Option<LookupResult>,
    next_number: u64,
    /// The futures that wait.
    wakers: BTreeMap<u64, Waker>,
}

impl Lookup {
    pub(super) fn finish(&self, answer: LookupResult) {
        let mut state = self.lock();
        state.answer = Some(answer);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.answered.notify_all();
        wakers.into_values().for_each(wake);
    }

    /// The answer, if it is there.
    pub(super) fn answer(&self) -> Option<LookupResult> {
        self.lock().answer.clone()
    }

    /// The answer, if it comes until then.
    pub(super) fn wait(&self, deadline: Instant) -> Option<LookupResult> {
        let left = deadline.saturating_duration_since(clock::now());
        let waited = self.answered.wait_timeout_while(self.lock(), left, |state| state.answer.is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.answer.clone()
    }

    fn lock(&self) -> MutexGuard<'_, LookupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that waits for an answer. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct LookupWait<'a> {
    lookup: &'a Lookup,
    number: Option<u64>,
}

impl<'a> LookupWait<'a> {
    pub(crate) fn new(lookup: &'a Lookup) -> Self {
        Self { lookup, number: None }
    }

    /// The answer. While there is none, `waker` is woken when it comes.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<LookupResult> {
        let mut state = self.lookup.lock();
        if let Some(answer) = &state.answer {
            return Poll::Ready(answer.clone());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next_number += 1;
            state.next_number
        });
        state.wakers.insert(number, waker.clone());
        Poll::Pending
    }
}

impl Drop for LookupWait<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.lookup.lock().wakers.remove(&number);
        }
    }
}
