//! What the two binaries share: common flags, loading the configuration, logging, signals and exit codes.
//! Not part of the library's interface.

mod exit;
mod flags;
mod launch;
mod memory;
mod output;
mod signals;

pub use exit::{Exit, Failure, finish};
pub use flags::{CommonFlags, Setup};
pub use launch::{LaunchFlags, launch};
pub use memory::keep_freed_memory;
pub use output::{Unwritable, say, tell};
pub use signals::on_stop_signal;
