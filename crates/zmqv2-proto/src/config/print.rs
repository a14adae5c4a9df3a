//! The configuration as text: effective, as an example, and as a page of documentation.

use std::fmt::Write as _;

use crate::config::load::Loaded;
use crate::config::load::ini::quoted;
use crate::config::options::OPTIONS;
use crate::config::options::spec::{OptionSpec, Preset};

impl Loaded {
    /// The effective configuration as an INI file that says above each option where it comes from.
    ///
    /// Reading the text again gives the same configuration, except for secrets, which are shown as
    /// `***` in a comment. Options that are unset, or overridden by `transport_url`, are comments
    /// too.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut group = "";
        for (spec, one) in OPTIONS.iter().zip(&self.effective) {
            enter(&mut text, &mut group, spec);
            let remark = match spec.preset {
                _ if one.overridden => ", overridden by transport_url".to_owned(),
                Preset::Unset(meaning) if one.value.is_none() => format!(", unset: {meaning}"),
                _ => String::new(),
            };
            // A path may contain a line break, which would end the comment.
            line(&mut text, &format!("# {}{remark}", one.source.to_string().replace(char::is_control, "?")));
            let value = one.value.as_deref().map(quoted).unwrap_or_default();
            let active = one.value.is_some() && !one.overridden && !one.hidden;
            let comment = if active { "" } else { "# " };
            line(&mut text, format!("{comment}{} = {value}", spec.name).trim_end());
        }
        text
    }
}

/// An example file: every option with its meaning, allowed values and default, commented out.
///
/// ```
/// assert!(zmqv2_proto::config::example_ini().contains("\n# rpc_zmq_port = 9501\n"));
/// ```
#[must_use]
pub fn example_ini() -> String {
    let mut text = String::from(
        "# Configuration of zmqv2. Every option is shown with its default; remove the `#` to change it.\n\
         # Flags win over environment variables (OS_<GROUP>__<OPTION>), these over files, and a later\n\
         # file over an earlier one. rpc_* options are accepted in group oslo_messaging_zmq too.\n\n",
    );
    let mut group = "";
    for spec in OPTIONS {
        enter(&mut text, &mut group, spec);
        comment(&mut text, spec.doc);
        comment(&mut text, &format!("Allowed: {}", spec.allowed));
        if let Some(reason) = spec.reason {
            comment(&mut text, &format!("New, because {reason}."));
        }
        let value = match spec.preset {
            Preset::Text(value) => format!(" {value}"),
            Preset::HostName => {
                comment(&mut text, "Unset: the host name");
                String::new()
            }
            Preset::Unset(meaning) => {
                comment(&mut text, &format!("Unset: {meaning}"));
                String::new()
            }
        };
        line(&mut text, &format!("# {} ={value}\n", spec.name));
    }
    // One blank line between options, none at the end.
    text.truncate(text.trim_end().len() + 1);
    text
}

/// The table of options in Markdown, for the configuration page.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from("| Group | Option | Default | Meaning | Allowed |\n|---|---|---|---|---|\n");
    for spec in OPTIONS {
        let preset = match spec.preset {
            Preset::Text(value) => format!("`{value}`"),
            Preset::HostName => "the host name".to_owned(),
            Preset::Unset(meaning) => format!("unset: {meaning}"),
        };
        let mut doc = spec.doc.to_owned();
        if let Some(reason) = spec.reason {
            let _ = write!(doc, " New, because {reason}.");
        }
        let groups = spec.groups.join(", ");
        let row = [groups, format!("`{}`", spec.name), preset, doc, spec.allowed.to_owned()];
        // A bar would end the cell, an angle bracket would be taken for HTML.
        let row = row.map(|cell| cell.replace('|', "\\|").replace('<', "\\<"));
        line(&mut text, &format!("| {} |", row.join(" | ")));
    }
    text
}

/// Starts the group of `spec` unless it is the current one.
fn enter(text: &mut String, group: &mut &'static str, spec: &OptionSpec) {
    if *group != spec.group {
        let space = if text.is_empty() || text.ends_with("\n\n") { "" } else { "\n" };
        line(text, &format!("{space}[{}]", spec.group));
        *group = spec.group;
    }
}

/// Writes a comment in lines of at most 100 columns.
fn comment(text: &mut String, comment: &str) {
    let mut column = 101;
    for word in comment.split(' ') {
        column += 1 + word.len();
        if column > 100 {
            text.push_str(if text.is_empty() || text.ends_with('\n') { "# " } else { "\n# " });
            column = 2 + word.len();
        } else {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.push('\n');
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigBuilder};

    fn reread(text: &str) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("printed.conf");
        std::fs::write(&path, text).unwrap();
        Config::builder().file(path).build().unwrap()
    }

    fn unusual() -> ConfigBuilder {
        Config::builder()
            .set("rpc_zmq_bind_address", "::1")
            .set("rpc_zmq_matchmaker", "oslo_messaging._drivers.matchmaker_ring.MatchMakerRing")
            .set("rpc_zmq_topic_backlog", "7")
            .set("rpc_zmq_ipc_dir", "/run/with space/#1")
            .set("rpc_zmq_host", "\"quoted\"")
            .set("rpc_cast_timeout", "0.25")
            .set("transport_url", "zmqv2+ring:///srv/ring = 1.json")
            .set("ringfile", " 'x' ")
            .set("rpc_zmq_drain_timeout", "0")
            .set("rpc_zmq_notification_store", "/var/lib/zmqv2/kept = 1.db")
    }

    #[test]
    fn a_printed_configuration_reads_back_unchanged() {
        for builder in [Config::builder(), unusual()] {
            let loaded = builder.build().unwrap();
            let again = reread(&loaded.print());
            assert_eq!(again.config, loaded.config);
            for (again, one) in again.effective.iter().zip(&loaded.effective) {
                assert!(one.overridden || again.value == one.value, "{}", one.name);
            }
            assert!(again.warnings.is_empty(), "{:?}", again.warnings);
        }
    }

    #[test]
    fn every_option_is_printed_with_its_source_and_no_secret() {
        let text =
            Config::builder().flag("--port", "rpc_zmq_port", "1").set("password", "hunter2").build().unwrap().print();
        assert!(text.starts_with("[DEFAULT]\n# default\nrpc_zmq_bind_address = *\n"), "{text}");
        assert!(text.contains("\n# flag --port\nrpc_zmq_port = 1\n"), "{text}");
        assert!(text.contains("\n# default, unset: 10000 messages"), "{text}");
        assert!(text.contains("\n\n[matchmaker_redis]\n"), "{text}");
        assert!(text.contains("\n# code\n# password = ***\n"), "{text}");
        assert!(!text.contains("hunter2"));
        let url = Config::builder().set("transport_url", "zmqv2+redis://me:hunter2@h/1").build().unwrap();
        assert_eq!(url.config.redis_password.as_ref().map(super::super::Secret::expose), Some("hunter2"));
        let shown = url.print();
        assert!(shown.contains("\n# transport_url = zmqv2+redis://***@h/1\n"), "{shown}");
        assert!(!shown.contains("hunter2") && !format!("{url:?}").contains("hunter2"));
        assert!(OPTIONS.iter().all(|spec| text.contains(&format!("{} =", spec.name))));
    }

    #[test]
    fn the_example_says_the_defaults() {
        let example = example_ini();
        assert_eq!(reread(&example).config, Config::default());
        let options = |line: &&str| {
            let name = line.trim_start_matches("# ").split_once(" =").map(|(name, _)| name);
            name.is_some_and(|name| OPTIONS.iter().any(|spec| spec.name == name))
        };
        let active: Vec<_> =
            example.lines().map(|line| if options(&line) { line.trim_start_matches("# ") } else { line }).collect();
        let active = reread(&active.join("\n"));
        assert_eq!(active.config, Config::default());
        assert!(active.effective.iter().all(|option| option.source.to_string() != "default"));
        assert!(active.warnings.is_empty(), "{:?}", active.warnings);
    }

    #[test]
    fn the_reference_has_one_row_for_each_option() {
        let page = reference_markdown();
        assert_eq!(page.lines().count(), 2 + OPTIONS.len());
        assert!(page.contains("| DEFAULT, oslo_messaging_zmq | `rpc_zmq_port` | `9501` |"));
        assert!(page.contains("New, because"));
    }
}
