//! Which of stdin, stdout and stderr were closed when the program was started.
//!
//! Before `main`, Rust's runtime opens `/dev/null` in place of each closed one, so that no socket
//! gets its number. From then on a closed stdout looks like `>/dev/null`, and results would vanish
//! with exit code 0. So this looks earlier: the system calls the functions in `.init_array` before
//! it starts the runtime.

#[cfg(target_os = "linux")]
mod look {
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

    #[used]
    #[expect(unsafe_code, reason = "the only place that runs before the runtime")]
    // SAFETY: the section holds pointers to functions of this type. The function uses nothing that
    // the runtime prepares: one system call and one atomic.
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;

    extern "C" fn look() {
        // SAFETY: nothing is read or written; the system only says whether the number is in use.
        #[expect(unsafe_code, reason = "the number may belong to no descriptor, which is the question")]
        let stdout = unsafe { BorrowedFd::borrow_raw(1) };
        STDOUT_CLOSED.store(rustix::io::fcntl_getfd(stdout).is_err(), Ordering::Relaxed);
    }

    pub(crate) fn stdout_was_closed() -> bool {
        STDOUT_CLOSED.load(Ordering::Relaxed)
    }
}

#[cfg(not(target_os = "linux"))]
mod look {
    pub(crate) fn stdout_was_closed() -> bool {
        false
    }
}

pub(crate) use look::stdout_was_closed;
