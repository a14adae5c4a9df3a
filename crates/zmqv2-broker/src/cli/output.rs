//! Output to stdout and stderr. Stdout carries the result, so a failed write is an error. Stderr is
//! for people, and may have no reader.

use std::fmt::Display;
use std::io::{self, Write};

use crate::log_queue;

/// Stdout cannot be written: the reader of a pipe is gone, or a disk is full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct Unwritable(#[from] io::Error);

/// Writes a line to stdout.
///
/// # Errors
/// [`Unwritable`], so that a program without its result does not exit with 0.
pub fn say(text: impl Display) -> Result<(), Unwritable> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Writes a line to stderr, behind the lines of the log. Does not wait for the reader once the log
/// is started. A failure is ignored.
pub fn tell(text: impl Display) {
    log_queue::write_line(text.to_string());
}
