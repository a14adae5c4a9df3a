//! The records of a store, and the changes to them.

use std::time::Duration;

use zmqv2_proto::{HeaderView, Ttl};

/// A notification, or one pool's copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Unique in the store. Later records have higher numbers.
    pub number: u64,
    /// The message's header frame: key, pool (as server), id, and time to live when it was stored.
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    /// When it expires, in wall-clock milliseconds since the epoch
    /// ([`wall_clock_ms`](super::wall_clock_ms)).
    pub expires_ms: u64,
}

impl Record {
    /// The time to live that is left at the wall-clock time `now_ms`; zero if the record has
    /// expired. Never more than the header's time to live, because clocks may be set back.
    pub fn ttl_left(&self, now_ms: u64) -> Ttl {
        let left = Ttl::from(Duration::from_millis(self.expires_ms.saturating_sub(now_ms)));
        HeaderView::new(&self.header).map_or(left, |view| left.min(view.ttl()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.header.len() + self.body.len()
    }
}

/// A dead letter: a notification that was given up and is kept for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRecord {
    pub record: Record,
    pub why: String,
    pub deliveries: u64,
    /// When it was given up, in wall-clock milliseconds since the epoch.
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add this record, which has a new number.
    Put(Record),
    /// Erase the live record with this number. Without such a record nothing happens.
    Erase(u64),
    /// Move the live record with this number to the dead letters. Without such a record nothing
    /// happens. Above [`MAX_DEAD_LETTERS`](super::MAX_DEAD_LETTERS) or
    /// [`MAX_DEAD_LETTER_BYTES`](super::MAX_DEAD_LETTER_BYTES), the oldest dead letters are erased.
    MoveToDeadLetters { number: u64, why: String, deliveries: u64, at_ms: u64 },
}

impl Change {
    /// Its approximate size while it waits for a commit.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(record) => record.bytes(),
            Self::Erase(_) => 0,
            Self::MoveToDeadLetters { why, .. } => why.len(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Notifications to deliver, by ascending number. Some may have expired.
    pub live: Vec<Record>,
    pub dead: Vec<DeadRecord>,
}

impl Contents {
    /// The number after the highest one in the store.
    pub fn next_number(&self) -> u64 {
        let numbers = self.live.iter().chain(self.dead.iter().map(|dead| &dead.record)).map(|record| record.number);
        numbers.max().map_or(0, |last| last.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::{Header, Kind, MessageId};

    use super::*;

    fn record(ttl_ms: u32, expires_ms: u64) -> Record {
        let mut header = Header::new(Kind::Notify, MessageId::from_bytes([7; 16]));
        header.ttl = Ttl::from_millis(ttl_ms);
        Record { number: 1, header: header.encode(), body: Vec::new(), expires_ms }
    }

    #[test]
    fn the_time_to_live_goes_on_while_no_broker_runs() {
        let record = record(60_000, 1_000_000);
        assert_eq!(record.ttl_left(1_000_000 - 45_000).as_millis(), 45_000);
        assert!(record.ttl_left(1_000_000).is_expired());
        assert!(record.ttl_left(u64::MAX).is_expired());
    }

    #[test]
    fn a_clock_that_was_set_back_extends_no_time_to_live() {
        assert_eq!(record(60_000, 1_000_000).ttl_left(0).as_millis(), 60_000);
        let unreadable = Record { header: vec![0], ..record(60_000, u64::MAX) };
        assert_eq!(unreadable.ttl_left(0), Ttl::MAX);
    }

    #[test]
    fn numbers_go_on_after_the_highest_dead_or_live_one() {
        let dead_record = |number| DeadRecord { record: numbered(number), why: String::new(), deliveries: 5, at_ms: 0 };
        fn numbered(number: u64) -> Record {
            Record { number, ..record(1, 1) }
        }
        let contents = |live: &[u64], dead: &[u64]| Contents {
            live: live.iter().copied().map(numbered).collect(),
            dead: dead.iter().copied().map(dead_record).collect(),
        };
        assert_eq!(contents(&[], &[]).next_number(), 0);
        assert_eq!(contents(&[3, 7], &[5]).next_number(), 8);
        assert_eq!(contents(&[3], &[9, 5]).next_number(), 10);
    }
}
