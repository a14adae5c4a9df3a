//! How far a long run is, on stderr.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use crate::now;

/// A line that says what is being done, how much of it is left, and for how long it has been going.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    done: usize,
    steps: usize,
    shown: Shown,
}

#[derive(Debug, PartialEq)]
enum Shown {
    /// The line is written over.
    Terminal,
    /// A line of its own for each step.
    Lines,
    Nothing,
}

impl Progress {
    /// Of so many steps: one line that changes on a terminal, otherwise a line for each step.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        let shown = if std::io::stderr().is_terminal() { Shown::Terminal } else { Shown::Lines };
        Self { started: now(), done: 0, steps, shown }
    }

    /// The same without showing anything.
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

    /// All is done.
    pub fn end(&self) {
        self.show(&format!("done in {} s", self.started.elapsed().as_secs()));
        if self.shown == Shown::Terminal {
            eprintln!();
        }
    }

    fn show(&self, line: &str) {
        match self.shown {
            // Erases what is left of a longer line.
            Shown::Terminal => eprint!("\r{line}\x1b[K"),
            Shown::Lines => eprintln!("{line}"),
            Shown::Nothing => {}
        }
        let _ = std::io::stderr().flush();
    }
}
