//! What became of the messages of a run, and how long it took them.

use std::time::Duration;

use hdrhistogram::Histogram;
use zmqv2_broker::cli::{Exit, Failure};

/// Latencies are counted in nanoseconds up to this, about 73 minutes; what takes longer counts as that.
const LONGEST_NANOS: u64 = 1 << 42;
/// How exactly: three digits.
const DIGITS: u8 = 3;

/// How a message can end badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a typed reason.
    Refused,
    /// Nobody has said that it has it.
    Unacknowledged,
    /// Nothing came back in time.
    Timeout,
    /// Anything else: a remote error, a lost connection.
    Error,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Refused, Self::Unacknowledged, Self::Timeout, Self::Error];

    /// Its name in results, in the plural.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unacknowledged => "unacknowledged",
            Self::Timeout => "timeouts",
            Self::Error => "errors",
        }
    }
}

/// How one message has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// From its sending to its end.
    pub(super) after: Duration,
    /// `Ok`: answered, or accepted.
    pub(super) how: Result<(), (Kind, Failure)>,
}

/// The sums of a run.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) ok: u64,
    bad: [Bad; Kind::ALL.len()],
    /// Of the messages that were ok.
    latencies: Histogram<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bad {
    count: u64,
    /// The exit code that the first one leads to.
    exit: Option<Exit>,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { ok: 0, bad: Default::default(), latencies: Histogram::new_with_bounds(1, LONGEST_NANOS, DIGITS)? })
    }

    /// Counts a message that was sent `late` after its time. Gives back what went wrong, if it is the first of its kind.
    pub(super) fn record(&mut self, late: Duration, ended: Ended) -> Option<(Kind, Failure)> {
        let Err((kind, failure)) = ended.how else {
            let nanos = u64::try_from((late + ended.after).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanos);
            self.ok += 1;
            return None;
        };
        let bad = &mut self.bad[kind as usize];
        bad.count += 1;
        if bad.exit.is_some() {
            return None;
        }
        bad.exit = Some(failure.exit());
        Some((kind, failure))
    }

    /// Counts messages that had no end when the run had to.
    pub(super) fn give_up(&mut self, kind: Kind, messages: u64) {
        self.bad[kind as usize].count += messages;
    }

    pub(super) fn bad(&self, kind: Kind) -> u64 {
        self.bad[kind as usize].count
    }

    /// How many messages have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ok + Kind::ALL.map(|kind| self.bad(kind)).iter().sum::<u64>()
    }

    /// Below this stays such a share of the latencies, in microseconds; `None`: there are none.
    pub(super) fn quantile_us(&self, share: f64) -> Option<f64> {
        (self.ok > 0).then(|| micros(self.latencies.value_at_quantile(share)))
    }

    /// The longest latency, in microseconds; `None`: there are none.
    pub(super) fn max_us(&self) -> Option<f64> {
        (self.ok > 0).then(|| micros(self.latencies.max()))
    }

    /// What went wrong most often, and the exit code that it leads to.
    pub(super) fn worst(&self) -> Option<(Kind, Exit)> {
        let most = Kind::ALL.into_iter().max_by_key(|kind| self.bad(*kind))?;
        (self.bad(most) > 0).then(|| (most, self.bad[most as usize].exit.unwrap_or(Exit::Timeout)))
    }
}

/// To a tenth, which is more than the histogram knows of long ones.
fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(micros: u64) -> Ended {
        Ended { after: Duration::from_micros(micros), how: Ok(()) }
    }

    fn bad(kind: Kind, exit: Exit) -> Ended {
        Ended { after: Duration::from_secs(9), how: Err((kind, Failure::new(exit, anyhow::anyhow!("told")))) }
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut tally = Tally::new().unwrap();
        assert_eq!((tally.quantile_us(0.5), tally.max_us()), (None, None));
        for n in 1..=100 {
            tally.record(Duration::from_millis(n), ok(500));
        }
        let near = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < expected / 500.0;
        assert!(near(tally.quantile_us(0.5), 50_500.0), "{:?}", tally.quantile_us(0.5));
        assert!(near(tally.quantile_us(0.99), 99_500.0), "{:?}", tally.quantile_us(0.99));
        assert!(near(tally.max_us(), 100_500.0), "{:?}", tally.max_us());
        tally.record(Duration::MAX - Duration::from_secs(1), ok(1));
        assert!(near(tally.max_us(), LONGEST_NANOS as f64 / 1e3), "{:?}", tally.max_us());
    }

    #[test]
    fn what_failed_has_no_latency_and_only_the_first_of_each_kind_is_told() {
        let mut tally = Tally::new().unwrap();
        assert!(tally.record(Duration::ZERO, bad(Kind::Refused, Exit::Refused)).is_some());
        assert!(tally.record(Duration::ZERO, bad(Kind::Refused, Exit::Refused)).is_none());
        assert!(tally.record(Duration::ZERO, bad(Kind::Error, Exit::Remote)).is_some());
        tally.give_up(Kind::Unacknowledged, 3);
        assert!(tally.record(Duration::ZERO, ok(7)).is_none());
        assert_eq!((tally.ok, tally.bad(Kind::Refused), tally.bad(Kind::Timeout), tally.ended()), (1, 2, 0, 7));
        assert_eq!(tally.max_us(), Some(7.0));
        assert_eq!(tally.worst(), Some((Kind::Unacknowledged, Exit::Timeout)));
    }
}
