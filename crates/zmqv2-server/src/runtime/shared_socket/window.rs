//! How many requests a server takes at a time: as many as it has workers, or more while its
//! handlers are quick. Pure. `docs/decisions/0021-windows.md` gives the reasons.

use std::time::Duration;

/// Handlers whose average is at most this are quick.
const QUICK: Duration = Duration::from_micros(100);
/// An average is that of so many handlers.
const SAMPLE: u32 = 64;

#[derive(Debug)]
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
        Self { may_widen, wide: false, quick: false, slow: false, handlers: 0, took: Duration::ZERO }
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
mod tests {
    use super::*;

    fn record(window: &mut Window, times: u32, took: Duration) {
        (0..times).for_each(|_| window.record(took));
    }

    #[test]
    fn quick_handlers_widen_it_once() {
        let mut window = Window::new(true);
        record(&mut window, SAMPLE - 1, QUICK);
        assert!(!window.should_widen());
        window.record(QUICK);
        assert!(window.should_widen());
        window.widen();
        record(&mut window, 2 * SAMPLE, QUICK);
        assert!(!window.should_widen());
    }

    #[test]
    fn slow_handlers_do_not_widen_it_and_after_a_hand_back_the_average_starts_anew() {
        let mut window = Window::new(true);
        record(&mut window, SAMPLE - 1, QUICK);
        window.record(QUICK + Duration::from_nanos(1));
        assert!(!window.should_widen());
        record(&mut window, SAMPLE, QUICK);
        assert!(window.should_widen());
        window.widen();
        window.narrow();
        assert!(!window.should_widen());
        record(&mut window, SAMPLE, QUICK);
        assert!(window.should_widen());
    }

    #[test]
    fn a_slow_average_is_reported_once_and_only_while_the_window_is_wide() {
        let mut window = Window::new(true);
        record(&mut window, SAMPLE, 3 * QUICK);
        assert!(!window.take_slow(), "it is not wide");
        window.widen();
        record(&mut window, SAMPLE, 2 * QUICK);
        assert!(!window.take_slow());
        record(&mut window, SAMPLE, 3 * QUICK);
        assert!(window.take_slow() && !window.take_slow());
    }

    #[test]
    fn without_a_larger_window_it_stays_narrow() {
        let mut window = Window::new(false);
        record(&mut window, 2 * SAMPLE, QUICK);
        assert!(!window.should_widen());
    }
}
