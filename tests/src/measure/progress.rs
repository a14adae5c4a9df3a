//! Shows the progress of a long run on stderr.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use crate::now;

/// A line with the current step, the steps left, and the time so far.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    done: usize,
    steps: usize,
    shown: Shown,
}

#[derive(Debug, PartialEq)]
enum Shown {
    /// The line is overwritten.
    Terminal,
    /// A line of its own for each step.
    Lines,
    Nothing,
}

impl Progress {
    /// A display for `steps` steps: one changing line on a terminal, otherwise a line for each
    /// step.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        let shown = if std::io::stderr().is_terminal() { Shown::Terminal } else { Shown::Lines };
        Self { started: now(), done: 0, steps, shown }
    }

    /// A display that shows nothing.
    #[must_use]
    pub fn silent(steps: usize) -> Self {
        Self { started: now(), done: 0, steps, shown: Shown::Nothing }
    }

    /// The next step begins.
    pub fn step(&mut self, what: &str) {
        let seconds = self.started.elapsed().as_secs();
        let line = format!("[{}/{}, {seconds} s] {what}", self.done + 1, self.steps.max(self.done + 1));
        self.done += 1;
        self.show(&line);
    }

    /// Ends the display.
    pub fn end(&self) {
        self.show(&format!("done in {} s", self.started.elapsed().as_secs()));
        if self.shown == Shown::Terminal {
            eprintln!();
        }
    }

    fn show(&self, line: &str) {
        match self.shown {
            // Erases the rest of a longer line.
            Shown::Terminal => eprint!("\r{line}\x1b[K"),
            Shown::Lines => eprintln!("{line}"),
            Shown::Nothing => {}
        }
        let _ = std::io::stderr().flush();
    }
}
