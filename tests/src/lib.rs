//! What the whole-system tests stand on: real processes of the two binaries, on several nodes of one machine.
//!
//! A node is a loopback address of its own (127.a.b.n, port 9501) with a socket directory of its own; a [`Cluster`] is a few
//! of them with one ring file. Every process is killed when its handle goes, and tells what it printed when a test fails.

mod binaries;
pub mod checker;
mod cluster;
pub mod compare;
pub mod heard;
pub mod journal;
pub mod kernel;
pub mod legacy;
mod load;
pub mod measure;
pub mod messaging;
mod namespaces;
mod process;
pub mod runs;
mod threads;
pub mod told;
mod trial;
pub mod zmtp;

pub use binaries::binary;
pub use cluster::{Cluster, Node};
pub use load::{Load, Record, echo, spread};
pub use namespaces::in_namespaces;
pub use process::{Finished, Process};
pub use trial::{Summary, TOPIC, Trial, answered_at, stop_all};

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer than this, on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The clock of the tests.
#[expect(clippy::disallowed_methods, reason = "tests measure real processes in real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until `met` is true; panics with `what` after [`PATIENCE`].
///
/// # Panics
/// When it does not come true.
pub fn eventually(what: &str, met: impl FnMut() -> bool) {
    assert!(within(PATIENCE, met), "not within {PATIENCE:?}: {what}");
}

/// Waits until `met` is true, at most for `patience`; whether it is.
#[expect(clippy::disallowed_methods, reason = "a bounded poll of another process's state, which sends no event")]
pub fn within(patience: Duration, mut met: impl FnMut() -> bool) -> bool {
    let end_at = now() + patience;
    while !met() {
        if now() >= end_at {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Waits until it is `at`: for runs in which something has to happen every so often.
#[expect(clippy::disallowed_methods, reason = "the timetable of a run in real time, which no event stands for")]
pub fn wait_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(now()));
}

/// Says plainly that a test was skipped; with `ZMQV2_REQUIRE_ALL=1` a skip is a failure.
///
/// # Panics
/// When everything is required.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("ZMQV2_REQUIRE_ALL").is_none_or(|value| value != "1"), "{test} was skipped: {why}");
    eprintln!("SKIPPED {test}: {why}");
}
