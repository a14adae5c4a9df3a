//! The log of the programs. It never blocks: see [`crate::log_queue`].

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::time::Duration;

use env_logger::{Target, WriteStyle};

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
    let style = if io::stderr().is_terminal() { WriteStyle::Always } else { WriteStyle::Never };
    // The level is that of the crate `log`, so that it can be changed later.
    let logger = env_logger::Builder::new()
        .filter_level(log::LevelFilter::Trace)
        .write_style(style)
        .target(Target::Pipe(Box::new(QueueWriter)))
        .try_init();
    if logger.is_ok() {
        std::panic::set_hook(Box::new(report_panic));
    }
    log::set_max_level(level);
    Ok(())
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
