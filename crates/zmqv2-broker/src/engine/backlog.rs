//! A FIFO queue of tags. A request may leave from the middle, and its tag is skipped later.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    tags: VecDeque<u64>,
    live: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, tag: u64, is_live: impl Fn(u64) -> bool) {
        if self.tags.len() > 64 && self.tags.len() > 2 * self.live {
            self.tags.retain(|tag| is_live(*tag));
        }
        self.tags.push_back(tag);
        self.live += 1;
    }

    pub(super) fn push_front(&mut self, tag: u64) {
        self.tags.push_front(tag);
        self.live += 1;
    }

    /// Puts a tag in front of the first younger one.
    pub(super) fn insert(&mut self, tag: u64, is_younger: impl Fn(u64) -> bool) {
        let at = self.tags.iter().position(|tag| is_younger(*tag)).unwrap_or(self.tags.len());
        self.tags.insert(at, tag);
        self.live += 1;
    }

    /// The first live tag. It stays in the queue.
    pub(super) fn front(&mut self, is_live: impl Fn(u64) -> bool) -> Option<u64> {
        while let Some(tag) = self.tags.front() {
            if is_live(*tag) {
                return Some(*tag);
            }
            self.tags.pop_front();
        }
        None
    }

    /// Takes out the tag that [`front`](Self::front) returned.
    pub(super) fn pop(&mut self) {
        self.live -= usize::from(self.tags.pop_front().is_some());
    }

    /// Counts a request that left from the middle.
    pub(super) fn count_removed(&mut self) {
        self.live -= 1;
    }

    /// Takes out all tags that match, which must be live.
    pub(super) fn take_where(&mut self, matches: impl Fn(u64) -> bool) -> Vec<u64> {
        let taken: Vec<u64> = self.tags.iter().copied().filter(|tag| matches(*tag)).collect();
        self.tags.retain(|tag| !matches(*tag));
        self.live -= taken.len();
        taken
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }
}
