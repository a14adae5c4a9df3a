//! A first-in-first-out queue of tags whose requests may leave from the middle when they expire.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    tags: VecDeque<u64>,
    live: usize,
}

impl From<VecDeque<u64>> for Backlog {
    /// All of the tags are live.
    fn from(tags: VecDeque<u64>) -> Self {
        Self { live: tags.len(), tags }
    }
}

impl Backlog {
    pub(super) fn push(&mut self, tag: u64, is_live: impl Fn(u64) -> bool) {
        if self.tags.len() > 64 && self.tags.len() > 2 * self.live {
            self.tags.retain(|tag| is_live(*tag));
        }
        self.tags.push_back(tag);
        self.live += 1;
    }

    /// Puts a tag in front of all others.
    pub(super) fn push_front(&mut self, tag: u64) {
        self.tags.push_front(tag);
        self.live += 1;
    }

    /// Puts a tag before the first that `is_younger`.
    pub(super) fn insert(&mut self, tag: u64, is_younger: impl Fn(u64) -> bool) {
        let at = self.tags.iter().position(|tag| is_younger(*tag)).unwrap_or(self.tags.len());
        self.tags.insert(at, tag);
        self.live += 1;
    }

    /// The first tag that is still live, left in place.
    pub(super) fn front(&mut self, is_live: impl Fn(u64) -> bool) -> Option<u64> {
        while let Some(tag) = self.tags.front() {
            if is_live(*tag) {
                return Some(*tag);
            }
            self.tags.pop_front();
        }
        None
    }

    /// Takes out what [`front`](Self::front) returned.
    pub(super) fn pop(&mut self) {
        self.live -= usize::from(self.tags.pop_front().is_some());
    }

    /// One of its requests left by itself.
    pub(super) fn count_removed(&mut self) {
        self.live -= 1;
    }

    /// Takes out everything; some of the tags may not be live.
    pub(super) fn take(&mut self) -> VecDeque<u64> {
        self.live = 0;
        std::mem::take(&mut self.tags)
    }

    /// Live requests.
    pub(super) fn len(&self) -> usize {
        self.live
    }
}
