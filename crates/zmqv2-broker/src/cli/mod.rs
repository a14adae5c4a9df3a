//! Shared by the two binaries: common flags, configuration, log, signals and exit codes.

mod exit;
mod flags;
mod launch;
mod log;
mod memory;
mod output;
mod signals;

pub use exit::{Exit, Failure, finish};
pub use flags::{CommonFlags, Setup};
pub use launch::{LaunchFlags, launch};
pub use memory::keep_freed_memory;
pub use output::{Unwritable, say, tell};
pub use signals::on_stop_signal;
