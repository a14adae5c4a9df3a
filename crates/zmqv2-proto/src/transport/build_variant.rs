//! How the linked libzmq is built. A dependant's build does not see the flags of this workspace.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Once;

use rustix::fs::{FileType, fstat};

/// What matters for speed in the build of libzmq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BuildVariant {
    /// Threads wake each other with an eventfd. Otherwise with a pair of sockets, at twice the cost.
    eventfd: bool,
    /// The number of bytes for each system call can be set (`rpc_zmq_io_batch_bytes`).
    batches: bool,
}

impl BuildVariant {
    /// Looks at a live socket. `None` if the descriptor of its events cannot be examined.
    fn of(socket: *mut c_void) -> Option<Self> {
        let (mut descriptor, mut size): (c_int, usize) = (-1, size_of::<c_int>());
        // SAFETY: the socket is live, and the option is an int, for which there is room.
        let got = unsafe {
            let value = (&raw mut descriptor).cast();
            zmq_sys::zmq_getsockopt(socket, zmq_sys::ZMQ_FD as c_int, value, &raw mut size)
        };
        if got != 0 || descriptor < 0 {
            return None;
        }
        // SAFETY: the descriptor belongs to the socket, which stays open here.
        let stat = fstat(unsafe { BorrowedFd::borrow_raw(descriptor) }).ok()?;
        let eventfd = FileType::from_raw_mode(stat.st_mode) != FileType::Socket;
        Some(Self { eventfd, batches: zmq::has("draft") == Some(true) })
    }
}

impl fmt::Display for BuildVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |has| if has { "yes" } else { "no" };
        write!(f, "eventfd {}, batches {}", word(self.eventfd), word(self.batches))?;
        let fast = self.eventfd && self.batches;
        f.write_str(if fast {
            ": the fast build"
        } else {
            "; the README of zmqv2-proto shows how to get a faster build"
        })
    }
}

/// Logs the variant, once in each process. `socket` must be live.
pub(super) fn log_once(socket: *mut c_void) {
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| {
        if let Some(variant) = BuildVariant::of(socket) {
            log::debug!("libzmq {}: {variant}", super::libzmq_version());
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::transport::{Role, Transport, TransportOptions};

    /// Keeps the lines about the build.
    struct Lines(Mutex<Vec<String>>);

    static LINES: Lines = Lines(Mutex::new(Vec::new()));

    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}", record.level(), record.args());
            if line.contains("libzmq") {
                self.0.lock().unwrap().push(line);
            }
        }

        fn flush(&self) {}
    }

    /// Runs in a process of its own, because other tests open contexts as well.
    #[test]
    fn the_first_context_logs_the_variant_once() {
        const MARK: &str = "ZMQV2_TEST_BUILD_VARIANT";
        if std::env::var_os(MARK).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            let output = command.args(["--exact", &name, "--nocapture"]).env(MARK, "1").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
            return;
        }
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
        for _ in 0..2 {
            drop(Transport::new(TransportOptions::default()).socket(Role::Req).unwrap());
        }
        let lines = LINES.0.lock().unwrap();
        // This workspace builds libzmq with both (`.cargo/config.toml`), unless the user's CXXFLAGS win.
        let variant = if std::env::var_os("CXXFLAGS").is_some_and(|flags| !is_fast(&flags)) {
            "; the README".to_owned()
        } else {
            ": eventfd yes, batches yes: the fast build".to_owned()
        };
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("DEBUG libzmq 4.") && lines[0].contains(&variant), "{lines:?}");
    }

    fn is_fast(flags: &std::ffi::OsStr) -> bool {
        let flags = flags.to_string_lossy();
        flags.contains("ZMQ_HAVE_EVENTFD") && flags.contains("ZMQ_BUILD_DRAFT_API")
    }

    #[test]
    fn a_slow_build_says_where_to_read_on() {
        let text = BuildVariant { eventfd: false, batches: true }.to_string();
        assert_eq!(text, "eventfd no, batches yes; the README of zmqv2-proto shows how to get a faster build");
    }
}
