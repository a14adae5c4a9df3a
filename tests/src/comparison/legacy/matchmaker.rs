//! Who hosts a topic: `local`, `ring` and `redis`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Options;
use super::redis::Redis;

/// A directory: from a topic to the topics of nodes, and where they are.
pub struct Matchmaker(Directory);

enum Directory {
    /// Everything is at [`LOCAL`].
    Local,
    /// The hosts of each topic, and whose turn it is.
    Ring(HashMap<String, (Vec<String>, AtomicUsize)>),
    Redis(Box<Redis>),
}

/// The host of everything for the directory `local`, whatever the node's own name is.
const LOCAL: &str = "localhost";

impl Matchmaker {
    /// As the options say.
    pub fn open(options: &Options) -> std::io::Result<Self> {
        Ok(Self(match options.matchmaker.as_str() {
            "ring" => Directory::Ring(read(&options.ring_file)?),
            "redis" => Directory::Redis(Box::new(Redis::new(options).map_err(std::io::Error::other)?)),
            _ => Directory::Local,
        }))
    }

    /// The topics of the nodes that a message for `topic` goes to, each with its host. `fanout~t`: all hosts of `t`; `t.host`:
    /// that host; `t`: one host, in turn (`redis`: at random).
    #[must_use]
    pub fn queues(&self, topic: &str) -> Vec<(String, String)> {
        if let Some(name) = topic.strip_prefix("fanout~") {
            return match &self.0 {
                Directory::Ring(ring) => {
                    let hosts = ring.get(name).map_or(&[][..], |(hosts, _)| hosts);
                    hosts.iter().map(|host| at(topic, host)).collect()
                }
                Directory::Redis(redis) => found(topic, redis.all(name)),
                Directory::Local => vec![local(topic)],
            };
        }
        if let Some((_, host)) = topic.split_once('.') {
            return vec![(topic.to_owned(), host.to_owned())];
        }
        match &self.0 {
            Directory::Ring(ring) => ring.get(topic).map_or_else(Vec::new, |(hosts, turn)| {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                hosts.get(turn % hosts.len().max(1)).map(|host| at(topic, host)).into_iter().collect()
            }),
            Directory::Redis(redis) => found(topic, redis.one(topic)),
            Directory::Local => vec![local(topic)],
        }
    }

    /// Says that a host has a topic, or still has it: where the directory can be told.
    pub(super) fn register(&self, topic: &str, host: &str) {
        if let Directory::Redis(redis) = &self.0
            && let Err(error) = redis.register(topic, host)
        {
            log::error!("legacy: cannot register {topic}: {error}");
        }
    }

    /// Says that a host has a topic no more.
    pub(super) fn unregister(&self, topic: &str, host: &str) {
        if let Directory::Redis(redis) = &self.0
            && let Err(error) = redis.unregister(topic, host)
        {
            log::error!("legacy: unable to unregister topic {topic}: {error}");
        }
    }
}

fn at(topic: &str, host: &str) -> (String, String) {
    (format!("{topic}.{host}"), host.to_owned())
}

/// All that follows the first dot is cut off.
fn local(topic: &str) -> (String, String) {
    at(topic.split('.').next().unwrap_or(topic), LOCAL)
}

fn found(topic: &str, answer: redis::RedisResult<Vec<(String, String)>>) -> Vec<(String, String)> {
    answer.unwrap_or_else(|error| {
        log::error!("legacy: cannot find {topic}: {error}");
        Vec::new()
    })
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
        std::fs::write(&ring_file, r#"{"t": ["h1", "h2"], "a.b": ["h3"]}"#).unwrap();
        let options = Options { matchmaker: "ring".to_owned(), ring_file, ..Options::default() };
        let ring = Matchmaker::open(&options).unwrap();
        for host in ["h1", "h2", "h1"] {
            assert_eq!(queues(&ring, "t"), [format!("t.{host}@{host}")]);
        }
        assert_eq!(queues(&ring, "fanout~t"), ["fanout~t.h1@h1", "fanout~t.h2@h2"]);
        assert_eq!(queues(&ring, "t.h9.org"), ["t.h9.org@h9.org"]);
        assert!(ring.queues("u").is_empty() && ring.queues("fanout~u").is_empty());
        // A dot is part of a fanout's topic, and parts topic and host of all else.
        assert_eq!(queues(&ring, "fanout~a.b"), ["fanout~a.b.h3@h3"]);
        assert_eq!((queues(&ring, "a.b"), ring.queues("fanout~a").len()), (vec!["a.b@b".to_owned()], 0));

        let local = Matchmaker::open(&Options::default()).unwrap();
        assert_eq!(queues(&local, "demo"), ["demo.localhost@localhost"]);
        assert_eq!(queues(&local, "fanout~demo"), ["fanout~demo.localhost@localhost"]);
        assert_eq!(queues(&local, "fanout~a.b"), ["fanout~a.localhost@localhost"]);
    }
}
