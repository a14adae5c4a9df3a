//! The directories `local`, `ring` and `redis`: which host has a topic.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Options;
use super::redis::Redis;

/// A directory. It maps a topic to the topics of nodes, and to their hosts.
pub struct Matchmaker(Directory);

enum Directory {
    /// Everything is at [`LOCAL`].
    Local,
    /// The hosts of each topic, and the next one in turn.
    Ring(HashMap<String, (Vec<String>, AtomicUsize)>),
    Redis(Box<Redis>),
}

/// The host of every topic in the directory `local`, for any name of the node.
const LOCAL: &str = "localhost";

impl Matchmaker {
    /// Opens the directory that the options name.
    pub fn open(options: &Options) -> std::io::Result<Self> {
        Ok(Self(match options.matchmaker.as_str() {
            "ring" => Directory::Ring(read(&options.ring_file)?),
            "redis" => Directory::Redis(Box::new(Redis::new(options).map_err(std::io::Error::other)?)),
            _ => Directory::Local,
        }))
    }

    /// The topics of the nodes that get a message for `topic`, each with its host. `fanout~t`: all
    /// hosts of `t`. `t.host`: that host. `t`: one host, in turn (`redis`: at random).
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

    /// Registers a topic of a host, or renews it, if the directory can be written.
    pub(super) fn register(&self, topic: &str, host: &str) {
        if let Directory::Redis(redis) = &self.0
            && let Err(error) = redis.register(topic, host)
        {
            log::error!("legacy: cannot register {topic}: {error}");
        }
    }

    /// Removes a topic of a host.
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

/// Cuts the topic at its first dot.
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
        // In a fanout's topic a dot has no meaning. In any other topic it separates topic and host.
        assert_eq!(queues(&ring, "fanout~a.b"), ["fanout~a.b.h3@h3"]);
        assert_eq!((queues(&ring, "a.b"), ring.queues("fanout~a").len()), (vec!["a.b@b".to_owned()], 0));

        let local = Matchmaker::open(&Options::default()).unwrap();
        assert_eq!(queues(&local, "demo"), ["demo.localhost@localhost"]);
        assert_eq!(queues(&local, "fanout~demo"), ["fanout~demo.localhost@localhost"]);
        assert_eq!(queues(&local, "fanout~a.b"), ["fanout~a.localhost@localhost"]);
    }
}
