//! How the messages of a run ended, and their latencies.

use std::time::Duration;

use hdrhistogram::Histogram;
use zmqv2_broker::cli::{Exit, Failure};

/// The longest latency that is counted, about 73 minutes. Longer ones count as this.
const MAX_NANOS: u64 = 1 << 42;
const DIGITS: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    Refused,
    /// No server or broker has acknowledged it.
    Unacknowledged,
    Timeout,
    /// Anything else: a remote error, a lost connection.
    Error,
}

impl FailureKind {
    pub(super) const ALL: [Self; 4] = [Self::Refused, Self::Unacknowledged, Self::Timeout, Self::Error];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unacknowledged => "unacknowledged",
            Self::Timeout => "timeouts",
            Self::Error => "errors",
        }
    }
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) after: Duration,
    /// `Ok`: answered or accepted.
    pub(super) result: Result<(), (FailureKind, Failure)>,
}

#[derive(Debug, Clone)]
pub(super) struct Results {
    pub(super) ok: u64,
    failed: [FailureCount; FailureKind::ALL.len()],
    latencies: Histogram<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FailureCount {
    count: u64,
    exit: Option<Exit>,
}

impl Results {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { ok: 0, failed: Default::default(), latencies: Histogram::new_with_bounds(1, MAX_NANOS, DIGITS)? })
    }

    /// Counts a message that was sent `late`. Returns its failure if it is the first of its kind.
    pub(super) fn record(&mut self, late: Duration, ended: Ended) -> Option<(FailureKind, Failure)> {
        let Err((kind, failure)) = ended.result else {
            let nanos = u64::try_from((late + ended.after).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanos);
            self.ok += 1;
            return None;
        };
        let failed = &mut self.failed[kind as usize];
        failed.count += 1;
        if failed.exit.is_some() {
            return None;
        }
        failed.exit = Some(failure.exit());
        Some((kind, failure))
    }

    pub(super) fn add_unended(&mut self, kind: FailureKind, messages: u64) {
        self.failed[kind as usize].count += messages;
    }

    pub(super) fn failed(&self, kind: FailureKind) -> u64 {
        self.failed[kind as usize].count
    }

    pub(super) fn ended(&self) -> u64 {
        self.ok + FailureKind::ALL.map(|kind| self.failed(kind)).iter().sum::<u64>()
    }

    /// A quantile of the latencies in microseconds. `None` without latencies.
    pub(super) fn quantile_us(&self, share: f64) -> Option<f64> {
        (self.ok > 0).then(|| micros(self.latencies.value_at_quantile(share)))
    }

    pub(super) fn max_us(&self) -> Option<f64> {
        (self.ok > 0).then(|| micros(self.latencies.max()))
    }

    pub(super) fn most_frequent(&self) -> Option<(FailureKind, Exit)> {
        let most = FailureKind::ALL.into_iter().max_by_key(|kind| self.failed(*kind))?;
        (self.failed(most) > 0).then(|| (most, self.failed[most as usize].exit.unwrap_or(Exit::Timeout)))
    }
}

fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(micros: u64) -> Ended {
        Ended { after: Duration::from_micros(micros), result: Ok(()) }
    }

    fn failed(kind: FailureKind, exit: Exit) -> Ended {
        Ended { after: Duration::from_secs(9), result: Err((kind, Failure::new(exit, "failed"))) }
    }

    #[test]
    fn latency_counts_from_the_time_at_which_a_message_is_due() {
        let mut results = Results::new().unwrap();
        assert_eq!((results.quantile_us(0.5), results.max_us()), (None, None));
        for n in 1..=100 {
            results.record(Duration::from_millis(n), ok(500));
        }
        let near = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < expected / 500.0;
        assert!(near(results.quantile_us(0.5), 50_500.0), "{:?}", results.quantile_us(0.5));
        assert!(near(results.quantile_us(0.99), 99_500.0), "{:?}", results.quantile_us(0.99));
        assert!(near(results.max_us(), 100_500.0), "{:?}", results.max_us());
        results.record(Duration::MAX - Duration::from_secs(1), ok(1));
        assert!(near(results.max_us(), MAX_NANOS as f64 / 1e3), "{:?}", results.max_us());
    }

    #[test]
    fn failures_have_no_latency_and_only_the_first_of_each_kind_is_returned() {
        let mut results = Results::new().unwrap();
        assert!(results.record(Duration::ZERO, failed(FailureKind::Refused, Exit::Refused)).is_some());
        assert!(results.record(Duration::ZERO, failed(FailureKind::Refused, Exit::Refused)).is_none());
        assert!(results.record(Duration::ZERO, failed(FailureKind::Error, Exit::Remote)).is_some());
        results.add_unended(FailureKind::Unacknowledged, 3);
        assert!(results.record(Duration::ZERO, ok(7)).is_none());
        assert_eq!(
            (results.ok, results.failed(FailureKind::Refused), results.failed(FailureKind::Timeout), results.ended()),
            (1, 2, 0, 7)
        );
        assert_eq!(results.max_us(), Some(7.0));
        assert_eq!(results.most_frequent(), Some((FailureKind::Unacknowledged, Exit::Timeout)));
    }
}
