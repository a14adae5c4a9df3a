//! A signal that many waiting threads see: once given, it stays.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

/// Readable once [`give`](Self::give) was called: the writing end is closed, which no reader can use up.
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

    pub(crate) fn give(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn is_given(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
