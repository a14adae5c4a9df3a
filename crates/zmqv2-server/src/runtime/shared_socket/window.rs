//! How many requests a server takes at a time: as many as it has workers, and more of them while its handlers are quick.
//!
//! Many quick requests share one wake-up, on the way here and back. But what waits here behind slow handlers could run
//! elsewhere (promise P10): a server that has more than it can run hands it back, and takes no more than it has workers until
//! its handlers have been quick again for a while.

use std::time::Duration;

/// Handlers that take no longer than this, on average, are quick: 200 requests that wait for such ones wait for 20 ms.
const QUICK: Duration = Duration::from_micros(100);
/// The average is that of so many.
const RUNS: u32 = 64;

/// What the broker has been told of this server's handlers.
#[derive(Debug)]
pub(crate) struct Window {
    /// There is a wider one than that of the workers.
    widens: bool,
    wide: bool,
    /// The last average was that of quick handlers.
    quick: bool,
    /// It is far from it, and nobody has asked yet.
    slow: bool,
    runs: u32,
    took: Duration,
}

impl Window {
    pub(crate) fn new(widens: bool) -> Self {
        Self { widens, wide: false, quick: false, slow: false, runs: 0, took: Duration::ZERO }
    }

    /// A handler took so long.
    pub(crate) fn ran(&mut self, took: Duration) {
        self.runs += 1;
        self.took += took;
        if self.runs == RUNS {
            self.quick = self.took <= RUNS * QUICK;
            self.slow = self.took > 2 * RUNS * QUICK;
            (self.runs, self.took) = (0, Duration::ZERO);
        }
    }

    /// The broker is to be told that handlers are quick.
    pub(crate) fn is_due(&self) -> bool {
        self.widens && !self.wide && self.quick
    }

    /// Handlers have become slow, though each of them may be too quick for anybody to notice; said once for each average.
    pub(crate) fn has_become_slow(&mut self) -> bool {
        std::mem::take(&mut self.slow) && self.wide
    }

    /// The broker gives more than there are workers.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// It has been told.
    pub(crate) fn widen(&mut self) {
        self.wide = true;
    }

    /// Something was handed back, or this is another broker: it gives no more than there are workers.
    pub(crate) fn narrow(&mut self) {
        *self = Self::new(self.widens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(window: &mut Window, times: u32, took: Duration) {
        (0..times).for_each(|_| window.ran(took));
    }

    #[test]
    fn quick_handlers_widen_it_once() {
        let mut window = Window::new(true);
        run(&mut window, RUNS - 1, QUICK);
        assert!(!window.is_due());
        window.ran(QUICK);
        assert!(window.is_due());
        window.widen();
        run(&mut window, 2 * RUNS, QUICK);
        assert!(!window.is_due());
    }

    #[test]
    fn slow_handlers_do_not_and_what_is_handed_back_starts_anew() {
        let mut window = Window::new(true);
        run(&mut window, RUNS - 1, QUICK);
        window.ran(QUICK + Duration::from_nanos(1));
        assert!(!window.is_due());
        run(&mut window, RUNS, QUICK);
        assert!(window.is_due());
        window.widen();
        window.narrow();
        assert!(!window.is_due());
        run(&mut window, RUNS, QUICK);
        assert!(window.is_due());
    }

    #[test]
    fn that_handlers_have_become_slow_is_said_once_for_each_average() {
        let mut window = Window::new(true);
        run(&mut window, RUNS, 3 * QUICK);
        assert!(!window.has_become_slow(), "it is not wide");
        window.widen();
        run(&mut window, RUNS, 2 * QUICK);
        assert!(!window.has_become_slow());
        run(&mut window, RUNS, 3 * QUICK);
        assert!(window.has_become_slow() && !window.has_become_slow());
    }

    #[test]
    fn without_a_wider_one_it_stays() {
        let mut window = Window::new(false);
        run(&mut window, 2 * RUNS, QUICK);
        assert!(!window.is_due());
    }
}
