//! Decides which text of each option wins, and applies it.

use std::collections::HashMap;
use std::ffi::OsString;

use crate::config::load::references::References;
use crate::config::load::substitution::substituted;
use crate::config::load::{EffectiveOption, Loaded};
use crate::config::options::spec::{
    Accepted, DEFAULT, GROUPS, OptionSpec, REDIS, named, names, nearest, normalized, option,
};
use crate::config::options::value::shown;
use crate::config::options::{OPTIONS, retired};
use crate::config::report::{ConfigError, ConfigWarning, Source};
use crate::config::settings::{Config, Draft, UrlChoice};

/// How a secret is shown.
const HIDDEN: &str = "***";
const SECRET_DOLLAR: &str = "what follows a $ names no option that is set; write $$ for a $";

/// The text of each option, with its source.
pub(crate) type Texts = HashMap<&'static str, (Source, String)>;

/// The winning text of each option so far.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    texts: Texts,
    /// What `$name` may mean.
    references: References,
    /// The name that set an option in the current file, with its rank.
    in_file: HashMap<&'static str, Setter>,
    warnings: Vec<ConfigWarning>,
}

#[derive(Debug)]
struct Setter {
    rank: usize,
    origin: Source,
    group: String,
    name: String,
    value: String,
}

impl Layers {
    /// The values that follow are those of another file.
    pub(crate) fn begin_file(&mut self) {
        self.references.begin_file();
        self.in_file.clear();
    }

    pub(crate) fn set(&mut self, spec: &'static OptionSpec, origin: Source, text: String) {
        self.texts.insert(spec.name, (origin, text));
    }

    /// Sets the option `name` of `group`, or warns about it.
    pub(crate) fn take(&mut self, origin: Source, group: &str, name: &str, text: String) {
        let group = &*normalized(group);
        self.references.add(&origin, group, name, &text);
        if let Some((spec, rank)) = named(group, name) {
            let setter = Setter { rank, origin, group: group.to_owned(), name: name.to_owned(), value: text };
            return self.take_ranked(spec, setter);
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

    /// Sets an option unless the same file does it under a name that comes first.
    fn take_ranked(&mut self, spec: &'static OptionSpec, setter: Setter) {
        let is_file = matches!(setter.origin, Source::File { .. });
        let Some(before) = self.in_file.remove(spec.name).filter(|before| is_file && before.rank != setter.rank) else {
            self.set(spec, setter.origin.clone(), setter.value.clone());
            self.in_file.insert(spec.name, setter);
            return;
        };
        let (wins, loses) = if before.rank < setter.rank { (before, setter) } else { (setter, before) };
        self.set(spec, wins.origin.clone(), wins.value.clone());
        let known = |warning: &ConfigWarning| matches!(warning, ConfigWarning::Superseded { by, option, .. } if *by == wins.origin && option.name == spec.name);
        if loses.value != wins.value && !self.warnings.iter().any(known) {
            let Setter { origin, group, name, .. } = loses;
            let by = wins.origin.clone();
            self.warnings.push(ConfigWarning::Superseded { origin, group, name, option: spec, by });
        }
        self.in_file.insert(spec.name, wins);
    }

    /// Sets the option of a variable whose name starts with one of our groups.
    pub(crate) fn take_variable(&mut self, variable: &OsString, value: OsString) -> Result<(), ConfigError> {
        let Some(variable) = variable.to_str() else { return Ok(()) };
        for group in GROUPS {
            let prefix = format!("OS_{}__", group.to_ascii_uppercase());
            let Some(name) = variable.strip_prefix(&prefix).map(str::to_ascii_lowercase) else { continue };
            let origin = Source::Environment(shown(variable));
            match (value.into_string(), named(group, &name)) {
                (Err(bytes), Some((spec, _))) => {
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
            let mut secret = spec.secret;
            let (source, text) = match self.texts.get(spec.name).cloned() {
                // What the program itself sets is taken as it is.
                Some((source @ Source::Code, text)) => (source, Some(text)),
                Some((source, text)) => {
                    let (group, _) = names(spec)[0];
                    let lookup = |group: &str, name: &str| self.references.find(&self.texts, group, name);
                    let replaced = substituted(&text, group, &lookup);
                    let replaced = replaced.map_err(|problem| {
                        // The name may be a part of a password.
                        let problem = if spec.secret { SECRET_DOLLAR.to_owned() } else { problem };
                        value_error(spec, source.clone(), &text, problem)
                    })?;
                    secret |= replaced.secret;
                    (source, Some(replaced.text))
                }
                None => (Source::Default, spec.preset.text().map(Into::into)),
            };
            let value = text.map(|text| self.apply(spec, secret, &mut draft, &source, text)).transpose()?.flatten();
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

    /// Applies one text, that is shown unless it is secret. Returns the text to show, and whether a
    /// part of it is hidden.
    fn apply(
        &mut self,
        spec: &'static OptionSpec,
        secret: bool,
        draft: &mut Draft,
        source: &Source,
        text: String,
    ) -> Result<Option<(String, bool)>, ConfigError> {
        let visible = if secret { HIDDEN } else { &text };
        let accepted =
            spec.apply(draft, &text).map_err(|problem| value_error(spec, source.clone(), visible, problem))?;
        Ok(match accepted {
            // An empty host name means the default.
            Accepted::Unset => spec.preset.text().map(|text| (text.into(), false)),
            Accepted::AsWritten | Accepted::Hidden if secret => Some((HIDDEN.to_owned(), true)),
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
