//! Whether to look for the next message before a sleep.

use std::io;
use std::time::Duration;

use super::poll_before_sleep;

/// So many looks that found something, or did not, decide.
const MEMORY: u8 = 8;
/// When looks are of no use, one in so many sleeps begins with one nevertheless: times change.
const TRY_AGAIN: u8 = 32;

/// How messages have come lately to an I/O loop, and whether it looks for the next one before it sleeps.
///
/// To be woken costs more than all that a loop does with a message. A caller who waits for an answer before it calls again
/// gains most: the answer, and the next call, come within microseconds. Looks that find nothing end soon; between two of
/// them, whoever else needs the processor goes first.
#[derive(Debug)]
pub struct AdaptivePoll {
    span: Duration,
    /// Twice the looks that found something, less those that did not.
    found: u8,
    /// Sleeps without a look since the last one.
    slept: u8,
}

impl AdaptivePoll {
    /// For a loop that looks for so long; zero: never.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { span, found: 0, slept: 0 }
    }

    /// To be called before a sleep of `timeout`, in which something may come: looks for it, if that is of use, and at least
    /// for `always`. Whether it has come, and what is left of the timeout.
    ///
    /// # Errors
    /// That of `look`.
    pub fn look(
        &mut self,
        may_come: bool,
        always: Duration,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<(bool, Option<Duration>)> {
        let paced = may_come && !self.span.is_zero() && self.is_of_use();
        let span = if paced { self.span.max(always) } else { always };
        let found = poll_before_sleep(span, timeout, || {
            let found = look()?;
            if !found {
                std::thread::yield_now();
            }
            Ok(found)
        })?;
        if paced {
            self.note(found);
        }
        Ok((found, timeout.map(|timeout| timeout.saturating_sub(span))))
    }

    fn is_of_use(&mut self) -> bool {
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
    fn note(&mut self, found: bool) {
        self.found = if found { (self.found + 2).min(MEMORY) } else { self.found.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `sleeps` begin with a look that comes to `found`.
    fn looks(pace: &mut AdaptivePoll, sleeps: usize, may_come: bool, found: bool) -> usize {
        let mut looks = 0;
        for _ in 0..sleeps {
            let mut looked = false;
            let (has, left) = pace
                .look(may_come, Duration::ZERO, Some(Duration::from_secs(1)), || {
                    looked = true;
                    Ok(found)
                })
                .unwrap();
            assert_eq!(has, looked && found);
            assert_eq!(left < Some(Duration::from_secs(1)), looked);
            looks += usize::from(looked);
        }
        looks
    }

    #[test]
    fn it_looks_while_that_finds_something_and_tries_again_from_time_to_time() {
        let mut pace = AdaptivePoll::new(Duration::from_micros(1));
        assert_eq!(looks(&mut pace, usize::from(TRY_AGAIN) - 1, true, true), 0);
        assert_eq!(looks(&mut pace, 101, true, true), 101);
        // One that calls now and then: it finds the answers, and not the next calls.
        for _ in 0..100 {
            assert_eq!((looks(&mut pace, 1, true, true), looks(&mut pace, 1, true, false)), (1, 1));
        }
        assert_eq!(looks(&mut pace, 100, false, true), 0, "nothing can come");
        // Nobody comes any more.
        let in_vain = looks(&mut pace, 1_000, true, false);
        assert!((1_000 / 33..=usize::from(MEMORY) + 1_000 / 32).contains(&in_vain), "{in_vain}");
    }

    #[test]
    fn without_a_span_it_never_looks() {
        assert_eq!(looks(&mut AdaptivePoll::new(Duration::ZERO), 100, true, true), 0);
    }
}
