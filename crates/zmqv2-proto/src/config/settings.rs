//! The typed configuration: what the rest of the system reads instead of texts.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::names::{Exchange, NodeName};

use super::builder::ConfigBuilder;
use super::options::OPTIONS;

/// The bound of a topic's backlog when `rpc_zmq_topic_backlog` is unset, in messages.
///
/// The legacy driver queued without bound; here unset means this number.
pub const DEFAULT_TOPIC_BACKLOG: usize = 10_000;

/// Where nodes find each other (option `rpc_zmq_matchmaker`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MatchmakerKind {
    /// Every topic is served on this node.
    Local,
    /// A file lists the nodes of each topic.
    Ring,
}

impl MatchmakerKind {
    /// The word in a configuration file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ring => "ring",
        }
    }
}

impl fmt::Display for MatchmakerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever authenticates with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The effective configuration of one process.
///
/// [`Config::default`] holds the embedded defaults and reads neither files nor the environment; the
/// only thing it asks the machine is its host name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Interface the broker listens on: `*`, a host name or an IP literal. Default `*`
    /// (`rpc_zmq_bind_address`).
    pub bind_address: String,
    /// Where nodes find each other. Default local (`rpc_zmq_matchmaker`, `transport_url`).
    pub matchmaker: MatchmakerKind,
    /// The file of the ring matchmaker. Default `/etc/oslo/matchmaker_ring.json`
    /// (`[matchmaker_ring] ringfile`, `transport_url`).
    pub ring_file: PathBuf,
    /// TCP port of every broker. Default 9501; 0 lets the operating system pick (`rpc_zmq_port`).
    pub port: u16,
    /// Number of libzmq I/O threads. Default 1, 1 to 64 (`rpc_zmq_contexts`).
    pub io_threads: u16,
    /// Most messages that wait in one topic's backlog; above it a sender is told Busy. Default
    /// [`DEFAULT_TOPIC_BACKLOG`], 1 to 10000000 (`rpc_zmq_topic_backlog`).
    pub topic_backlog: usize,
    /// The directory of local sockets, absolute; `None` leaves the choice to
    /// [`resolve_ipc_dir`](super::resolve_ipc_dir). Default `None` (`rpc_zmq_ipc_dir`).
    pub ipc_dir: Option<PathBuf>,
    /// The name of this node in the directory. Default the host name, or `localhost` when the host
    /// name is not a valid node name (`rpc_zmq_host`).
    pub host: NodeName,
    /// How long a cast may wait before it expires. Default 30 s, 1 ms to 4294967 s
    /// (`rpc_cast_timeout`).
    pub cast_timeout: Duration,
    /// How long a call waits for its reply. Default 60 s, 1 ms to 4294967 s
    /// (`rpc_response_timeout`).
    pub response_timeout: Duration,
    /// Handler threads of a server. Default 64, 1 to 4096 (`rpc_thread_pool_size`).
    pub thread_pool_size: usize,
    /// Connections a client keeps open; the least recently used is closed above it. Default 30,
    /// 1 to 65536 (`rpc_conn_pool_size`).
    pub conn_pool_size: usize,
    /// The exchange of targets that name none. Default `openstack` (`control_exchange`).
    pub control_exchange: Exchange,
    /// Time between two renewals of a lease. Default 300 s, less than
    /// [`heartbeat_ttl`](Self::heartbeat_ttl) (`matchmaker_heartbeat_freq`).
    pub heartbeat_freq: Duration,
    /// Life of a lease that is not renewed. Default 600 s (`matchmaker_heartbeat_ttl`).
    pub heartbeat_ttl: Duration,
    /// Host of Redis. Default `127.0.0.1` (`[matchmaker_redis] host`).
    pub redis_host: String,
    /// Port of Redis. Default 6379, 1 to 65535 (`[matchmaker_redis] port`).
    pub redis_port: u16,
    /// Password of Redis. Default none (`[matchmaker_redis] password`).
    pub redis_password: Option<Secret>,
    /// Largest message, in bytes; a larger one is refused at its sender. Default 16777216,
    /// 1024 to 1073741824 (`rpc_zmq_max_message_bytes`).
    pub max_message_bytes: usize,
    /// Byte budget of all messages a broker holds; above it a sender is told Busy. Default
    /// 268435456, at least [`max_message_bytes`](Self::max_message_bytes) (`rpc_zmq_backlog_bytes`).
    pub backlog_bytes: usize,
    /// How long a stopping broker or server waits for what is in flight. Default 30 s; 0 does not
    /// wait (`rpc_zmq_drain_timeout`).
    pub drain_timeout: Duration,
    /// How long a client waits for a connection to one node before it tries another or says
    /// Unreachable. Default 1 s, 1 ms to 4294967 s (`rpc_zmq_connect_timeout`).
    pub connect_timeout: Duration,
    /// The file in which a broker keeps notifications, absolute; `None` keeps them in memory. Default `None`
    /// (`rpc_zmq_notification_store`).
    pub notification_store: Option<PathBuf>,
    /// How often a notification is delivered before it becomes a dead letter. Default 5, 1 to 65535
    /// (`rpc_zmq_max_deliveries`).
    pub max_deliveries: u16,
}

impl Config {
    /// Starts from the defaults and adds layers.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut draft = Draft::blank();
        for spec in OPTIONS {
            if let Some(text) = spec.preset.text() {
                let applied = spec.apply(&mut draft, &text);
                debug_assert!(applied.is_ok(), "default of {}: {applied:?}", spec.name);
            }
        }
        draft.finish()
    }
}

/// A configuration while options are applied to it, in any order.
///
/// `transport_url` is kept apart until the end because it overrides options that may come after it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) url: Option<UrlChoice>,
}

/// What a `transport_url` says about the matchmaker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UrlChoice {
    pub(super) kind: MatchmakerKind,
    pub(super) ring_file: Option<PathBuf>,
}

impl Draft {
    /// Every option as it is when nothing is said about it; those with a default text get it later.
    pub(super) fn blank() -> Self {
        let config = Config {
            bind_address: String::new(),
            matchmaker: MatchmakerKind::Local,
            ring_file: PathBuf::new(),
            port: 0,
            io_threads: 1,
            topic_backlog: DEFAULT_TOPIC_BACKLOG,
            ipc_dir: None,
            host: host_name(),
            cast_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            thread_pool_size: 1,
            conn_pool_size: 1,
            control_exchange: Exchange::new("openstack").expect("a valid name"),
            heartbeat_freq: Duration::ZERO,
            heartbeat_ttl: Duration::ZERO,
            redis_host: String::new(),
            redis_port: 0,
            redis_password: None,
            max_message_bytes: 0,
            backlog_bytes: 0,
            drain_timeout: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            notification_store: None,
            max_deliveries: 1,
        };
        Self { config, url: None }
    }

    /// The configuration, with the matchmaker of the `transport_url` when it names one.
    pub(super) fn finish(self) -> Config {
        let mut config = self.config;
        if let Some(url) = self.url {
            config.matchmaker = url.kind;
            if let Some(ring_file) = url.ring_file {
                config.ring_file = ring_file;
            }
        }
        config
    }
}

/// This machine's name as a node name. A machine without a usable name still gets a configuration:
/// an operator who needs another name than `localhost` sets `rpc_zmq_host`.
pub(super) fn host_name() -> NodeName {
    NodeName::new(gethostname::gethostname().to_string_lossy())
        .unwrap_or_else(|_| NodeName::new("localhost").expect("a valid name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::DEFAULT_PORT;

    #[test]
    fn defaults_are_those_of_the_legacy_driver() {
        let config = Config::default();
        assert_eq!(config.bind_address, "*");
        assert_eq!(config.matchmaker, MatchmakerKind::Local);
        assert_eq!(config.ring_file, PathBuf::from("/etc/oslo/matchmaker_ring.json"));
        assert_eq!((config.port, config.redis_port), (DEFAULT_PORT, 6379));
        assert_eq!((config.io_threads, config.topic_backlog), (1, 10_000));
        assert_eq!((config.thread_pool_size, config.conn_pool_size), (64, 30));
        assert_eq!(config.cast_timeout, Duration::from_secs(30));
        assert_eq!(config.response_timeout, Duration::from_secs(60));
        assert_eq!(config.heartbeat_freq, Duration::from_secs(300));
        assert_eq!(config.heartbeat_ttl, Duration::from_secs(600));
        assert_eq!(config.control_exchange.as_str(), "openstack");
        assert_eq!((config.ipc_dir, config.redis_password), (None, None));
        assert_eq!(config.redis_host, "127.0.0.1");
        assert_eq!((config.max_message_bytes, config.backlog_bytes), (16 << 20, 256 << 20));
        assert_eq!(config.drain_timeout, Duration::from_secs(30));
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
        assert_eq!((config.notification_store, config.max_deliveries), (None, 5));
    }

    #[test]
    fn a_password_is_not_in_the_debug_text() {
        let config = Config { redis_password: Some(Secret::new("hunter2")), ..Config::default() };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }
}
