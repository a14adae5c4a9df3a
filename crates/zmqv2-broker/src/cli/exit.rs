//! Exit codes, the same for every subcommand.

use std::fmt;
use std::process::ExitCode;

use super::tell;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The remote method failed.
    Remote = 3,
    /// Refused, with a typed reason.
    Refused = 4,
    /// Timeout, or nobody could be reached.
    Timeout = 5,
}

/// An error with the exit code that it leads to.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// An error that ends the program with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// How the program ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// A usage or configuration error.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The chain of causes on one line. Most errors tell their cause themselves: once is enough.
        let mut text = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        f.write_str(&text)
    }
}

/// Prints an error, if any, and gives the exit code.
#[must_use]
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn every_cause_is_told_once() {
        let cause = || std::io::Error::other("disk full");
        let bare: anyhow::Result<()> = Err(cause()).context("cannot write");
        let told: anyhow::Result<()> = Err(cause()).context("cannot write: disk full");
        for result in [bare, told] {
            assert_eq!(Failure::usage(result.unwrap_err()).to_string(), "cannot write: disk full");
        }
    }
}
