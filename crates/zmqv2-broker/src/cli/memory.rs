//! How much freed memory the programs keep, and for how long.

use std::hint::black_box;
use std::time::{Duration, Instant};

use zmqv2_proto::transport::give_back_free_heap;

use crate::threads::now;

/// Enough for 64 bodies of 64 KiB in transit, with the buffers of libzmq that they hold.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Makes glibc keep freed memory for the next messages: up to 16 MiB in each of its arenas.
///
/// By default glibc keeps 128 KiB, and returns the rest to the system whenever a large body is
/// freed. When a block of several megabytes is freed, glibc keeps twice its size from then on
/// ("dynamic mmap threshold" in `mallopt(3)`). The block here is never touched, so it costs little.
/// With other allocators, or if the environment sets a threshold (`MALLOC_TRIM_THRESHOLD_` and
/// others), this has no effect.
///
/// Only a program calls this. A library must not decide how much memory its process keeps.
pub fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}

/// Below this, freed memory is not worth giving back.
const SMALL: u64 = 64 << 20;
/// A process that grew by this much since the last time may soon have something to give back.
const GROWN: u64 = 32 << 20;
/// How often the memory of the process is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The shortest and the longest time between two attempts to give memory back.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Starts a thread that gives freed memory back to the system when there is much of it.
///
/// glibc returns only the end of its heap. After thousands of connections have come and gone, a few
/// blocks that are still in use keep hundreds of megabytes below them.
pub(super) fn give_back_freed_memory() {
    let run = || {
        let mut schedule = Schedule::new(now());
        loop {
            std::thread::park_timeout(LOOK_EVERY);
            let before = resident_bytes();
            if schedule.is_due(now(), before) {
                give_back_free_heap();
                schedule.gave_back(now(), before, resident_bytes());
            }
        }
    };
    let started = std::thread::Builder::new().name("zmqv2-memory".to_owned()).spawn(run);
    if let Err(error) = started {
        log::warn!("cannot start the thread that gives freed memory back: {error}");
    }
}

/// The resident memory of this process. 0 if the system does not say it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// When to give memory back. Pure.
#[derive(Debug)]
struct Schedule {
    last: Instant,
    /// The resident bytes after the last time.
    left: u64,
    wait: Duration,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { last: now, left: 0, wait: FIRST_WAIT }
    }

    fn is_due(&mut self, now: Instant, resident: u64) -> bool {
        if resident > self.left + GROWN {
            self.wait = FIRST_WAIT;
        }
        resident >= SMALL && now.saturating_duration_since(self.last) >= self.wait
    }

    /// If it was of little use, the next time comes later.
    fn gave_back(&mut self, now: Instant, before: u64, after: u64) {
        let useful = before.saturating_sub(after) >= before / 8;
        (self.last, self.left) = (now, after);
        self.wait = if useful { FIRST_WAIT } else { (self.wait * 2).min(LONGEST_WAIT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_there_is_much_and_rarely_if_it_is_of_no_use() {
        let start = now();
        let mut schedule = Schedule::new(start);
        assert!(!schedule.is_due(start + LONGEST_WAIT, SMALL - 1));
        let mut at = start;
        for wait in [10, 20, 40, 60, 60].map(Duration::from_secs) {
            assert!(!schedule.is_due(at + wait - Duration::from_secs(1), 2 * SMALL));
            at += wait;
            assert!(schedule.is_due(at, 2 * SMALL));
            schedule.gave_back(at, 2 * SMALL, 2 * SMALL - 1);
        }
        // It has grown, and much of that is free.
        assert!(schedule.is_due(at + FIRST_WAIT, 2 * SMALL + GROWN));
        schedule.gave_back(at + FIRST_WAIT, 2 * SMALL + GROWN, SMALL);
        assert!(schedule.is_due(at + 2 * FIRST_WAIT, SMALL));
    }

    #[test]
    fn the_memory_of_this_process_is_known() {
        assert!(resident_bytes() > 1 << 20);
    }
}
