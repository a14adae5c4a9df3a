//! Wakes threads that wait for a socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Wakes any number of threads, once and for good: its descriptor stays readable.
#[derive(Debug)]
pub(crate) struct Signal {
    reader: UnixStream,
    /// Closing this end makes `reader` readable for good: no read consumes the end of a stream.
    writer: Mutex<Option<UnixStream>>,
}

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        Ok(Self { reader, writer: Mutex::new(Some(writer)) })
    }

    pub(crate) fn set(&self) {
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A child that was forked may have a copy of the descriptor, so closing it is not enough.
            let _ = writer.shutdown(Shutdown::Write);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Wakes the registration's thread, and tells it when to stop.
#[derive(Debug)]
pub(crate) struct RegistrationWaker {
    pub(crate) waker: Waker,
    stop: AtomicBool,
}

impl RegistrationWaker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { waker: Waker::new()?, stop: AtomicBool::new(false) })
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Whether [`stop`](Self::stop) was called. Sequentially consistent: see
    /// [`end_unsent`](super::completions::CompletionSender::end_unsent).
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// Wakes one waiting thread, any number of times.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: UnixStream,
    writer: UnixStream,
    pending: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer, pending: AtomicBool::new(false) })
    }

    /// Wakes the thread. It then sees everything that was done before this call.
    pub(crate) fn wake(&self) {
        // Only the first wake writes a byte, so waking a busy thread costs no system call.
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Err(error) = (&self.writer).write_all(&[1])
        {
            log::error!("cannot wake a thread: {error}");
        }
    }

    /// The woken thread calls this first, and then looks for work.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 16];
        while (&self.reader).read(&mut bytes).is_ok_and(|read| read > 0) {}
        // Last: a wake before this line wrote no byte, but the thread has yet to look for work.
        self.pending.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_arrives_although_a_child_has_a_copy_of_its_descriptor() {
        let signal = Signal::new().unwrap();
        let writer = signal.writer.lock().unwrap().as_ref().unwrap().try_clone();
        let _copy = writer.expect("a copy, as after a fork");
        signal.reader.set_nonblocking(true).unwrap();
        let read = || (&signal.reader).read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read(), Err(io::ErrorKind::WouldBlock));
        signal.set();
        assert_eq!((read(), signal.is_set()), (Ok(0), true));
    }
}
