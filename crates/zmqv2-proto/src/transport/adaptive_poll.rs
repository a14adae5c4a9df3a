//! Polls before a sleep while recent polls found messages.

use std::io;
use std::time::Duration;

use super::poll_before_sleep;

/// The largest value of `found`: a loop stops polling after this many polls without a message.
const MEMORY: u8 = 8;
/// While polls find nothing, one of this many sleeps still begins with a poll.
const TRY_AGAIN: u8 = 32;

/// Decides for an I/O loop whether it polls for the next message before it sleeps.
///
/// A wake-up costs more than the work on a message. Polling helps most for a caller that waits for
/// each answer before its next call: the answer and the next call come within microseconds. A loop
/// stops polling soon when polls find nothing, and yields the processor between two looks.
#[derive(Debug)]
pub struct AdaptivePoll {
    span: Duration,
    /// Plus 2 for each poll that found something, minus 1 for each that did not, 0 to [`MEMORY`].
    found: u8,
    /// Sleeps since the last poll.
    slept: u8,
}

impl AdaptivePoll {
    /// For a loop that polls for up to `span`. Zero turns adaptive polling off.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { span, found: 0, slept: 0 }
    }

    /// Polls with `look` before a sleep of `timeout`: for `always`, or longer if a message may come
    /// and recent polls found some. Returns whether `look` found something, and the rest of the
    /// timeout.
    ///
    /// # Errors
    /// The error of `look`.
    pub fn look(
        &mut self,
        may_come: bool,
        always: Duration,
        timeout: Option<Duration>,
        mut look: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<(bool, Option<Duration>)> {
        let pays = may_come && !self.span.is_zero() && self.is_worth_it();
        let span = if pays { self.span.max(always) } else { always };
        let found = poll_before_sleep(span, timeout, || {
            let found = look()?;
            if !found {
                std::thread::yield_now();
            }
            Ok(found)
        })?;
        if pays {
            self.found = if found { (self.found + 2).min(MEMORY) } else { self.found.saturating_sub(1) };
        }
        Ok((found, timeout.map(|timeout| timeout.saturating_sub(span))))
    }

    fn is_worth_it(&mut self) -> bool {
        if self.found > 0 {
            return true;
        }
        self.slept = (self.slept + 1) % TRY_AGAIN;
        self.slept == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `sleeps` begin with a poll, all with the result `found`.
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
    fn it_polls_while_polls_find_something_and_tries_again_from_time_to_time() {
        let mut pace = AdaptivePoll::new(Duration::from_micros(1));
        assert_eq!(looks(&mut pace, usize::from(TRY_AGAIN) - 1, true, true), 0);
        assert_eq!(looks(&mut pace, 101, true, true), 101);
        // A caller with pauses: polls find the answers, but not the next calls.
        for _ in 0..100 {
            assert_eq!((looks(&mut pace, 1, true, true), looks(&mut pace, 1, true, false)), (1, 1));
        }
        assert_eq!(looks(&mut pace, 100, false, true), 0, "nothing can come");
        // No more calls.
        let in_vain = looks(&mut pace, 1_000, true, false);
        assert!((1_000 / 33..=usize::from(MEMORY) + 1_000 / 32).contains(&in_vain), "{in_vain}");
    }

    #[test]
    fn without_a_span_it_never_polls() {
        assert_eq!(looks(&mut AdaptivePoll::new(Duration::ZERO), 100, true, true), 0);
    }
}
