//! Whether to look for the next message before a sleep. Pure.
//!
//! To be woken costs more than all that the broker does with a message. A caller who waits for an answer before it calls again
//! gains most: the answer, and the next call, come within microseconds.

/// So many looks that found something, or did not, decide.
const MEMORY: u8 = 8;
/// When looks are of no use, one in so many sleeps begins with one nevertheless: times change.
const TRY_AGAIN: u8 = 32;
/// How messages have come lately.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Looks that found something, less those that did not.
    found: u8,
    /// Sleeps without a look since the last one.
    slept: u8,
}

impl Pace {
    /// Whether to look before the next sleep; `heard`: messages have come since the last one.
    pub(crate) fn looks(&mut self, heard: bool) -> bool {
        if !heard {
            return false;
        }
        if self.found > 0 {
            return true;
        }
        self.slept += 1;
        if self.slept < TRY_AGAIN {
            return false;
        }
        self.slept = 0;
        true
    }

    /// A look has, or has not, found something.
    pub(crate) fn looked(&mut self, found: bool) {
        self.found = if found { (self.found + 2).min(MEMORY) } else { self.found.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `sleeps` begin with a look that comes to `found`.
    fn looks(pace: &mut Pace, sleeps: usize, found: bool) -> usize {
        let mut looks = 0;
        for _ in 0..sleeps {
            if pace.looks(true) {
                looks += 1;
                pace.looked(found);
            }
        }
        looks
    }

    #[test]
    fn it_looks_while_that_finds_something_and_tries_again_from_time_to_time() {
        let mut pace = Pace::default();
        assert_eq!(looks(&mut pace, usize::from(TRY_AGAIN) - 1, true), 0);
        assert_eq!(looks(&mut pace, 101, true), 101);
        // One that calls now and then: it finds the answers, and not the next calls.
        for _ in 0..100 {
            assert_eq!((looks(&mut pace, 1, true), looks(&mut pace, 1, false)), (1, 1));
        }
        // Nothing came, and so nothing follows from it.
        assert!(!pace.looks(false));
        // Nobody comes any more.
        let in_vain = looks(&mut pace, 1_000, false);
        assert!((1_000 / 33..=usize::from(MEMORY) + 1_000 / 32).contains(&in_vain), "{in_vain}");
    }
}
