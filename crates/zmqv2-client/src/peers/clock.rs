//! An estimate of a broker's clock from the times in its answers. Pure.
//!
//! All times are milliseconds of monotonic clocks: `sent` and `received` of this client's clock,
//! `stamp` of the broker's. The *offset* is the broker's time minus the client's. An answer that was
//! stamped at `stamp` and received at `received` was not stamped later than it was received. So the
//! offset is at least `stamp - received`. It is at most `stamp - sent`, because the question was not
//! sent later than its answer was stamped.
//!
//! A request is stamped by the least possible offset. So a broker never takes it for younger than it
//! is, and at most for older by the shortest way of an answer. Each answer with a shorter way
//! improves the estimate.

/// Clocks differ by less than 1 ms in this many: 200 parts per million.
const DRIFT: u64 = 5_000;
/// Times are whole milliseconds. This is how much two of them may differ by rounding.
const ROUNDING: i64 = 2;
/// Without a useful answer for this long, the broker is asked again.
const FRESH_FOR: u64 = 120_000;

/// The clock of one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerClock {
    /// It is the clock of this process.
    Own,
    /// Another one.
    Other(Estimate),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    /// The least possible offset at `least_at`.
    least: i64,
    least_at: u64,
    /// The greatest possible offset at `most_at`.
    most: i64,
    most_at: u64,
    /// An answer did not fit: one of the clocks has made a jump, for example while its machine
    /// slept, or it is another broker.
    doubtful: bool,
}

impl PeerClock {
    /// A question was answered. `same`: both clocks have the same number.
    pub(super) fn asked(same: bool, sent: u64, received: u64, stamp: u64) -> Self {
        let offset = |own: u64| i64::try_from(i128::from(stamp) - i128::from(own)).unwrap_or(0);
        let (least, most) = (offset(received), offset(sent));
        if same && least <= ROUNDING && most >= -ROUNDING {
            // Other hosts may have this number by chance. If so, 0 is as good as any in between.
            return Self::Own;
        }
        Self::Other(Estimate { least, least_at: received, most, most_at: received, doubtful: false })
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, received: u64, stamp: u64) {
        let Self::Other(estimate) = self else { return };
        let offset = i64::try_from(i128::from(stamp) - i128::from(received)).unwrap_or(i64::MIN);
        if offset > estimate.most + drift(estimate.most_at, received) + ROUNDING {
            estimate.doubtful = true;
        } else if offset >= estimate.least_at(received) {
            (estimate.least, estimate.least_at) = (offset, received);
        }
    }

    /// The broker's time at `now`, or a little earlier. `None`: the estimate is too old, so the
    /// broker must be asked again.
    pub(super) fn at(&self, now: u64) -> Option<u64> {
        match self {
            Self::Own => Some(now),
            Self::Other(estimate) if estimate.doubtful || now.saturating_sub(estimate.least_at) > FRESH_FOR => None,
            Self::Other(estimate) => Some(now.saturating_add_signed(estimate.least_at(now)).max(1)),
        }
    }
}

impl Estimate {
    /// The least possible offset at `now`.
    fn least_at(&self, now: u64) -> i64 {
        self.least.saturating_sub(drift(self.least_at, now))
    }
}

/// By how much two clocks may have moved apart.
fn drift(since: u64, now: u64) -> i64 {
    i64::try_from(now.saturating_sub(since) / DRIFT).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_with_the_same_clock_needs_no_estimate() {
        assert_eq!(PeerClock::asked(true, 1_000, 1_500, 1_200), PeerClock::Own);
        // Rounding, and a clock that was read on another processor.
        assert_eq!(PeerClock::asked(true, 1_000, 1_000, 1_001), PeerClock::Own);
        assert_eq!(PeerClock::asked(true, 1_001, 1_001, 1_000), PeerClock::Own);
        // Another host has this number by chance.
        assert_ne!(PeerClock::asked(true, 1_000, 1_001, 90_000), PeerClock::Own);
        assert_ne!(PeerClock::asked(false, 1_000, 1_001, 1_000), PeerClock::Own);
        let mut own = PeerClock::Own;
        own.answered(1_000, 5_000_000);
        assert_eq!((own, own.at(7)), (PeerClock::Own, Some(7)));
    }

    #[test]
    fn answers_with_a_shorter_way_improve_the_estimate() {
        // The true offset is 500, and each way of the first answer took 100 ms.
        let mut clock = PeerClock::asked(false, 1_000, 1_200, 1_600);
        assert_eq!(clock.at(2_000), Some(2_400));
        clock.answered(2_050, 2_540);
        assert_eq!(clock.at(2_050), Some(2_540));
        clock.answered(3_050, 3_450);
        assert_eq!(clock.at(3_050), Some(3_540), "a slow answer tells nothing");
        // After 10 s the clocks may have moved apart by 2 ms. Every answer brings that up to date.
        assert_eq!(clock.at(12_050), Some(12_538));
        clock.answered(12_050, 12_549);
        assert_eq!(clock.at(12_050), Some(12_549));
    }

    #[test]
    fn an_estimate_that_is_old_or_cannot_be_right_is_no_estimate() {
        let mut clock = PeerClock::asked(false, 1_000, 1_010, 5_005);
        assert!(clock.at(1_010 + FRESH_FOR).is_some() && clock.at(1_011 + FRESH_FOR).is_none());
        clock.answered(100_000, 103_995);
        assert!(clock.at(1_011 + FRESH_FOR).is_some());
        // The client's machine slept for a minute.
        clock.answered(110_000, 174_000);
        assert_eq!(clock.at(110_000), None);
        clock = PeerClock::asked(false, 111_000, 111_010, 175_005);
        assert_eq!(clock.at(111_010), Some(175_005));
    }

    #[test]
    fn no_time_makes_it_panic() {
        for (sent, received, stamp) in [(0, 0, u64::MAX), (u64::MAX, u64::MAX, 0), (0, u64::MAX, 1), (5, 1, 3)] {
            let mut clock = PeerClock::asked(false, sent, received, stamp);
            for now in [0, 1, u64::MAX] {
                clock.answered(now, stamp);
                clock.answered(now, u64::MAX - stamp);
                let _ = clock.at(now);
            }
        }
    }
}
