//! The result of a run, as a table or as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::pattern::Pattern;
use super::results::{Kind, Tally};

/// In the order in which it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pattern: String,
    /// How long messages were sent: less than was asked for when the run was cut short.
    duration_s: f64,
    /// Messages a second that were ok, in that time.
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
    /// `ok` messages were ok within `span`, in which messages were sent; `tally` is of all of them.
    pub(super) fn new(pattern: Pattern, span: Duration, ok: u64, tally: &Tally) -> Self {
        let seconds = span.as_secs_f64();
        let rate = if seconds > 0.0 { ok as f64 / seconds } else { 0.0 };
        Self {
            pattern: pattern.to_string(),
            duration_s: (seconds * 1e3).round() / 1e3,
            rate: (rate * 10.0).round() / 10.0,
            p50_us: tally.quantile_us(0.5),
            p90_us: tally.quantile_us(0.9),
            p99_us: tally.quantile_us(0.99),
            p999_us: tally.quantile_us(0.999),
            max_us: tally.max_us(),
            ok: tally.ok,
            refused: tally.bad(Kind::Refused),
            unacknowledged: tally.bad(Kind::Unacknowledged),
            timeouts: tally.bad(Kind::Timeout),
            errors: tally.bad(Kind::Error),
        }
    }
}

/// The table.
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
