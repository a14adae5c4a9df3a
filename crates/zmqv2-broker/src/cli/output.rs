//! Stdout is the result and must arrive; stderr is for people, and may have no reader.

use std::fmt::Display;
use std::io::{self, Write};

/// The result cannot be written: the reader of a pipe is gone, or a disk is full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct Unwritable(#[from] io::Error);

/// Writes a line to stdout.
///
/// # Errors
/// [`Unwritable`], so that a program whose result went nowhere does not end with 0.
pub fn say(text: impl Display) -> Result<(), Unwritable> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Writes a line to stderr. Where nobody reads, nothing is told, and that is no reason to end.
pub fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
