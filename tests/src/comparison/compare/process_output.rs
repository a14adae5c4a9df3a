//! What a contender says on its stdout.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of a clock that all processes of a machine share.
#[must_use]
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What became of calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallResults {
    /// How many were answered.
    pub answered: usize,
    /// How long it took to make all.
    pub seconds: f64,
    /// Latency of those that were answered, in microseconds.
    pub p50_us: Option<f64>,
    /// The same, of the slowest hundredth.
    pub p99_us: Option<f64>,
    /// The longest that a caller has waited without an answer, in milliseconds.
    pub worst_wait_ms: f64,
    /// Number of each call without an answer, and what its caller was told.
    pub unanswered: Vec<(u64, String)>,
}

/// What became of casts or fanouts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CastResults {
    /// When the first was sent, by [`monotonic`].
    pub begun: u64,
    /// When the last was handed over.
    pub sent: u64,
    /// How many were told what: `ok`, or the reason.
    pub outcomes: BTreeMap<String, u64>,
}
