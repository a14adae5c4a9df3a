//! The definition of an option: its names, its texts, and how a text becomes a setting.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::config::options::{OPTIONS, value};
use crate::config::settings::{Config, Draft, host_name};

/// The group of options that stand before any group, and of most others.
pub(crate) const DEFAULT: &str = "DEFAULT";
/// The group to which the last ZeroMQ driver moved its options.
pub(crate) const ZMQ: &str = "oslo_messaging_zmq";
pub(crate) const REDIS: &str = "matchmaker_redis";
pub(crate) const RING: &str = "matchmaker_ring";

/// The groups in which unknown options are reported. Other groups belong to other programs.
pub(crate) const GROUPS: [&str; 4] = [DEFAULT, ZMQ, REDIS, RING];

/// One option: the definition behind parsing, defaults, printing and documentation.
#[derive(Debug)]
#[non_exhaustive]
pub struct OptionSpec {
    /// The group in which the option is printed.
    pub group: &'static str,
    /// Every group that may hold the option, [`group`](Self::group) included.
    pub groups: &'static [&'static str],
    /// The name in a file.
    pub name: &'static str,
    /// The value of the option when it is not set.
    pub preset: Preset,
    /// Meaning and unit, in one line.
    pub doc: &'static str,
    /// The allowed values, in one phrase.
    pub allowed: &'static str,
    /// The reason for an option that the legacy driver did not have.
    pub reason: Option<&'static str>,
    /// Whether the value is printed as `***`.
    pub secret: bool,
    pub(crate) parse: Parse,
}

/// The value of an option that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// This text.
    Text(&'static str),
    /// The host name of the machine.
    HostName,
    /// No value; the text explains the effect. An empty value unsets such an option again.
    Unset(&'static str),
}

impl Preset {
    /// The default text, when there is one.
    #[must_use]
    pub fn text(self) -> Option<Cow<'static, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::HostName => Some(Cow::Owned(host_name().to_string())),
            Self::Unset(_) => None,
        }
    }
}

/// The kind of values that an option has, for programs that declare the options in a library of their
/// own, such as oslo.config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// A whole number within these bounds.
    Integer {
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// Seconds, whole or decimal.
    Seconds {
        /// Whether 0 is allowed.
        zero: bool,
    },
    /// `true` or `false`.
    Boolean,
    /// Texts between commas.
    List,
    /// Any other text.
    Text,
}

/// How the text of an option is read, and the setting that it changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parse {
    /// A whole number within bounds. `set` narrows it without a check, because the bounds fit the
    /// field.
    Integer { min: u64, max: u64, set: fn(&mut Config, u64) },
    /// Seconds, whole or decimal. Less than a millisecond would be zero on the wire.
    Seconds { zero: bool, set: fn(&mut Config, Duration) },
    /// `true` or `false`, also in other words.
    Boolean(fn(&mut Config, bool)),
    /// Texts between commas, which may be on several lines.
    List(fn(&mut Config, &str) -> Result<(), String>),
    /// Any other text.
    Text(fn(&mut Config, &str) -> Result<(), String>),
    /// A text that may contain a password or use an old spelling.
    Special(fn(&mut Draft, &str) -> Result<Accepted, String>),
}

/// How a value was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    AsWritten,
    /// As written, but with a password in it.
    Hidden,
    /// An empty text for an option that can be unset.
    Unset,
    /// An old spelling of this text.
    Deprecated(&'static str),
}

impl OptionSpec {
    /// The kind of its values.
    ///
    /// ```
    /// use zmqv2_proto::config::{OptionKind, option};
    ///
    /// let port = option("rpc_zmq_port").unwrap();
    /// assert_eq!(port.kind(), OptionKind::Integer { min: 0, max: 65535 });
    /// ```
    #[must_use]
    pub fn kind(&self) -> OptionKind {
        match self.parse {
            Parse::Integer { min, max, .. } => OptionKind::Integer { min, max },
            Parse::Seconds { zero, .. } => OptionKind::Seconds { zero },
            Parse::Boolean(_) => OptionKind::Boolean,
            Parse::List(_) => OptionKind::List,
            Parse::Text(_) | Parse::Special(_) => OptionKind::Text,
        }
    }

    /// Reads `text` into `draft`, or says what is wrong with it.
    pub(crate) fn apply(&self, draft: &mut Draft, text: &str) -> Result<Accepted, String> {
        if text.is_empty() && !matches!(self.preset, Preset::Text(_)) {
            return Ok(Accepted::Unset);
        }
        let joined = text.replace('\n', " ");
        let text = if matches!(self.parse, Parse::List(_)) { joined.as_str() } else { text };
        // No other option needs control characters, and without them every value fits on one line.
        if text.chars().any(char::is_control) {
            return Err("it has a line break or control character".to_owned());
        }
        match self.parse {
            Parse::Integer { min, max, set } => set(&mut draft.config, value::integer(text, min, max)?),
            Parse::Seconds { zero, set } => set(&mut draft.config, value::seconds(text, zero)?),
            Parse::Boolean(set) => set(&mut draft.config, value::boolean(text)?),
            Parse::Text(set) | Parse::List(set) => set(&mut draft.config, text)?,
            Parse::Special(set) => return set(draft, text),
        }
        Ok(Accepted::AsWritten)
    }
}

impl fmt::Display for OptionSpec {
    /// The name in messages, without the group `DEFAULT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group == DEFAULT { f.write_str(self.name) } else { write!(f, "[{}] {}", self.group, self.name) }
    }
}

/// The option called `name`, or `group.name`. Names are unique, so the group may be left out.
///
/// ```
/// assert_eq!(zmqv2_proto::config::option("matchmaker_ring.ringfile").unwrap().name, "ringfile");
/// ```
#[must_use]
pub fn option(name: &str) -> Option<&'static OptionSpec> {
    match name.split_once('.') {
        Some((group, name)) => in_group(group, name),
        None => OPTIONS.iter().find(|spec| spec.name == name),
    }
}

/// The option called `name` when it is accepted in `group`.
pub(crate) fn in_group(group: &str, name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.name == name && spec.groups.contains(&group))
}

/// Names from oslo.messaging, with their groups, that win over an option's own names.
const NEWER_NAMES: &[(&str, &str, &str)] = &[(DEFAULT, "executor_thread_pool_size", "rpc_thread_pool_size")];
/// Names from earlier drivers, with their groups. The option's own names win.
const OLDER_NAMES: &[(&str, &str, &str)] = &[(DEFAULT, "matchmaker_ringfile", "ringfile")];

/// The option that a file calls `name` in `group`, and the rank of that name: in one file, the
/// lowest rank wins, as in oslo.config, where the groups of an option have an order.
pub(crate) fn named(group: &str, name: &str) -> Option<(&'static OptionSpec, usize)> {
    let listed = |names: &[(&str, &str, &'static str)]| {
        names.iter().find(|known| (known.0, known.1) == (group, name)).and_then(|known| option(known.2))
    };
    if let Some(spec) = listed(NEWER_NAMES) {
        return Some((spec, 0));
    }
    if let Some(spec) = listed(OLDER_NAMES) {
        return Some((spec, usize::MAX));
    }
    let spec = in_group(group, name)?;
    // The group to which the last driver moved its options comes first.
    let rank = spec.groups.iter().rev().position(|known| *known == group)?;
    Some((spec, 1 + rank))
}

/// The groups and names of an option, the first one in use first: oslo.config takes the first that a
/// file sets. The first of all is the one under which a program that uses oslo.config has it.
pub(crate) fn names(spec: &'static OptionSpec) -> Vec<(&'static str, &'static str)> {
    let of = |listed: &'static [(&str, &str, &str)]| {
        listed.iter().filter(|known| known.2 == spec.name).map(|known| (known.0, known.1))
    };
    let own = spec.groups.iter().rev().map(|group| (*group, spec.name));
    of(NEWER_NAMES).chain(own).chain(of(OLDER_NAMES)).collect()
}

/// Our group of this name. oslo.config ignores the case, but for `DEFAULT`.
pub(crate) fn normalized(group: &str) -> String {
    if group == DEFAULT { group.to_owned() } else { group.to_ascii_lowercase() }
}

/// The option of `group` (`None`: of any group) that `name` probably means.
pub(crate) fn nearest(group: Option<&str>, name: &str) -> Option<&'static OptionSpec> {
    // A comparison takes quadratic time, so a hostile name must not be long.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    let ours = group.is_some_and(|group| group != DEFAULT);
    OPTIONS
        .iter()
        .filter(|spec| group.is_none_or(|group| spec.groups.contains(&group)))
        .map(|spec| (strsim::osa_distance(&name, spec.name), spec))
        // In a group that is ours alone, an unknown option can only mean one of ours.
        .filter(|(distance, spec)| ours || *distance <= 1 + spec.name.len() / 6)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, spec)| spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_option_and_another_word_does_not() {
        let name = |group, text| nearest(group, text).map(|spec| spec.name);
        assert_eq!(name(Some(DEFAULT), "rpc_zmq_prot"), Some("rpc_zmq_port"));
        assert_eq!(name(Some(DEFAULT), "rpc-zmq-port"), Some("rpc_zmq_port"));
        assert_eq!(name(None, "ring_file"), Some("ringfile"));
        assert_eq!(name(Some(DEFAULT), "hosts"), None);
        assert_eq!(name(Some(DEFAULT), "debug"), None);
        assert_eq!(name(Some(DEFAULT), &"rpc_zmq_port".repeat(1000)), None);
    }

    #[test]
    fn an_option_is_found_with_and_without_its_group() {
        assert_eq!(option("host").unwrap().group, REDIS);
        assert_eq!(option("matchmaker_redis.host").unwrap().group, REDIS);
        assert_eq!(option("oslo_messaging_zmq.rpc_zmq_port").unwrap().group, DEFAULT);
        assert!(option("DEFAULT.host").is_none() && option("nothing").is_none());
    }
}
