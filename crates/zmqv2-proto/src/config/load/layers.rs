//! Decides which text of each option wins, and applies it.

use std::collections::HashMap;
use std::ffi::OsString;

use crate::config::load::{EffectiveOption, Loaded};
use crate::config::options::spec::{Accepted, DEFAULT, GROUPS, OptionSpec, REDIS, in_group, nearest, option};
use crate::config::options::value::shown;
use crate::config::options::{OPTIONS, retired};
use crate::config::report::{ConfigError, ConfigWarning, Source};
use crate::config::settings::{Config, Draft, UrlChoice};

/// How a secret is shown.
const HIDDEN: &str = "***";

/// The winning text of each option so far.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    texts: HashMap<&'static str, (Source, String)>,
    warnings: Vec<ConfigWarning>,
}

impl Layers {
    pub(crate) fn set(&mut self, spec: &'static OptionSpec, origin: Source, text: String) {
        self.texts.insert(spec.name, (origin, text));
    }

    /// Sets the option `name` of `group`, or warns about it.
    pub(crate) fn take(&mut self, origin: Source, group: &str, name: &str, text: String) {
        if let Some(spec) = in_group(group, name) {
            return self.set(spec, origin, text);
        }
        if let Some(option) = retired::find(group, name) {
            return self.warnings.push(ConfigWarning::Retired { origin, option });
        }
        let ours = GROUPS.contains(&group);
        // Other programs share the file. They may have `host` and `port` in DEFAULT, and options
        // with the names of ours in their groups, but none that starts with `rpc_zmq_`.
        let misplaced = option(name)
            .filter(|_| !name.contains('.'))
            .filter(|spec| name.starts_with("rpc_zmq_") || (ours && !(group == DEFAULT && spec.group == REDIS)));
        let group = group.to_owned();
        if let Some(option) = misplaced {
            self.warnings.push(ConfigWarning::Misplaced { origin, group, option });
        } else if ours {
            let nearest = nearest(Some(&group), name);
            let name = shown(name);
            self.warnings.push(ConfigWarning::Unknown { origin, group, name, nearest });
        }
    }

    /// Sets the option of a variable whose name starts with one of our groups.
    pub(crate) fn take_variable(&mut self, variable: &OsString, value: OsString) -> Result<(), ConfigError> {
        let Some(variable) = variable.to_str() else { return Ok(()) };
        for group in GROUPS {
            let prefix = format!("OS_{}__", group.to_ascii_uppercase());
            let Some(name) = variable.strip_prefix(&prefix).map(str::to_ascii_lowercase) else { continue };
            let origin = Source::Environment(shown(variable));
            match (value.into_string(), in_group(group, &name)) {
                (Err(bytes), Some(spec)) => {
                    return Err(value_error(spec, origin, &bytes.to_string_lossy(), "not UTF-8".into()));
                }
                (value, _) => self.take(origin, group, &name, value.unwrap_or_default()),
            }
            break;
        }
        Ok(())
    }

    /// Applies every option to a fresh draft.
    pub(crate) fn finish(mut self) -> Result<Loaded, ConfigError> {
        let mut draft = Draft::blank();
        let mut effective = Vec::with_capacity(OPTIONS.len());
        for spec in OPTIONS {
            let (source, text) = match self.texts.remove(spec.name) {
                Some((source, text)) => (source, Some(text)),
                None => (Source::Default, spec.preset.text().map(Into::into)),
            };
            let value = text.map(|text| self.apply(spec, &mut draft, &source, text)).transpose()?.flatten();
            let (value, hidden) = value.unzip();
            let (group, name, hidden) = (spec.group, spec.name, hidden.unwrap_or_default());
            effective.push(EffectiveOption { group, name, value, hidden, source, overridden: false });
        }
        let (before, url) = (draft.config.clone(), draft.url.clone());
        let config = draft.finish();
        if let Some(url) = url {
            self.note_overrides(&url, &before, &config, &mut effective);
        }
        check_pairs(&config, &effective)?;
        Ok(Loaded { config, warnings: self.warnings, effective })
    }

    /// Applies one text. Returns the text to show, and whether a part of it is hidden.
    fn apply(
        &mut self,
        spec: &'static OptionSpec,
        draft: &mut Draft,
        source: &Source,
        text: String,
    ) -> Result<Option<(String, bool)>, ConfigError> {
        let accepted = spec.apply(draft, &text).map_err(|problem| value_error(spec, source.clone(), &text, problem))?;
        // A secret may contain a `$` and must not be shown in the warning.
        if text.contains('$') && !spec.secret && accepted != Accepted::Hidden && matches!(source, Source::File { .. }) {
            let (origin, value) = (source.clone(), text.clone());
            self.warnings.push(ConfigWarning::NotSubstituted { origin, option: spec, value });
        }
        Ok(match accepted {
            // An empty host name means the default.
            Accepted::Unset => spec.preset.text().map(|text| (text.into(), false)),
            Accepted::AsWritten if spec.secret => Some((HIDDEN.to_owned(), true)),
            Accepted::AsWritten => Some((text, false)),
            Accepted::Hidden => Some((shown(&text), true)),
            Accepted::Deprecated(instead) => {
                let origin = source.clone();
                self.warnings.push(ConfigWarning::Deprecated { origin, option: spec, value: text, instead });
                Some((instead.to_owned(), false))
            }
        })
    }

    /// Marks the options that `transport_url` overrides, and warns about those that were set.
    fn note_overrides(&mut self, url: &UrlChoice, before: &Config, after: &Config, effective: &mut [EffectiveOption]) {
        let by = find(effective, "transport_url").source.clone();
        for (option, one) in OPTIONS.iter().zip(effective) {
            one.overridden = url.overrides(option, before, after);
            if one.overridden && one.source != Source::Default {
                let (origin, by) = (one.source.clone(), by.clone());
                self.warnings.push(ConfigWarning::Overridden { origin, option, by });
            }
        }
    }
}

fn value_error(option: &'static OptionSpec, origin: Source, text: &str, problem: String) -> ConfigError {
    let value = if option.secret { HIDDEN.to_owned() } else { shown(text) };
    ConfigError::Value { origin, option, value, problem }
}

pub(crate) fn find<'a>(effective: &'a [EffectiveOption], name: &str) -> &'a EffectiveOption {
    effective.iter().find(|one| one.name == name).expect("every option of the table is effective")
}

/// Checks pairs of options against each other.
fn check_pairs(config: &Config, effective: &[EffectiveOption]) -> Result<(), ConfigError> {
    let shown = |name| {
        let EffectiveOption { value, source, .. } = find(effective, name);
        format!("{name} = {} ({source})", value.as_deref().unwrap_or_default())
    };
    let (ttl, freq) = ("matchmaker_heartbeat_ttl", "matchmaker_heartbeat_freq");
    let (backlog, message) = ("rpc_zmq_backlog_bytes", "rpc_zmq_max_message_bytes");
    let (name, must, other, because) = if config.heartbeat_ttl <= config.heartbeat_freq {
        (ttl, "must be greater than", freq, "a registration would end before it is renewed")
    } else if config.backlog_bytes < config.max_message_bytes {
        (backlog, "must be at least", message, "the largest message would never fit")
    } else {
        return Ok(());
    };
    Err(ConfigError::Conflict(format!("{} {must} {}: {because}", shown(name), shown(other))))
}
