//! Forks a process that runs, as services in Python do after their start.

#![expect(unsafe_code, reason = "the standard library cannot fork")]

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::clock::{PATIENCE, now, within};

unsafe extern "C" {
    fn fork() -> i32;
}

/// A child of this process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    since: Instant,
}

/// Forks this process. `None` in the child, which must end with `std::process::exit`.
///
/// The child has one thread. Whatever another thread of the parent did at this moment stays half
/// done in the child.
pub fn fork_process() -> Option<Child> {
    // SAFETY: the child uses only what must work after a fork, which is what the caller tests.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "cannot fork");
    Pid::from_raw(pid).map(|pid| Child { pid, since: now() })
}

impl Child {
    /// Whether it still runs.
    ///
    /// # Panics
    /// If it has failed, or has run for longer than [`PATIENCE`].
    pub fn is_running(&self) -> bool {
        match waitpid(Some(self.pid), WaitOptions::NOHANG).expect("a child") {
            None if self.since.elapsed() < PATIENCE => true,
            None => {
                let _ = kill_process(self.pid, Signal::KILL);
                panic!("child {:?} hangs", self.pid)
            }
            Some((_, status)) => {
                assert_eq!(status.exit_status(), Some(0), "a child ended with {status:?}");
                false
            }
        }
    }

    /// Waits until it has ended.
    pub fn wait(self) {
        let ended = within(PATIENCE + Duration::from_secs(1), || !self.is_running());
        assert!(ended, "is_running panics earlier");
    }
}
