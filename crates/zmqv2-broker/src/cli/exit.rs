//! Exit codes, the same for every subcommand.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use zmqv2_matchmaker::MatchmakerError;

use super::{log, tell};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Any other failure.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    Remote = 3,
    Refused = 4,
    /// Timeout, no broker could be reached, or the directory could not say where the target is, or
    /// who else there may be.
    Timeout = 5,
}

type BoxedError = Box<dyn Error + Send + Sync>;

#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: BoxedError,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<BoxedError>) -> Self {
        Self { exit, error: error.into() }
    }

    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The directory failed. An error that may pass is no mistake in the configuration.
    pub fn directory(error: MatchmakerError) -> Self {
        if error.may_pass() { Self::new(Exit::Timeout, format!("Directory: {error}")) } else { Self::usage(error) }
    }

    pub fn usage(error: impl Into<BoxedError>) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl<E: Into<BoxedError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The chain of causes on one line. A cause that the text contains already is not repeated.
        let mut text = self.error.to_string();
        let mut source = self.error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        f.write_str(&text)
    }
}

/// Prints the error, if there is one, waits within a bound for the log to be written, and returns
/// the exit code.
#[must_use]
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    let code = match result {
        Ok(()) => {
            log::release_warnings(None);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            log::release_warnings(Some(&failure.to_string()));
            tell(&failure);
            ExitCode::from(failure.exit as u8)
        }
    };
    log::end();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn an_error_of_the_directory_that_may_pass_is_no_mistake_in_the_configuration() {
        let directory = || "redis at h:1".to_owned();
        let passing =
            Failure::directory(MatchmakerError::Unavailable { directory: directory(), source: "gone".into() });
        assert_eq!(passing.exit(), Exit::Timeout);
        assert_eq!(passing.to_string(), "Directory: the redis at h:1 directory is unavailable: gone");
        let (problem, remedy) = ("no host".to_owned(), "correct host".to_owned());
        let wrong = Failure::directory(MatchmakerError::Misconfigured { directory: directory(), problem, remedy });
        assert_eq!(wrong.exit(), Exit::Usage);
    }

    #[test]
    fn every_cause_is_shown_once() {
        for text in ["cannot write", "cannot write: disk full"] {
            let failure = Failure::usage(Outer(text, std::io::Error::other("disk full")));
            assert_eq!(failure.to_string(), "cannot write: disk full");
        }
    }
}
