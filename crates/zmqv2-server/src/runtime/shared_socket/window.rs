//! How many requests the broker sends a server at a time: as many as the server has workers, or
//! more while its handlers are quick. Pure. `docs/decisions/0021-windows.md` gives the reasons.

use std::time::Duration;

/// Handlers are quick if their average is at most this.
const QUICK: Duration = Duration::from_micros(100);
/// Each average covers this many handlers.
const SAMPLE: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Window {
    workers: u16,
    wide_size: u16,
    is_wide: bool,
    /// The last average was quick.
    quick: bool,
    /// The last average was more than twice `QUICK`, and was not reported yet.
    slow: bool,
    /// The handlers of the next average, and the sum of their times.
    handlers: u32,
    took: Duration,
}

impl Window {
    pub(super) fn new(workers: u16, wide_size: u16) -> Self {
        Self { workers, wide_size, ..Self::default() }
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

    /// Makes the window wide if handlers are quick. Returns whether the window became wide: the
    /// caller then tells the broker.
    pub(super) fn try_widen(&mut self) -> bool {
        let widens = self.wide_size > self.workers && !self.is_wide && self.quick;
        self.is_wide |= widens;
        widens
    }

    /// Whether handlers have become slow, although each may be too quick for the watcher. Each
    /// average is reported once.
    pub(super) fn take_slow(&mut self) -> bool {
        std::mem::take(&mut self.slow) && self.is_wide
    }

    /// The most requests that the broker sends at a time.
    pub(super) fn size(&self) -> u16 {
        if self.is_wide { self.wide_size } else { self.workers }
    }

    /// Makes the window narrow: a request was handed back, or the broker is new.
    pub(super) fn narrow(&mut self) {
        *self = Self::new(self.workers, self.wide_size);
    }
}

#[cfg(test)]
#[path = "tests/window.rs"]
mod tests;
