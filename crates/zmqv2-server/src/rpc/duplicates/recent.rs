//! The ids of recent requests. Pure: `now` comes from the caller.
//!
//! An id is kept until the request's time to live is over and [`GRACE`] has passed. Nobody sends
//! the request again after that. Above [`Bounds`], the oldest ids are forgotten earlier.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use zmqv2_proto::MessageId;

/// Time in a socket is not always subtracted from the time to live. So a request may come again
/// with time left although the time of the first one is over.
const GRACE: Duration = Duration::from_secs(60);

/// The limits of what is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) ids: usize,
    /// Bytes of all answers.
    pub(crate) bytes: usize,
}

impl Default for Bounds {
    /// With 10,000 such requests a second these are the ids of 10 seconds, in about 10 MB.
    fn default() -> Self {
        Self { ids: 100_000, bytes: 64 << 20 }
    }
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen<A> {
    /// The request has not come before.
    New,
    Running,
    /// The request has run, with this answer.
    Answered(A),
}

/// Ids, with the answers `A` of the requests that have run.
#[derive(Debug, Default)]
pub(crate) struct RecentIds<A> {
    bounds: Bounds,
    /// Answers with their sizes.
    answers: HashMap<MessageId, Option<(A, usize)>>,
    /// Deadlines and ids, in the order of arrival.
    order: VecDeque<(Instant, MessageId)>,
    bytes: usize,
}

impl<A: Clone> RecentIds<A> {
    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.answers.contains_key(&id)
    }

    /// Looks up a request that may come again until `deadline`. Keeps its id.
    pub(crate) fn record(&mut self, id: MessageId, deadline: Instant, now: Instant) -> Seen<A> {
        match self.answers.get(&id) {
            Some(Some((answer, _))) => return Seen::Answered(answer.clone()),
            Some(None) => return Seen::Running,
            None => {}
        }
        self.answers.insert(id, None);
        self.order.push_back((deadline, id));
        self.forget(now);
        Seen::New
    }

    /// Keeps the answer of a request that has run.
    pub(crate) fn store(&mut self, id: MessageId, answer: A, bytes: usize, now: Instant) {
        if let Some(stored @ None) = self.answers.get_mut(&id) {
            *stored = Some((answer, bytes));
            self.bytes += bytes;
            self.forget(now);
        }
    }

    /// Forgets a request that was not run.
    pub(crate) fn remove(&mut self, id: MessageId) {
        if let Some((_, bytes)) = self.answers.remove(&id).flatten() {
            self.bytes -= bytes;
        }
    }

    /// Forgets ids whose time is over, and the oldest above the bounds.
    fn forget(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.order.front().copied() {
            // Deadlines are nearly in order: an id may stay until an earlier one is forgotten.
            let over = self.answers.len() > self.bounds.ids || self.bytes > self.bounds.bytes;
            if deadline + GRACE > now && !over {
                return;
            }
            self.order.pop_front();
            if let Some((_, bytes)) = self.answers.remove(&id).flatten() {
                self.bytes -= bytes;
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/recent.rs"]
mod tests;
