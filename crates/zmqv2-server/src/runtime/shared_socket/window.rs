//! How many requests a server takes at a time: as many as it has workers, or more while its
//! handlers are quick. Pure. `docs/decisions/0021-windows.md` gives the reasons.

use std::time::Duration;

/// Handlers whose average is at most this are quick.
const QUICK: Duration = Duration::from_micros(100);
/// An average is that of so many handlers.
const SAMPLE: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Window {
    /// The wide window is larger than the number of workers.
    may_widen: bool,
    wide: bool,
    /// The last average was quick.
    quick: bool,
    /// The last average was twice as long as a quick one, and has not been reported yet.
    slow: bool,
    handlers: u32,
    took: Duration,
}

impl Window {
    pub(super) fn new(may_widen: bool) -> Self {
        Self { may_widen, ..Self::default() }
    }

    /// A handler has run for this time.
    pub(super) fn record(&mut self, took: Duration) {
        self.handlers += 1;
        self.took += took;
        if self.handlers == SAMPLE {
            self.quick = self.took <= SAMPLE * QUICK;
            self.slow = self.took > 2 * SAMPLE * QUICK;
            (self.handlers, self.took) = (0, Duration::ZERO);
        }
    }

    /// Whether the broker is to be told that handlers are quick.
    pub(super) fn should_widen(&self) -> bool {
        self.may_widen && !self.wide && self.quick
    }

    /// Whether handlers have become slow, although each may be too quick for the watcher. Each
    /// average is reported once.
    pub(super) fn take_slow(&mut self) -> bool {
        std::mem::take(&mut self.slow) && self.wide
    }

    pub(super) fn is_wide(&self) -> bool {
        self.wide
    }

    /// The broker has been told.
    pub(super) fn widen(&mut self) {
        self.wide = true;
    }

    /// The broker takes the window for narrow: a request was handed back, or the broker is new.
    pub(super) fn narrow(&mut self) {
        *self = Self::new(self.may_widen);
    }
}

#[cfg(test)]
#[path = "tests/window.rs"]
mod tests;
