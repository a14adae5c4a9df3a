//! The result of a run, as a table or as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::pattern::Pattern;
use super::results::{FailureKind, Results};

/// The fields are in the order in which they are shown.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pattern: Pattern,
    /// How long messages were sent. Less than `--duration` if the run was interrupted.
    duration_s: f64,
    /// Successful messages per second in that time.
    rate: f64,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
    ok: u64,
    refused: u64,
    unacknowledged: u64,
    timeouts: u64,
    errors: u64,
}

impl Report {
    /// The report of a run that sent messages for `span`, in which `ok` of them were successful.
    pub(super) fn new(pattern: Pattern, span: Duration, ok: u64, results: &Results) -> Self {
        let seconds = span.as_secs_f64();
        let rate = if seconds > 0.0 { ok as f64 / seconds } else { 0.0 };
        Self {
            pattern,
            duration_s: (seconds * 1e3).round() / 1e3,
            rate: (rate * 10.0).round() / 10.0,
            p50_us: results.quantile_us(0.5),
            p90_us: results.quantile_us(0.9),
            p99_us: results.quantile_us(0.99),
            p999_us: results.quantile_us(0.999),
            max_us: results.max_us(),
            ok: results.ok,
            refused: results.failed(FailureKind::Refused),
            unacknowledged: results.failed(FailureKind::Unacknowledged),
            timeouts: results.failed(FailureKind::Timeout),
            errors: results.failed(FailureKind::Error),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name, value: String, unit| writeln!(f, "{name:<14} {value:>12}{unit}");
        row("rate", format!("{:.1}", self.rate), " per second")?;
        for (name, value) in [
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p999_us),
            ("max", self.max_us),
        ] {
            row(name, value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")), " us")?;
        }
        for (name, count) in [
            ("ok", self.ok),
            ("refused", self.refused),
            ("unacknowledged", self.unacknowledged),
            ("timeouts", self.timeouts),
            ("errors", self.errors),
        ] {
            row(name, count.to_string(), "")?;
        }
        Ok(())
    }
}
