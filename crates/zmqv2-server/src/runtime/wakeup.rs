//! How threads that wait for a socket are woken: a signal that stays, for many, and a waker that rings again, for one.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Readable once [`set`](Self::set) was called: the writing end is closed, which no reader can use up.
#[derive(Debug)]
pub(crate) struct Signal {
    reader: UnixStream,
    writer: Mutex<Option<UnixStream>>,
}

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        Ok(Self { reader, writer: Mutex::new(Some(writer)) })
    }

    pub(crate) fn set(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Wakes one waiting thread, again and again.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: UnixStream,
    writer: UnixStream,
    rung: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer, rung: AtomicBool::new(false) })
    }

    /// Wakes the thread: what was done before this call, it sees.
    pub(crate) fn wake(&self) {
        // One byte until the thread has heard it: while it is busy, ringing costs the others nothing.
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = (&self.writer).write_all(&[1])
        {
            log::error!("cannot wake a thread: {error}");
        }
    }

    /// To be called by the thread before it looks at what was done.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 16];
        while (&self.reader).read(&mut bytes).is_ok_and(|read| read > 0) {}
        // After the bytes: whoever rang until now was too late to write one, but what it did will be seen.
        self.rung.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
