//! Errors and warnings for an operator, and the sources of values.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::options::retired::Retired;
use crate::config::options::spec::OptionSpec;
use crate::config::options::value::shown;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The table of options.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
    /// The program itself.
    Code,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Code => f.write_str("code"),
        }
    }
}

/// The reason why a configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read configuration file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason that the operating system gives.
        cause: io::Error,
    },
    /// A file is too large for a configuration file.
    #[error("configuration file {} has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A line of a file is not INI.
    #[error("{}:{line}: {text:?}: {problem}; expected {expected}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The line's text, shortened.
        text: String,
        /// The problem.
        problem: &'static str,
        /// The allowed form.
        expected: &'static str,
    },
    /// A value is not allowed.
    #[error("{origin}: {option} = {value:?}: {problem}; allowed: {}", option.allowed)]
    Value {
        /// The source of the value.
        origin: Source,
        /// The option.
        option: &'static OptionSpec,
        /// The value, shortened and without secrets.
        value: String,
        /// The problem.
        problem: String,
    },
    /// Two values conflict.
    #[error("{0}")]
    Conflict(String),
    /// A flag or the program names an option that does not exist.
    #[error("{origin}: there is no option {name:?}{}", meant(*nearest))]
    UnknownOption {
        /// The source of the name.
        origin: Source,
        /// The name.
        name: String,
        /// The option that was probably meant.
        nearest: Option<&'static OptionSpec>,
    },
}

/// A doubtful value that does not prevent a start. Its text names source, option and remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// An unknown option. In `DEFAULT` it may belong to another program that shares the file.
    #[error("{origin}: unknown option {name:?} in [{group}] is ignored{}", meant(*nearest))]
    Unknown {
        /// The source of the value.
        origin: Source,
        /// The group.
        group: String,
        /// The name, shortened.
        name: String,
        /// The option that was probably meant.
        nearest: Option<&'static OptionSpec>,
    },
    /// A known option in a wrong group.
    #[error("{origin}: {} in [{group}] is ignored, it belongs in [{}]", option.name, option.group)]
    Misplaced {
        /// The source of the value.
        origin: Source,
        /// The wrong group.
        group: String,
        /// The option.
        option: &'static OptionSpec,
    },
    /// An option of an earlier driver that is not needed here.
    #[error("{origin}: {} is ignored, it is not needed: {}", option.name, option.reason)]
    Retired {
        /// The source of the value.
        origin: Source,
        /// The option and the reason.
        option: Retired,
    },
    /// A value in an old spelling, which still works.
    #[error("{origin}: {option} = {:?} is an old spelling, write {instead}", shown(value))]
    Deprecated {
        /// The source of the value.
        origin: Source,
        /// The option.
        option: &'static OptionSpec,
        /// The old spelling.
        value: String,
        /// The new spelling.
        instead: &'static str,
    },
    /// One file sets an option under two names or in two groups.
    #[error("{origin}: {name} in [{group}] has no effect, {by} sets {option} and comes first")]
    Superseded {
        /// The source of the value without effect.
        origin: Source,
        /// Its group.
        group: String,
        /// Its name there.
        name: String,
        /// The option.
        option: &'static OptionSpec,
        /// The source of the value that counts.
        by: Source,
    },
    /// `transport_url` overrides an option that was set.
    #[error("{origin}: {option} has no effect, transport_url ({by}) overrides it")]
    Overridden {
        /// The source of the option.
        origin: Source,
        /// The option without effect.
        option: &'static OptionSpec,
        /// The source of `transport_url`.
        by: Source,
    },
}

fn meant(nearest: Option<&'static OptionSpec>) -> String {
    nearest.map(|spec| format!("; did you mean {spec}?")).unwrap_or_default()
}
