//! The options, under their own names.

use std::path::PathBuf;
use std::time::Duration;

/// The options of one process. The defaults are the original's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `rpc_zmq_bind_address`: where the daemon listens.
    pub bind_address: String,
    /// `rpc_zmq_matchmaker`: `local` or `ring`.
    pub matchmaker: String,
    /// `rpc_zmq_port`: of every daemon.
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
    /// `matchmaker_heartbeat_freq`: only for directories that are registered at.
    pub heartbeat_freq: Duration,
    /// `matchmaker_heartbeat_ttl`: only for directories that are registered at.
    pub heartbeat_ttl: Duration,
    /// `[matchmaker_ring] ringfile`.
    pub ring_file: PathBuf,
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
        }
    }
}

/// An option cannot have this value, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("legacy driver: {0:?} is not a value of option {1:?}, or there is no such option")]
pub struct InvalidOption(String, String);

impl Options {
    /// Sets an option by name.
    ///
    /// # Errors
    /// [`InvalidOption`].
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
            "ringfile" => self.ring_file = value.into(),
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

/// Old files name a directory by its class.
fn matchmaker(value: &str) -> Option<&'static str> {
    let class = value.rsplit('.').next().unwrap_or(value);
    match class {
        "local" | "MatchMakerLocalhost" => Some("local"),
        "ring" | "MatchMakerRing" => Some("ring"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_their_names_and_defaults() {
        let mut options = Options::default();
        let shown = (options.port, options.contexts, options.topic_backlog, options.conn_pool_size);
        assert_eq!(shown, (9501, 1, None, 30));
        options.set("rpc_zmq_topic_backlog", "7").unwrap();
        options.set("rpc_zmq_matchmaker", "oslo_messaging._drivers.matchmaker_ring.MatchMakerRing").unwrap();
        options.set("rpc_response_timeout", "0.5").unwrap();
        assert_eq!((options.topic_backlog, options.matchmaker.as_str()), (Some(7), "ring"));
        assert_eq!(options.response_timeout, Duration::from_millis(500));
        for (name, value) in [("rpc_zmq_port", "x"), ("rpc_zmq_prot", "1"), ("rpc_zmq_matchmaker", "redis")] {
            let error = options.set(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
