//! The table of pending messages, for benchmarks. Not part of the public interface.

use std::time::{Duration, Instant};

use zmqv2_proto::deadline;

use crate::delivery::table::{Action, DeliveryOptions, Input, Limits, PendingTable, Tag};

/// A table with one link that takes every message at once.
#[derive(Debug)]
pub struct AckTable {
    table: PendingTable<u64, ()>,
    now: Instant,
}

impl AckTable {
    /// A table in which `open` messages wait for answers that never come.
    #[must_use]
    pub fn new(now: Instant, open: usize) -> Self {
        let limits =
            Limits { messages: open + 1, bytes: usize::MAX, connect_timeout: Duration::from_secs(2), jitter: 0 };
        let mut table = Self { table: PendingTable::new(limits), now };
        for number in 0..open {
            table.send(number as u64);
        }
        table
    }

    /// Sends one message and answers it. Returns whether it ended with the answer.
    pub fn round_trip(&mut self) -> bool {
        let Some(tag) = self.send(0) else { return false };
        self.now += Duration::from_micros(10);
        self.table.handle(self.now, Input::Answered { tag, answer: (), more: false });
        matches!(self.table.poll_action(), Some(Action::End { result: Ok(()), .. }))
    }

    fn send(&mut self, message: u64) -> Option<Tag> {
        let deadline = deadline(self.now, Duration::from_secs(30));
        let options = DeliveryOptions { candidates: 1, bytes: 128, ..DeliveryOptions::new(deadline) };
        self.table.admit(self.now, message, options).ok()?;
        while let Some(action) = self.table.poll_action() {
            if let Action::ChooseLink { tag, .. } = action {
                self.table.handle(self.now, Input::LinkChosen { tag, link: Some(0) });
            }
        }
        let (tag, ..) = self.table.nth_to_send(0, 0)?;
        self.table.handle(self.now, Input::Sent { tag });
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MANY: usize = 10_000;
    /// So few that a run fits into the time that a busy machine gives to a thread at once.
    const ROUND_TRIPS: u32 = 25;

    #[test]
    fn a_message_costs_the_same_beside_many_that_are_open() {
        let mut tables = [0, MANY].map(|open| AckTable::new(clock::now(), open));
        let mut least = [Duration::MAX; 2];
        // The minimum of several runs: other programs only add time.
        for _ in 0..300 {
            for (table, least) in tables.iter_mut().zip(&mut least) {
                let began = clock::now();
                assert!((0..ROUND_TRIPS).all(|_| table.round_trip()));
                *least = (clock::now() - began).min(*least);
            }
        }
        let ratio = least[1].as_secs_f64() / least[0].as_secs_f64();
        println!("{MANY} open: {:?} against {:?} for {ROUND_TRIPS}, ratio {ratio:.2}", least[1], least[0]);
        // A cost that grows with the number of messages would be a hundred times higher or more. A cold
        // cache is not.
        assert!(ratio < 8.0, "{ratio}");
    }
}
