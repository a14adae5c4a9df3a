//! Who hosts a topic: `local` and `ring`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Options;

/// A directory: from a topic to the topics of nodes, and where they are.
#[derive(Debug)]
pub struct Matchmaker {
    /// The hosts of each topic, and whose turn it is; `None`: everything is at [`LOCAL`].
    ring: Option<HashMap<String, (Vec<String>, AtomicUsize)>>,
}

/// The host of everything for the directory `local`, whatever the node's own name is.
const LOCAL: &str = "localhost";

impl Matchmaker {
    /// As the options say.
    ///
    /// # Errors
    /// A ring file that cannot be read.
    pub fn open(options: &Options) -> std::io::Result<Self> {
        let ring = if options.matchmaker == "ring" { Some(read(&options.ring_file)?) } else { None };
        Ok(Self { ring })
    }

    /// The topics of the nodes that a message for `topic` goes to, each with its host. `fanout~t`: all hosts of `t`; `t.host`:
    /// that host; `t`: one host, in turn.
    #[must_use]
    pub fn queues(&self, topic: &str) -> Vec<(String, String)> {
        let at = |topic: &str, host: &str| (format!("{topic}.{host}"), host.to_owned());
        if let Some(name) = topic.strip_prefix("fanout~") {
            // All that follows the first dot is cut off.
            let (bare, known) = (topic.split('.').next().unwrap_or(topic), name.split('.').next().unwrap_or(name));
            return match &self.ring {
                Some(ring) => {
                    ring.get(known).map_or_else(Vec::new, |(all, _)| all.iter().map(|h| at(bare, h)).collect())
                }
                None => vec![at(bare, LOCAL)],
            };
        }
        if let Some((_, host)) = topic.split_once('.') {
            return vec![(topic.to_owned(), host.to_owned())];
        }
        match &self.ring {
            Some(ring) => ring.get(topic).map_or_else(Vec::new, |(hosts, turn)| {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                hosts.get(turn % hosts.len().max(1)).map(|host| at(topic, host)).into_iter().collect()
            }),
            None => vec![at(topic, LOCAL)],
        }
    }
}

/// `{topic: [host, ...]}`; entries of other forms, which zmqv2 reads as well, are skipped.
fn read(file: &Path) -> std::io::Result<HashMap<String, (Vec<String>, AtomicUsize)>> {
    let ring: HashMap<String, Vec<serde_json::Value>> = serde_json::from_slice(&std::fs::read(file)?)?;
    let hosts = |entries: Vec<serde_json::Value>| {
        let hosts = entries.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect();
        (hosts, AtomicUsize::new(0))
    };
    Ok(ring.into_iter().map(|(topic, entries)| (topic, hosts(entries))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(matchmaker: &Matchmaker, topic: &str) -> Vec<String> {
        matchmaker.queues(topic).into_iter().map(|(topic, host)| format!("{topic}@{host}")).collect()
    }

    #[test]
    fn topics_are_resolved_as_the_original_does() {
        let dir = tempfile::tempdir().unwrap();
        let ring_file = dir.path().join("ring");
        std::fs::write(&ring_file, r#"{"t": ["h1", "h2"]}"#).unwrap();
        let options = Options { matchmaker: "ring".to_owned(), ring_file, ..Options::default() };
        let ring = Matchmaker::open(&options).unwrap();
        for host in ["h1", "h2", "h1"] {
            assert_eq!(queues(&ring, "t"), [format!("t.{host}@{host}")]);
        }
        assert_eq!(queues(&ring, "fanout~t"), ["fanout~t.h1@h1", "fanout~t.h2@h2"]);
        assert_eq!(queues(&ring, "t.h9.org"), ["t.h9.org@h9.org"]);
        assert!(ring.queues("u").is_empty() && ring.queues("fanout~u").is_empty());

        let local = Matchmaker::open(&Options::default()).unwrap();
        assert_eq!(queues(&local, "demo"), ["demo.localhost@localhost"]);
        assert_eq!(queues(&local, "fanout~demo"), ["fanout~demo.localhost@localhost"]);
    }
}
