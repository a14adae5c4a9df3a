//! Loads a configuration from its layers: files, environment, flags and code.

pub(crate) mod ini;
pub(crate) mod layers;
mod references;
mod substitution;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::load::layers::Layers;
use crate::config::options::spec::{nearest, option};
use crate::config::options::value::shown;
use crate::config::report::{ConfigError, ConfigWarning, Source};
use crate::config::settings::Config;

/// Collects the layers of a configuration. Nothing is read or checked before
/// [`build`](Self::build).
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is read before build()"]
pub struct ConfigBuilder {
    files: Vec<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    overrides: Vec<(Source, String, String)>,
}

/// A configuration, with warnings and the source of each value.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings for the operator.
    pub warnings: Vec<ConfigWarning>,
    /// Every option with its value and source, in the order of the table.
    pub effective: Vec<EffectiveOption>,
}

/// The effective value of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EffectiveOption {
    /// The group in which the option is printed.
    pub group: &'static str,
    /// The option's name.
    pub name: &'static str,
    /// The value as text, `***` for a secret. `None` when the option is unset.
    pub value: Option<String>,
    /// Whether a password is left out of the value.
    pub hidden: bool,
    /// Where the value came from.
    pub source: Source,
    /// Whether `transport_url` overrides the option.
    pub overridden: bool,
}

impl ConfigBuilder {
    /// Adds an INI file, which must exist. Later files win over earlier ones.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Adds the variables `OS_<GROUP>__<OPTION>` of this process's environment.
    pub fn environment(self) -> Self {
        self.environment_from(std::env::vars_os())
    }

    /// Adds the variables `OS_<GROUP>__<OPTION>` among `variables` and ignores others.
    ///
    /// When an option is set for two groups, `OSLO_MESSAGING_ZMQ` wins over `DEFAULT`.
    pub fn environment_from<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.environment.extend(variables);
        self
    }

    /// Sets an option (`name` or `group.name`) from code. Later calls win, [`flag`](Self::flag)
    /// included.
    pub fn set(mut self, option: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((Source::Code, option.into(), value.into()));
        self
    }

    /// Sets an option (`name` or `group.name`) because the command line has `flag`.
    pub fn flag(mut self, flag: impl Into<String>, option: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((Source::Flag(flag.into()), option.into(), value.into()));
        self
    }

    /// Reads all layers and checks the effective values.
    ///
    /// A bad value that a later layer replaces is not an error: a flag can correct a file.
    ///
    /// # Errors
    /// [`ConfigError`]: a file that cannot be read, a line that is not INI, a value that is not
    /// allowed, two values that conflict, or a flag for an option that does not exist.
    pub fn build(self) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::default();
        for path in self.files {
            layers.begin_file();
            for entry in ini::read(&path)? {
                let origin = Source::File { path: path.clone(), line: entry.line };
                layers.take(origin, &entry.group, &entry.name, entry.value);
            }
        }
        let mut variables = self.environment;
        // An environment has no order, so the order of the names decides.
        variables.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (variable, value) in variables {
            layers.take_variable(&variable, value)?;
        }
        for (origin, name, value) in self.overrides {
            match option(&name) {
                Some(spec) => layers.set(spec, origin, value),
                None => {
                    let nearest = nearest(None, &name);
                    return Err(ConfigError::UnknownOption { origin, name: shown(&name), nearest });
                }
            }
        }
        layers.finish()
    }
}

#[cfg(test)]
mod tests;
