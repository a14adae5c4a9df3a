//! Finds the value that `$name` stands for, by the rule of oslo.config.
//!
//! The name is looked up in the group of the option that uses it, then in `DEFAULT`. An option that
//! may stand in several groups is read there as if it belonged to the group in which it was looked
//! up: `$rpc_zmq_port` in a value of `[DEFAULT]` does not see the port of `[oslo_messaging_zmq]`,
//! but `$oslo_messaging_zmq.rpc_zmq_port` does.

use std::collections::HashMap;

use crate::config::load::layers::Texts;
use crate::config::load::substitution::Found;
use crate::config::options::spec::{DEFAULT, GROUPS, OptionSpec, Parse, named, names, normalized};
use crate::config::options::value::{boolean, integer};
use crate::config::report::Source;

/// The values of one file or of the environment, by group and name.
type Values = HashMap<(String, String), String>;

/// Every value of files and environment, of other programs too.
#[derive(Debug, Default)]
pub(crate) struct References {
    files: Vec<Values>,
    environment: Values,
}

impl References {
    /// The values that follow are those of another file.
    pub(crate) fn begin_file(&mut self) {
        self.files.push(Values::new());
    }

    pub(crate) fn add(&mut self, origin: &Source, group: &str, name: &str, text: &str) {
        let values = match origin {
            Source::File { .. } => self.files.last_mut(),
            _ => Some(&mut self.environment),
        };
        let key = (group.to_owned(), name.to_owned());
        if let Some(values) = values {
            values.insert(key, text.to_owned());
        }
    }

    /// The value of `$name` or `$group.name` in a value of `group`. `texts` are the options as they
    /// are in effect.
    pub(crate) fn find(&self, texts: &Texts, group: &str, name: &str) -> Option<Found> {
        let (inner, option) = match name.split_once('.') {
            // oslo.config knows no group of this name: its options have none.
            Some((DEFAULT, _)) => return None,
            Some(both) => both,
            None => (group, name),
        };
        self.in_group(texts, inner, option).or_else(|| self.in_group(texts, DEFAULT, name))
    }

    fn in_group(&self, texts: &Texts, group: &str, name: &str) -> Option<Found> {
        let Some((spec, _)) = named(group, name) else {
            let group = normalized(group);
            // Other programs have no options in our groups.
            let theirs = group == DEFAULT || !GROUPS.contains(&&*group);
            let text = theirs.then(|| self.first(&group, name, &[(&group, name)])).flatten()?;
            return Some(Found { group, text, raw: false, secret: false, shown: Box::new(Ok) });
        };
        let mut names = names(spec);
        let effective = texts.get(spec.name);
        // A flag has no group.
        let flag = effective.filter(|(source, _)| matches!(source, Source::Flag(_) | Source::Code));
        let text = match flag {
            Some((_, text)) => Some(text.clone()),
            None if (group, name) == names[0] => effective.map(|(_, text)| text.clone()),
            None => {
                names[0].0 = group;
                self.first(group, name, &names)
            }
        };
        let raw = flag.is_some_and(|(source, _)| *source == Source::Code);
        let text = text.unwrap_or_else(|| spec.preset.text().unwrap_or_default().into_owned());
        let shown = Box::new(move |text| shown(spec, text));
        Some(Found { group: group.to_owned(), text, raw, secret: spec.secret, shown })
    }

    /// The variable of `group` and `name`, or the first of `names` in the last file that has one.
    fn first(&self, group: &str, name: &str, names: &[(&str, &str)]) -> Option<String> {
        let get = |values: &Values, group: &str, name: &str| values.get(&(group.to_owned(), name.to_owned())).cloned();
        let of = |file: &Values| names.iter().find_map(|(group, name)| get(file, group, name));
        get(&self.environment, group, name).or_else(|| self.files.iter().rev().find_map(of))
    }
}

/// The text of an option as oslo.config shows its type.
fn shown(spec: &OptionSpec, text: String) -> Result<String, String> {
    Ok(match spec.parse {
        Parse::Integer { min, max, .. } => integer(&text, min, max)?.to_string(),
        // Whole seconds are whole numbers in oslo.config. Decimal ones are not there.
        Parse::Seconds { .. } => integer(&text, 0, u64::MAX).map_or(text, |number| number.to_string()),
        Parse::Boolean(_) => if boolean(&text)? { "True" } else { "False" }.to_owned(),
        Parse::List(_) => {
            let items = text.split(',').map(str::trim).filter(|_| !text.is_empty());
            format!("[{}]", items.map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", "))
        }
        Parse::Text(_) | Parse::Special(_) => text,
    })
}
