//! Bounds the dead letters of a store in number and bytes. The oldest go first.

use std::collections::VecDeque;

/// The most dead letters that are kept.
pub const MAX_DEAD_LETTERS: usize = 1_000;
/// The most bytes of all dead letters. The newest one is kept whatever its size.
pub const MAX_DEAD_LETTER_BYTES: usize = 16 << 20;

/// Keys and sizes of the dead letters in the file, oldest first.
#[derive(Debug, Default)]
pub(super) struct DeadLetterIndex {
    entries: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl DeadLetterIndex {
    pub(super) fn next_key(&self) -> u64 {
        self.entries.back().map_or(0, |(key, _)| key.saturating_add(1))
    }

    pub(super) fn add(&mut self, key: u64, bytes: usize) {
        self.entries.push_back((key, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Takes out the oldest dead letter, if a bound is exceeded.
    pub(super) fn pop_excess(&mut self) -> Option<u64> {
        let full = self.entries.len() > MAX_DEAD_LETTERS || self.bytes > MAX_DEAD_LETTER_BYTES;
        if !full || self.entries.len() == 1 {
            return None;
        }
        let (key, bytes) = self.entries.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(index: &mut DeadLetterIndex, bytes: usize) -> Vec<u64> {
        index.add(index.next_key(), bytes);
        std::iter::from_fn(|| index.pop_excess()).collect()
    }

    #[test]
    fn above_the_number_the_oldest_go() {
        let mut index = DeadLetterIndex::default();
        for _ in 0..MAX_DEAD_LETTERS {
            assert!(add(&mut index, 10).is_empty());
        }
        assert_eq!(add(&mut index, 10), [0]);
        assert_eq!(add(&mut index, 10), [1]);
    }

    #[test]
    fn above_the_bytes_the_oldest_go_but_the_newest_stays() {
        let mut index = DeadLetterIndex::default();
        let third = MAX_DEAD_LETTER_BYTES / 3;
        assert!((0..3).all(|_| add(&mut index, third).is_empty()));
        assert_eq!(add(&mut index, third), [0]);
        assert_eq!(add(&mut index, MAX_DEAD_LETTER_BYTES + 1), [1, 2, 3]);
        assert_eq!(add(&mut index, 1), [4]);
        assert!(add(&mut index, 1).is_empty());
    }
}
