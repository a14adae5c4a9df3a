//! Which dead letters stay: bounded in number and bytes, the newest first.

use std::collections::VecDeque;

/// The most dead letters that are kept.
pub const MAX_DEAD_LETTERS: usize = 1_000;
/// The most bytes of all dead letters (headers, bodies and reasons). The newest one is kept whatever its size.
pub const MAX_DEAD_LETTER_BYTES: usize = 16 << 20;

/// The dead letters of a store, by their place in the order of burial.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    plots: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Graveyard {
    /// The place of the next one.
    pub(super) fn next_place(&self) -> u64 {
        self.plots.back().map_or(0, |(place, _)| place.saturating_add(1))
    }

    /// Adds the one at `place`, the last so far.
    pub(super) fn add(&mut self, place: u64, bytes: usize) {
        self.plots.push_back((place, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The oldest one, if it has to go.
    pub(super) fn surplus(&mut self) -> Option<u64> {
        let full = self.plots.len() > MAX_DEAD_LETTERS || self.bytes > MAX_DEAD_LETTER_BYTES;
        if !full || self.plots.len() == 1 {
            return None;
        }
        let (place, bytes) = self.plots.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bury(graveyard: &mut Graveyard, bytes: usize) -> Vec<u64> {
        graveyard.add(graveyard.next_place(), bytes);
        std::iter::from_fn(|| graveyard.surplus()).collect()
    }

    #[test]
    fn the_oldest_go_above_the_number() {
        let mut graveyard = Graveyard::default();
        for _ in 0..MAX_DEAD_LETTERS {
            assert!(bury(&mut graveyard, 10).is_empty());
        }
        assert_eq!(bury(&mut graveyard, 10), [0]);
        assert_eq!(bury(&mut graveyard, 10), [1]);
    }

    #[test]
    fn the_oldest_go_above_the_bytes_but_the_newest_stays() {
        let mut graveyard = Graveyard::default();
        let third = MAX_DEAD_LETTER_BYTES / 3;
        assert!((0..3).all(|_| bury(&mut graveyard, third).is_empty()));
        assert_eq!(bury(&mut graveyard, third), [0]);
        assert_eq!(bury(&mut graveyard, MAX_DEAD_LETTER_BYTES + 1), [1, 2, 3]);
        assert_eq!(bury(&mut graveyard, 1), [4]);
        assert!(bury(&mut graveyard, 1).is_empty());
    }
}
