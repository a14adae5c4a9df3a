//! The log of the programs. It never blocks: see [`crate::log_queue`].

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use env_logger::{Target, WriteStyle};

use super::shows_colors;
use crate::log_queue::{self, QueueWriter};

/// How long a program that ends waits for the reader of its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Starts the log at this level, and routes the messages of panics to it. Later calls only set the
/// level.
///
/// # Errors
/// The operating system's reason why there is no thread for it.
pub(super) fn start(level: log::LevelFilter) -> io::Result<()> {
    log_queue::start()?;
    let style = if shows_colors(&io::stderr()) { WriteStyle::Always } else { WriteStyle::Never };
    // The level is that of the crate `log`, so that it can be changed later.
    let logger = env_logger::Builder::new()
        .filter_level(log::LevelFilter::Trace)
        .write_style(style)
        .target(Target::Pipe(Box::new(HoldingWriter)))
        .try_init();
    if logger.is_ok() {
        std::panic::set_hook(Box::new(report_panic));
    }
    log::set_max_level(level);
    Ok(())
}

/// The most warnings of the directory that are held back.
const MOST_HELD: usize = 100;

/// The warnings of the directory that are held back. `None`: none is.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<String>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds back the warnings of the directory until the end of the program. For a command that ends
/// soon, and whose error may say the same.
pub fn hold_warnings_of_directory() {
    let _ = held().get_or_insert_default();
}

/// Writes the warnings that were held back, but those that the `error` of the program repeats.
pub(super) fn release_warnings(error: Option<&str>) {
    for line in held().take().unwrap_or_default() {
        let message = line.split_once("] ").map_or(line.as_str(), |(_, message)| message);
        let problem = message.trim_end().trim_end_matches(KNOWN_ANSWERS);
        if !error.is_some_and(|error| error.contains(problem)) {
            let _ = QueueWriter.write_all(line.as_bytes());
        }
    }
}

/// How a warning of the directory ends that is about one error.
const KNOWN_ANSWERS: &str = "; known answers stay in use";

/// Passes lines on to the queue, or holds them back.
struct HoldingWriter;

impl Write for HoldingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(lines) = &mut *held()
            && lines.len() < MOST_HELD
            && let Ok(line) = std::str::from_utf8(bytes)
            && line.contains("zmqv2_matchmaker::cached")
        {
            lines.push(line.to_owned());
            return Ok(bytes.len());
        }
        QueueWriter.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        QueueWriter.flush()
    }
}

/// Waits within a bound until the last lines are written.
pub(super) fn end() {
    log_queue::flush(LAST_LINES);
}

/// The standard hook would wait for the reader of stderr.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let mut text = format!("thread '{}' {panic}", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text = format!("{text}\n{backtrace}");
    }
    log_queue::write_line(text);
    // The main thread ends the program with its panic.
    if thread.name() == Some("main") {
        end();
    }
}
