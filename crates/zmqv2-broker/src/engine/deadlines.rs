//! The deadlines of requests, in a heap. Those of settled requests stay in it until a sweep.
//!
//! Removing from the middle of a heap is slow, and a timer wheel rounds. Most deadlines are later
//! than all before them, so a push is cheap. A sweep costs a constant per request on average.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Below this many entries no sweep is done.
const SWEEP_FROM: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(Instant, u64)>>);

impl Deadlines {
    /// Adds a deadline. `live` is the number of live tags, `is_live` checks one.
    pub(super) fn push(&mut self, at: Instant, tag: u64, live: usize, is_live: impl Fn(u64) -> bool) {
        if self.0.len() > SWEEP_FROM && self.0.len() > 2 * live {
            self.0.retain(|Reverse((_, tag))| is_live(*tag));
        }
        self.0.push(Reverse((at, tag)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u64> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse((_, tag))| tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn settled_requests_do_not_pile_up() {
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for tag in 0..100_000_u64 {
            // Only the last ten are live.
            deadlines.push(start + Duration::from_millis(tag), tag, 10, |t| t + 10 > tag);
        }
        assert!(deadlines.0.len() <= SWEEP_FROM + 1, "{}", deadlines.0.len());
        assert!(deadlines.pop_due(start).is_none());
        let late = start + Duration::from_secs(1000);
        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop_due(late)).collect();
        assert!(due.is_sorted() && due.ends_with(&[99_998, 99_999]));
    }
}
