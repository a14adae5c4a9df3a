//! Requests that were seen lately: a sender that repeated itself is not served twice. Pure: `now` comes from the caller.
//!
//! Only requests whose header says that they may come again are kept, until their time to live is over and [`GRACE`] has
//! passed: nobody repeated one after that. Their number is bounded, too; above it the oldest are forgotten early.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use zmqv2_proto::MessageId;

/// The time that a message waits in a socket of a busy machine is not taken off its time to live, since nodes' clocks
/// need not agree: a repetition may come with time left when the first one's is over.
const GRACE: Duration = Duration::from_secs(60);

/// The bounds of the memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Ids.
    pub(crate) ids: usize,
    /// Bytes of kept answers.
    pub(crate) bytes: usize,
}

impl Default for Bounds {
    /// At 10,000 repeatable requests a second this is a window of 10 seconds, for about 10 MB.
    fn default() -> Self {
        Self { ids: 100_000, bytes: 64 << 20 }
    }
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen<A> {
    /// Nothing until now: run it.
    New,
    /// It runs.
    Running,
    /// It has run, and this was its answer.
    Answered(A),
}

/// The ids, with the answers `A` of those that have run.
#[derive(Debug)]
pub(crate) struct RecentIds<A> {
    bounds: Bounds,
    answers: HashMap<MessageId, Option<(A, usize)>>,
    /// In the order in which they came.
    order: VecDeque<(Instant, MessageId)>,
    bytes: usize,
}

impl<A: Clone> RecentIds<A> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, answers: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    /// Whether it is remembered.
    pub(crate) fn knows(&self, id: MessageId) -> bool {
        self.answers.contains_key(&id)
    }

    /// Looks up a request that may be repeated until `deadline`, and remembers it.
    pub(crate) fn see(&mut self, id: MessageId, deadline: Instant, now: Instant) -> Seen<A> {
        match self.answers.get(&id) {
            Some(Some((answer, _))) => return Seen::Answered(answer.clone()),
            Some(None) => return Seen::Running,
            None => {}
        }
        self.answers.insert(id, None);
        self.order.push_back((deadline, id));
        self.shrink(now);
        Seen::New
    }

    /// Keeps the answer of a request that has run.
    pub(crate) fn answer(&mut self, id: MessageId, answer: A, bytes: usize, now: Instant) {
        if let Some(kept @ None) = self.answers.get_mut(&id) {
            *kept = Some((answer, bytes));
            self.bytes += bytes;
            self.shrink(now);
        }
    }

    /// Forgets what nobody repeated any more, and the oldest above the bounds.
    fn shrink(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.order.front().copied() {
            // Deadlines are nearly in order; one that is late to go goes with those before it.
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
mod tests {
    use super::*;
    use std::time::Duration;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
        Instant::now()
    }

    fn id(n: u128) -> MessageId {
        MessageId::from_bytes(n.to_be_bytes())
    }

    #[test]
    fn a_request_runs_once_within_its_time_and_its_answer_is_kept_rg20() {
        let (now, end) = (start(), start() + Duration::from_secs(5));
        let mut recent = RecentIds::new(Bounds::default());
        assert_eq!(recent.see(id(1), end, now), Seen::New);
        assert_eq!(recent.see(id(1), end, now), Seen::Running);
        recent.answer(id(1), "done", 4, now);
        assert_eq!(recent.see(id(1), end, now), Seen::Answered("done"));
        // It waited in a socket on its way, and still has time left.
        assert_eq!(recent.see(id(1), end + GRACE, end), Seen::Answered("done"));
        // Its time is over: the next one that comes sweeps it out.
        assert_eq!(recent.see(id(2), end, end + GRACE), Seen::New);
        assert_eq!((recent.answers.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn ids_and_bytes_are_bounded() {
        let (now, end) = (start(), start() + Duration::from_secs(5));
        let mut recent = RecentIds::new(Bounds { ids: 10, bytes: 100 });
        for n in 0..1_000 {
            assert_eq!(recent.see(id(n), end, now), Seen::New);
            recent.answer(id(n), (), 30, now);
            assert!(recent.answers.len() <= 10 && recent.bytes <= 100);
            assert_eq!(recent.order.len(), recent.answers.len());
        }
        assert_eq!(recent.see(id(999), end, now), Seen::Answered(()));
        // An answer that comes when its id is forgotten is of no use.
        recent.answer(id(0), (), 30, now);
        assert!(recent.bytes <= 100);
    }
}
