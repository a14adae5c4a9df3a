//! What is shown on stderr while a run is under way.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::results::{Kind, Tally};

/// Back to the start of the line, and clear it.
const CLEAR: &str = "\r\x1b[K";

/// Stderr, with a line at its end that is written again and again if it is a terminal.
pub(super) struct Screen {
    pub(super) is_terminal: bool,
    line: Mutex<String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), line: Mutex::default() }
    }

    /// Shows a line that stays.
    pub(super) fn say(&self, text: &str) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_terminal {
            write(&format!("{CLEAR}{text}\n{line}"));
        } else {
            write(&format!("{text}\n"));
        }
    }

    /// Replaces the line at the end; an empty one clears it. Nothing, where stderr is no terminal.
    pub(super) fn progress(&self, text: String) {
        if self.is_terminal {
            write(&format!("{CLEAR}{text}"));
            *self.line.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}

/// Where nobody reads, nothing is shown.
fn write(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// The line: how far the run is, how many were ok in the last second, and what went wrong so far.
pub(super) fn progress(elapsed: Duration, tally: &Tally, ok_before: u64) -> String {
    let mut line = format!("{} s: {} ok, {} in the last second", elapsed.as_secs(), tally.ok, tally.ok - ok_before);
    if let Some(p99) = tally.quantile_us(0.99) {
        line.push_str(&format!(", p99 {p99} us"));
    }
    for kind in Kind::ALL.into_iter().filter(|kind| tally.bad(*kind) > 0) {
        line.push_str(&format!(", {} {}", tally.bad(kind), kind.name()));
    }
    line
}
