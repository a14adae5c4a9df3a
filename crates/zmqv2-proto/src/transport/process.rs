//! The process id without a system call. It changes only with a fork, which libc reports.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

type Hook = Option<unsafe extern "C" fn()>;

unsafe extern "C" {
    fn pthread_atfork(prepare: Hook, parent: Hook, child: Hook) -> c_int;
}

/// The hook is not installed.
const NOT_INSTALLED: u8 = 0;
/// A thread is installing it, or libc refused: the id is not cached.
const INSTALLING: u8 = 1;
/// The hook is installed.
const INSTALLED: u8 = 2;

static FORK_HOOK: AtomicU8 = AtomicU8::new(NOT_INSTALLED);
/// The id, or 0 when unknown.
static CACHED: AtomicU32 = AtomicU32::new(0);

/// The id of this process, as [`std::process::id`] gives it, also after a `fork`. It is wrong in a
/// child that was made without libc's hooks (a bare `clone`, `_Fork`, `vfork`). Such a child must
/// not use what its parent has opened.
#[must_use]
pub fn process_id() -> u32 {
    match CACHED.load(Ordering::Relaxed) {
        0 => look_up(),
        known => known,
    }
}

#[cold]
fn look_up() -> u32 {
    let id = std::process::id();
    // No lock and no `Once`: a child forked by another thread meanwhile would wait for ever.
    if FORK_HOOK.compare_exchange(NOT_INSTALLED, INSTALLING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        // SAFETY: the hook only stores to a static atomic, which is allowed in a child of any
        // thread.
        if unsafe { pthread_atfork(None, None, Some(forget)) } == 0 {
            FORK_HOOK.store(INSTALLED, Ordering::Release);
        }
    }
    if FORK_HOOK.load(Ordering::Acquire) == INSTALLED {
        CACHED.store(id, Ordering::Relaxed);
    }
    id
}

/// Runs in the child, before `fork` returns there.
unsafe extern "C" fn forget() {
    CACHED.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::wire::MessageId;

    unsafe extern "C" {
        fn fork() -> c_int;
        fn _exit(status: c_int) -> !;
        fn write(fd: c_int, bytes: *const u8, count: usize) -> isize;
        fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    }

    #[test]
    fn a_child_knows_its_own_process_id_and_draws_its_own_ids() {
        assert_eq!((process_id(), process_id()), (std::process::id(), std::process::id()));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let _ = MessageId::random();
        // SAFETY: the child allocates nothing and takes no lock. It draws an id, writes it and its
        // process id, and ends.
        let child = unsafe { fork() };
        assert!(child >= 0);
        if child == 0 {
            let mut report = [0; 20];
            report[..4].copy_from_slice(&process_id().to_be_bytes());
            report[4..].copy_from_slice(MessageId::random().as_bytes());
            // SAFETY: as above; the buffer is alive.
            unsafe {
                let written = write(theirs.as_raw_fd(), report.as_ptr(), report.len());
                _exit(c_int::from(written != 20));
            }
        }
        drop(theirs);
        let mut report = Vec::new();
        ours.read_to_end(&mut report).unwrap();
        let mut status = -1;
        // SAFETY: a child of this process, for which nobody else waits.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(report[..4], child.cast_unsigned().to_be_bytes());
        assert_eq!(process_id(), std::process::id());
        // Bytes that were drawn before the fork exist in both processes.
        let ours: Vec<_> = (0..200).map(|_| *MessageId::random().as_bytes()).collect();
        assert!(!ours.iter().any(|id| id[..] == report[4..]), "an id was used on both sides of a fork");
    }
}
