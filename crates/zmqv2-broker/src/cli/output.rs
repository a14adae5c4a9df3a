//! Output to stdout and stderr. Stdout carries the result, so a failed write is an error. Stderr is
//! for people, and may have no reader.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use super::closed_at_start::stdout_was_closed;
use crate::log_queue;

/// Stdout cannot be written: it is closed, the reader of a pipe is gone, or a disk is full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct Unwritable(#[from] io::Error);

/// Writes a line to stdout.
///
/// # Errors
/// [`Unwritable`], so that a program without its result does not exit with 0.
pub fn say(text: impl Display) -> Result<(), Unwritable> {
    write_stdout(format!("{text}\n").as_bytes())
}

/// Writes `bytes` to stdout, past the buffer of the standard library, which takes a stdout that
/// cannot be written for one that nobody reads.
///
/// # Errors
/// [`Unwritable`]. A part of the bytes may have been written.
pub fn write_stdout(mut bytes: &[u8]) -> Result<(), Unwritable> {
    require_stdout()?;
    let stdout = io::stdout().lock();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(0) => return Err(Unwritable(ErrorKind::WriteZero.into())),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Another process has made the file or terminal that both share non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
            }
            Err(error) => return Err(Unwritable(error.into())),
        }
    }
    Ok(())
}

/// Checks, before anything is sent, that stdout is open for writing.
///
/// # Errors
/// [`Unwritable`] if it was closed when the program was started, or is open for reading only.
pub fn require_stdout() -> Result<(), Unwritable> {
    let wrong = |text: &str| Err(Unwritable(io::Error::other(text.to_owned())));
    if stdout_was_closed() {
        return wrong("it is closed; to give up the result, write >/dev/null");
    }
    match fcntl_getfl(io::stdout()) {
        Ok(flags) if flags & OFlags::RWMODE == OFlags::RDONLY => wrong("it is open for reading only"),
        Ok(_) => Ok(()),
        Err(error) => Err(Unwritable(error.into())),
    }
}

/// Whether text for `stream` is coloured: it is a terminal that has colours (`TERM` is set and not
/// `dumb`), and `NO_COLOR` is not set or empty.
#[must_use]
pub fn shows_colors(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Writes a line to stderr, behind the lines of the log. Does not wait for the reader once the log
/// is started. A failure is ignored.
pub fn tell(text: impl Display) {
    log_queue::write_line(text.to_string());
}
