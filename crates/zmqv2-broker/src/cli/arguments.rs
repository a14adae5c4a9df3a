//! The command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use super::output::{Unwritable, require_stdout};
use super::{Exit, finish};

/// Reads the command line. `Err`: the program is done, because the command line is wrong, or asked
/// for help or for the version, which are results like any other.
///
/// # Errors
/// The exit code.
pub fn arguments<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        if error.use_stderr() {
            let _ = error.print();
            return ExitCode::from(Exit::Usage as u8);
        }
        let print = || -> Result<(), Unwritable> {
            require_stdout()?;
            error.print()?;
            Ok(io::stdout().flush()?)
        };
        finish(print().map_err(Into::into))
    })
}
