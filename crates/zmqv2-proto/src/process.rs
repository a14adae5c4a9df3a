//! The process id without a system call, and values that belong to one process. The id changes only
//! with a fork, which libc reports.

// libc alone reports a fork. A value of a parent must be given up without a lock.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

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

/// A child used what belongs to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it belongs to process {parent}, which has forked this one: make another one in this process")]
pub struct Inherited {
    /// The process that it belongs to.
    pub parent: u32,
}

/// A value that belongs to the process that made it, such as sockets, threads and locks.
///
/// A child that was forked has a copy of it, whose threads do not exist, whose locks another thread
/// may have held, and whose descriptors are those of the parent. So a child never reads such a copy
/// and never drops it: it makes a value of its own, or has none.
pub struct PerProcess<T> {
    /// Made by `Box::into_raw`. Only the drop of this value frees it. A child replaces the pointer,
    /// and leaves the parent's value alone.
    current: AtomicPtr<Owned<T>>,
    /// Any thread may put in a value and borrow it, as with a lock.
    owns: PhantomData<(T, Mutex<T>)>,
}

struct Owned<T> {
    pid: u32,
    value: T,
}

impl<T> PerProcess<T> {
    /// A value of this process.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { current: AtomicPtr::new(Self::owned(value)), owns: PhantomData }
    }

    fn owned(value: T) -> *mut Owned<T> {
        Box::into_raw(Box::new(Owned { pid: process_id(), value }))
    }

    /// The value, if this process has made it.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: a box that was never freed, because only a drop of `self` does that.
        let owned = unsafe { &*self.current.load(Ordering::Acquire) };
        (owned.pid == process_id()).then_some(&owned.value)
    }

    /// The value of this process. A child makes it with `renew`, at its first call.
    pub fn get_or_renew(&self, renew: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.renew(renew()),
        }
    }

    #[cold]
    fn renew(&self, value: T) -> &T {
        let inherited = self.current.load(Ordering::Acquire);
        let made = Self::owned(value);
        // SAFETY: as in `get`.
        let is_own = unsafe { &*inherited }.pid == process_id();
        let raced = if is_own {
            Err(inherited)
        } else {
            self.current.compare_exchange(inherited, made, Ordering::AcqRel, Ordering::Acquire)
        };
        let current = match raced {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        };
        // SAFETY: as in `get`.
        &unsafe { &*current }.value
    }
}

impl<T> Drop for PerProcess<T> {
    /// Leaves the value of a parent alone.
    fn drop(&mut self) {
        let current = *self.current.get_mut();
        // SAFETY: as in `get`, and nobody borrows the value any more.
        if unsafe { &*current }.pid == process_id() {
            drop(unsafe { Box::from_raw(current) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerProcess").field(&self.get()).finish()
    }
}

/// Runs in the child, before `fork` returns there.
unsafe extern "C" fn forget() {
    CACHED.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
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

    struct Told(UnixStream);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.write_all(&[1]).unwrap();
        }
    }

    #[test]
    fn a_child_neither_reads_nor_drops_what_it_inherited() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let value = PerProcess::new(Told(theirs));
        assert!(value.get().is_some());
        // SAFETY: the child drops the value, which does nothing there, and ends.
        let child = unsafe { fork() };
        assert!(child >= 0);
        if child == 0 {
            let read = value.get().is_some();
            drop(value);
            // SAFETY: as above.
            unsafe { _exit(c_int::from(read)) };
        }
        let mut status = -1;
        // SAFETY: a child of this process, for which nobody else waits.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child has read it");
        drop(value);
        let mut drops = Vec::new();
        ours.read_to_end(&mut drops).unwrap();
        assert_eq!(drops, [1], "only the parent drops it");
    }
}
