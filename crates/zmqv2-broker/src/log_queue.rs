//! The queue between the program's threads and its log on stderr. No thread waits for the reader of
//! the log: a thread of its own writes the lines, and lines that find no room are dropped and
//! counted.
//!
//! Only a program starts the queue. A service that uses the libraries has its own logger, and
//! decides itself whether that logger may block.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(feature = "daemon")]
use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The most lines that wait to be written.
const MAX_LINES: usize = 2_048;
/// The last places are kept for lines that must not be lost in a flood of others, such as the
/// reason of the end.
const KEPT_FOR_LAST_LINES: usize = 64;
/// A longer line is cut. With the number of lines, this bounds the memory: 8 MiB.
const MAX_LINE_BYTES: usize = 4_096;
const CUT: &[u8] = b"... (cut)\n";

static QUEUE: OnceLock<Sender<Entry>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Entry {
    Line(Vec<u8>),
    /// Tells when everything before it is written.
    Flush(Sender<()>),
}

/// How many lines were dropped, because nobody read the log. 0 in a process without the queue.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the thread that writes. Later calls do nothing.
///
/// # Errors
/// The operating system's reason why there is no thread.
#[cfg(feature = "daemon")]
pub(crate) fn start() -> io::Result<()> {
    let (sender, lines) = crossbeam_channel::bounded(MAX_LINES);
    if QUEUE.set(sender).is_ok() {
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&lines))?;
    }
    Ok(())
}

/// A place to write log lines to. Each write is one line, and never blocks.
pub(crate) struct QueueWriter;

impl Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let queue = QUEUE.get().filter(|queue| queue.len() < MAX_LINES - KEPT_FOR_LAST_LINES);
        if queue.is_none_or(|queue| queue.try_send(Entry::Line(cut(line))).is_err()) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line that is not a part of the log, such as the `ready` line, behind all lines before
/// it. Without the queue it is written at once.
pub(crate) fn write_line(mut text: String) {
    text.push('\n');
    match QUEUE.get() {
        None => write_all(text.as_bytes()),
        Some(queue) if queue.try_send(Entry::Line(text.into_bytes())).is_ok() => {}
        Some(_) => _ = DROPPED.fetch_add(1, Ordering::Relaxed),
    }
}

/// Waits until all lines before are written, but no longer than `patience`.
pub(crate) fn flush(patience: Duration) {
    let Some(queue) = QUEUE.get() else { return };
    let (written, all_written) = crossbeam_channel::bounded(1);
    let end_at = zmqv2_proto::deadline(crate::threads::now(), patience);
    if queue.send_deadline(Entry::Flush(written), end_at).is_ok() {
        // Nothing to do if the time is over: the reader does not read.
        let _ = all_written.recv_deadline(end_at);
    }
}

fn cut(line: &[u8]) -> Vec<u8> {
    if line.len() <= MAX_LINE_BYTES {
        return line.to_vec();
    }
    [&line[..MAX_LINE_BYTES - CUT.len()], CUT].concat()
}

#[cfg(feature = "daemon")]
fn write_lines(lines: &Receiver<Entry>) {
    let mut reported = 0;
    for entry in lines {
        match entry {
            Entry::Line(line) => write_all(&line),
            Entry::Flush(written) => _ = written.try_send(()),
        }
        // While the queue is nearly full, the number still grows, and the report finds no room.
        let dropped = dropped();
        if dropped > reported && lines.len() < MAX_LINES / 2 {
            log::error!("{} log lines were dropped: nobody read stderr in time", dropped - reported);
            reported = dropped;
        }
    }
}

/// Writes to stderr, and waits for its reader. Without the lock of the standard library, which
/// another thread would wait for. Errors are ignored: there is no other place to report them.
fn write_all(mut bytes: &[u8]) {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match rustix::io::write(stderr.as_fd(), bytes) {
            Ok(0) => return,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process has made the pipe non-blocking.
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None).is_err_and(|error| error != Errno::INTR) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        assert_eq!(cut(b"short\n"), b"short\n");
        let line = cut(&[b'x'; 2 * MAX_LINE_BYTES]);
        assert_eq!(line.len(), MAX_LINE_BYTES);
        assert!(line.ends_with(CUT));
    }
}
