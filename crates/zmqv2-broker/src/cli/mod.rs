//! Shared by the two binaries: common flags, configuration, log, signals and exit codes.

mod arguments;
mod check;
mod closed_at_start;
mod exit;
mod flags;
mod launch;
mod log;
mod memory;
mod output;
mod reload;
mod signals;
mod state;

pub use arguments::arguments;
pub use exit::{Exit, Failure, finish};
pub use flags::{CommonFlags, Setup};
pub use launch::{LaunchFlags, launch};
pub use log::hold_warnings_of_directory;
pub use memory::keep_freed_memory;
pub use output::{Unwritable, require_stdout, say, shows_colors, tell, write_stdout};
pub use reload::Reloader;
pub use signals::{SignalHandler, on_stop_signal};
pub use state::StateReport;
