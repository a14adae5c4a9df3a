//! The options of the legacy driver, under their original names.

use std::path::PathBuf;
use std::time::Duration;

/// The options of one process. The defaults are the original's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `rpc_zmq_bind_address`: where the daemon listens.
    pub bind_address: String,
    /// `rpc_zmq_matchmaker`: `local`, `ring` or `redis`.
    pub matchmaker: String,
    /// `rpc_zmq_port`: the port of every daemon.
    pub port: u16,
    /// `rpc_zmq_contexts`: I/O threads of each context, in spite of its name.
    pub contexts: i32,
    /// `rpc_zmq_topic_backlog`: messages of a topic that the daemon keeps; unset: without bound.
    pub topic_backlog: Option<usize>,
    /// `rpc_zmq_ipc_dir`: directory of the local sockets.
    pub ipc_dir: PathBuf,
    /// `rpc_zmq_host`: name of this node.
    pub host: String,
    /// `rpc_cast_timeout`: how long a send may block.
    pub cast_timeout: Duration,
    /// `rpc_thread_pool_size`: handlers that a server runs at a time.
    pub thread_pool_size: usize,
    /// `rpc_conn_pool_size`: PUSH sockets that a process keeps for each address.
    pub conn_pool_size: usize,
    /// `rpc_response_timeout`: how long a call waits.
    pub response_timeout: Duration,
    /// `matchmaker_heartbeat_freq`: how often a server registers again.
    pub heartbeat_freq: Duration,
    /// `matchmaker_heartbeat_ttl`: when a server expires that does not register again.
    pub heartbeat_ttl: Duration,
    /// `[matchmaker_ring] ringfile`.
    pub ring_file: PathBuf,
    /// `[matchmaker_redis] host`.
    pub redis_host: String,
    /// `[matchmaker_redis] port`.
    pub redis_port: u16,
    /// `[matchmaker_redis] password`.
    pub redis_password: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind_address: "*".to_owned(),
            matchmaker: "local".to_owned(),
            port: 9501,
            contexts: 1,
            topic_backlog: None,
            ipc_dir: "/var/run/openstack".into(),
            host: zmqv2_proto::Config::default().host.to_string(),
            cast_timeout: Duration::from_secs(30),
            thread_pool_size: 64,
            conn_pool_size: 30,
            response_timeout: Duration::from_secs(60),
            heartbeat_freq: Duration::from_secs(300),
            heartbeat_ttl: Duration::from_secs(600),
            ring_file: "/etc/oslo/matchmaker_ring.json".into(),
            redis_host: "127.0.0.1".to_owned(),
            redis_port: 6379,
            redis_password: None,
        }
    }
}

/// An unknown option, or an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("legacy driver: {0:?} is not a value of option {1:?}, or there is no such option")]
pub struct InvalidOption(String, String);

impl Options {
    /// The defaults, changed by these options, given as `NAME=VALUE`.
    pub fn from_pairs(pairs: &[String]) -> Result<Self, InvalidOption> {
        let mut options = Self::default();
        for pair in pairs {
            let (name, value) = pair.split_once('=').ok_or_else(|| InvalidOption(String::new(), pair.clone()))?;
            options.set(name, value)?;
        }
        Ok(options)
    }

    /// Sets an option by name. The name of an option outside `DEFAULT` is `group.name`, or `name`
    /// where that is unique.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidOption> {
        self.try_set(name, value).ok_or_else(|| InvalidOption(value.to_owned(), name.to_owned()))
    }

    fn try_set(&mut self, name: &str, value: &str) -> Option<()> {
        let number = || value.parse::<usize>().ok().filter(|number| *number > 0);
        let span = || value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match name {
            "rpc_zmq_bind_address" => value.clone_into(&mut self.bind_address),
            "rpc_zmq_matchmaker" => self.matchmaker = matchmaker(value)?.to_owned(),
            "rpc_zmq_port" => self.port = value.parse().ok()?,
            "rpc_zmq_contexts" => self.contexts = value.parse().ok().filter(|number| (1..=64).contains(number))?,
            "rpc_zmq_topic_backlog" => self.topic_backlog = Some(number()?),
            "rpc_zmq_ipc_dir" => self.ipc_dir = value.into(),
            "rpc_zmq_host" => value.clone_into(&mut self.host),
            "rpc_cast_timeout" => self.cast_timeout = span()?,
            "rpc_thread_pool_size" => self.thread_pool_size = number()?,
            "rpc_conn_pool_size" => self.conn_pool_size = number()?,
            "rpc_response_timeout" => self.response_timeout = span()?,
            "matchmaker_heartbeat_freq" => self.heartbeat_freq = span()?,
            "matchmaker_heartbeat_ttl" => self.heartbeat_ttl = span()?,
            "ringfile" | "matchmaker_ring.ringfile" => self.ring_file = value.into(),
            "matchmaker_redis.host" => value.clone_into(&mut self.redis_host),
            "matchmaker_redis.port" => self.redis_port = value.parse().ok()?,
            "matchmaker_redis.password" => self.redis_password = Some(value.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// The file of the local socket of a topic.
    pub(super) fn ipc_address(&self, topic: &str) -> String {
        format!("ipc://{}/zmq_topic_{topic}", self.ipc_dir.display())
    }

    /// The topic of replies to this node.
    pub(super) fn reply_topic(&self) -> String {
        format!("zmq_replies.{}", self.host)
    }
}

/// Older files name a directory by its class.
fn matchmaker(value: &str) -> Option<&'static str> {
    let class = value.rsplit('.').next().unwrap_or(value);
    match class {
        "local" | "MatchMakerLocalhost" => Some("local"),
        "ring" | "MatchMakerRing" => Some("ring"),
        "redis" | "MatchMakerRedis" => Some("redis"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::config::option;

    use super::*;

    /// Group, name, default and another value, read from release 1.12 of the original.
    const ORIGINAL: &str = include_str!("../../../fixtures/legacy/options.txt");

    struct Known {
        label: String,
        default: Option<&'static str>,
        other: &'static str,
    }

    fn known() -> Vec<Known> {
        let lines = ORIGINAL.lines().filter(|line| !line.starts_with('#'));
        let known = lines.map(|line| {
            let [group, name, default, other] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let label = if group == "DEFAULT" { name.to_owned() } else { format!("{group}.{name}") };
            Known { label, default: (default != "-").then_some(default), other }
        });
        known.collect()
    }

    #[test]
    fn every_option_of_the_original_has_its_name_and_default() {
        let all = known();
        assert_eq!(all.len(), 17);
        let mut options = Options::default();
        for Known { label, other, .. } in &all {
            let before = options.clone();
            options.set(label, other).unwrap();
            assert_ne!(options, before, "{label} changes nothing");
        }
        // Every option is changed now. Change each back to the original's default.
        for Known { label, default, .. } in &all {
            match (label.as_str(), *default) {
                ("rpc_zmq_topic_backlog", None) => options.topic_backlog = None,
                ("matchmaker_redis.password", None) => options.redis_password = None,
                (_, Some("HOSTNAME")) => options.host = zmqv2_proto::Config::default().host.to_string(),
                (label, default) => options.set(label, default.expect("a default")).unwrap(),
            }
        }
        assert_eq!(options, Options::default());
    }

    #[test]
    fn zmqv2_has_the_same_options_with_the_same_defaults() {
        for Known { label, default, .. } in known() {
            let own = option(&label).unwrap_or_else(|| panic!("zmqv2 has no {label}")).preset.text();
            match label.as_str() {
                // This default differs: see docs/configuration.md.
                "rpc_zmq_ipc_dir" => assert_eq!(own, None),
                "rpc_zmq_host" => assert_eq!(own.as_deref(), Some(Options::default().host.as_str())),
                _ => assert_eq!(own.as_deref(), default, "{label}"),
            }
        }
    }

    #[test]
    fn what_is_no_option_or_no_value_is_an_error_that_names_it() {
        let mut options = Options::default();
        options.set("rpc_zmq_matchmaker", "oslo_messaging._drivers.matchmaker_ring.MatchMakerRing").unwrap();
        options.set("rpc_response_timeout", "0.5").unwrap();
        assert_eq!((options.matchmaker.as_str(), options.response_timeout), ("ring", Duration::from_millis(500)));
        for (name, value) in [("rpc_zmq_port", "x"), ("rpc_zmq_prot", "1"), ("rpc_zmq_matchmaker", "stub")] {
            let error = options.set(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
