//! What is said to an operator: where a value came from, what is wrong, what is doubtful.

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
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file, as it was named.
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

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read configuration file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        cause: io::Error,
    },
    /// A file is so large that it is not a configuration file.
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
        /// What is wrong.
        problem: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// A value is not allowed.
    #[error("{origin}: {option} = {value:?}: {problem}; allowed: {}", option.allowed)]
    Value {
        /// Who set it.
        origin: Source,
        /// The option.
        option: &'static OptionSpec,
        /// The value, shortened, without secrets.
        value: String,
        /// What is wrong.
        problem: String,
    },
    /// Two values do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A flag or the program names an option that does not exist.
    #[error("{origin}: there is no option {name:?}{}", meant(*nearest))]
    UnknownOption {
        /// Who named it.
        origin: Source,
        /// The name.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static OptionSpec>,
    },
}

/// Something doubtful that does not prevent a start. Its text names source, option and remedy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// An option nobody knows. In `DEFAULT` it may belong to the program that shares the file.
    Unknown {
        /// Who set it.
        origin: Source,
        /// The group.
        group: String,
        /// The name, shortened.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static OptionSpec>,
    },
    /// A known option in a group where it is not looked for.
    Misplaced {
        /// Who set it.
        origin: Source,
        /// The wrong group.
        group: String,
        /// The option, which names its groups.
        option: &'static OptionSpec,
    },
    /// An option of an earlier driver that is not needed here.
    Retired {
        /// Who set it.
        origin: Source,
        /// The option and the reason.
        option: Retired,
    },
    /// A value in an old spelling, which is still understood.
    Deprecated {
        /// Who set it.
        origin: Source,
        /// The option.
        option: &'static OptionSpec,
        /// The old spelling.
        value: String,
        /// What to write.
        instead: &'static str,
    },
    /// A value with `$`, which oslo.config would have replaced by another option's value.
    NotSubstituted {
        /// Who set it.
        origin: Source,
        /// The option.
        option: &'static OptionSpec,
        /// The value, taken literally.
        value: String,
    },
    /// `transport_url` overrides an option that was set.
    Overridden {
        /// Who set the option.
        origin: Source,
        /// The option without effect.
        option: &'static OptionSpec,
        /// Who set `transport_url`.
        by: Source,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { origin, group, name, nearest } => {
                let meant = meant(*nearest);
                write!(f, "{origin}: unknown option {name:?} in [{group}] is ignored{meant}")
            }
            Self::Misplaced { origin, group, option } => {
                let right = option.group;
                let name = option.name;
                write!(f, "{origin}: {name} in [{group}] is ignored, it belongs in [{right}]")
            }
            Self::Retired { origin, option: Retired { name, reason } } => {
                write!(f, "{origin}: {name} is ignored, it is not needed: {reason}")
            }
            Self::Deprecated { origin, option, value, instead } => {
                let value = shown(value);
                write!(f, "{origin}: {option} = {value:?} is an old spelling, write {instead}")
            }
            Self::NotSubstituted { origin, option, value } => {
                let value = shown(value);
                write!(f, "{origin}: {option} = {value:?} is taken literally: ")?;
                f.write_str("$ does not stand for another option here, write its value")
            }
            Self::Overridden { origin, option, by } => {
                write!(f, "{origin}: {option} has no effect, transport_url ({by}) overrides it")
            }
        }
    }
}

fn meant(nearest: Option<&'static OptionSpec>) -> String {
    nearest.map(|spec| format!("; did you mean {spec}?")).unwrap_or_default()
}
