//! Whether to look for the next message before a sleep. Pure.
//!
//! To be woken costs more than all that the broker does with a message. A caller who waits for an answer before it calls again
//! gains most: the answer, and the next call, come within microseconds. When much comes together, there is always something
//! to do, and processors are needed elsewhere.

/// So many looks that found something, or did not, decide.
const MEMORY: u8 = 8;
/// When looks are of no use, one in so many sleeps begins with one nevertheless: times change.
const TRY_AGAIN: u8 = 32;
/// More messages than this at a time are not one caller's.
const FEW: usize = 2;

/// How messages have come lately.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Looks that found something, less those that did not.
    found: u8,
    /// Sleeps without a look since the last one.
    slept: u8,
}

impl Pace {
    /// Whether to look before the next sleep, `messages` after the last one.
    pub(crate) fn looks(&mut self, messages: usize) -> bool {
        if messages == 0 || messages > FEW {
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
