//! The results that `compare-process` prints on stdout.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of a clock that all processes of a machine share.
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallResults {
    pub answered: usize,
    pub seconds: f64,
    /// The median latency of answered calls, in microseconds.
    pub p50_us: Option<f64>,
    /// The 99th percentile of their latency, in microseconds.
    pub p99_us: Option<f64>,
    /// The longest that a caller has waited without an answer, in milliseconds.
    pub worst_wait_ms: f64,
    /// Each call without an answer: its number, and the error.
    pub unanswered: Vec<(u64, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CastResults {
    /// When the first was sent, by [`monotonic`].
    pub begun: u64,
    /// When the last was sent.
    pub sent: u64,
    /// The number of messages for each outcome: `ok`, or the reason.
    pub outcomes: BTreeMap<String, u64>,
}
