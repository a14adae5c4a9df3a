//! The output on stderr during a run.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::results::{FailureKind, Results};

const CLEAR: &str = "\r\x1b[K";

/// Stderr. On a terminal its last line shows the progress, and is rewritten.
pub(super) struct Progress {
    pub(super) is_terminal: bool,
    line: Mutex<String>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), line: Mutex::default() }
    }

    pub(super) fn print(&self, text: &str) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_terminal {
            write(&format!("{CLEAR}{text}\n{line}"));
        } else {
            write(&format!("{text}\n"));
        }
    }

    /// Replaces the last line; an empty text clears it. Without a terminal nothing happens.
    pub(super) fn show(&self, text: String) {
        if self.is_terminal {
            write(&format!("{CLEAR}{text}"));
            *self.line.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// The text of the progress: elapsed time, successful messages, and failures.
pub(super) fn progress_line(elapsed: Duration, results: &Results, ok_before: u64) -> String {
    let mut line = format!("{} s: {} ok, {} in the last second", elapsed.as_secs(), results.ok, results.ok - ok_before);
    if let Some(p99) = results.quantile_us(0.99) {
        line.push_str(&format!(", p99 {p99} us"));
    }
    for kind in FailureKind::ALL.into_iter().filter(|kind| results.failed(*kind) > 0) {
        line.push_str(&format!(", {} {}", results.failed(kind), kind.name()));
    }
    line
}
