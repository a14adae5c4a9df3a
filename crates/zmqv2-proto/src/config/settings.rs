//! The typed configuration: what the rest of the system reads instead of texts.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::naming::{DEFAULT_EXCHANGE, Exchange, NodeName, TcpAddress, Zone};

use crate::config::load::ConfigBuilder;
use crate::config::options::OPTIONS;

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
    /// Brokers register their servers in Redis.
    Redis,
}

impl MatchmakerKind {
    /// The word in a configuration file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ring => "ring",
            Self::Redis => "redis",
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
    /// Bytes that libzmq moves per system call at most, if it has that option. Default 65536, 8192 to 1048576
    /// (`rpc_zmq_io_batch_bytes`).
    pub io_batch_bytes: u32,
    /// Messages that libzmq holds for one peer, in each direction. Default 10000, 10000 to 1000000
    /// (`rpc_zmq_high_water_mark`).
    pub high_water_mark: u32,
    /// For how long a thread looks for the next message before it sleeps. Default 0, up to 10 ms (`rpc_zmq_busy_poll_us`).
    pub busy_poll: Duration,
    /// For how long the I/O thread of a broker or a client does so while looking finds some. Default 100 us, up to 10 ms
    /// (`rpc_zmq_adaptive_poll_us`).
    pub adaptive_poll: Duration,
    /// Most requests that a server with several workers takes at a time while its handlers are quick; never fewer than it has
    /// workers. Default 256, up to 8192 (`rpc_zmq_window`).
    pub window: u16,
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
    /// User of Redis. Default none, which is Redis's own default user (`[matchmaker_redis] user`).
    pub redis_user: Option<String>,
    /// Number of the database in Redis. Default 0 (`[matchmaker_redis] database`).
    pub redis_database: u16,
    /// Whether connections to Redis and to Sentinels are encrypted. Default no (`[matchmaker_redis] tls`).
    pub redis_tls: bool,
    /// PEM file of the authorities that may sign the certificate of Redis; `None`: those that the system trusts. Default
    /// `None` (`[matchmaker_redis] tls_ca_file`).
    pub redis_tls_ca_file: Option<PathBuf>,
    /// PEM file of this side's certificate. Default `None` (`[matchmaker_redis] tls_cert_file`).
    pub redis_tls_cert_file: Option<PathBuf>,
    /// PEM file of the key of that certificate. Default `None` (`[matchmaker_redis] tls_key_file`).
    pub redis_tls_key_file: Option<PathBuf>,
    /// Sentinels, which know the primary; none: Redis is at [`redis_host`](Self::redis_host). Default none
    /// (`[matchmaker_redis] sentinel_hosts`, `transport_url`).
    pub redis_sentinel_hosts: Vec<TcpAddress>,
    /// The name that Sentinels have for the group of servers. Default `oslo-messaging-zeromq`
    /// (`[matchmaker_redis] sentinel_group_name`, `transport_url`).
    pub redis_sentinel_group: String,
    /// Password of the Sentinels. Default none (`[matchmaker_redis] sentinel_password`).
    pub redis_sentinel_password: Option<Secret>,
    /// Time between two looks at what is remembered of Redis, when no change is noticed before. Default 10 s
    /// (`[matchmaker_redis] refresh_interval`).
    pub redis_refresh: Duration,
    /// How long answers are used while Redis cannot be read. Default 86400 s (`[matchmaker_redis] max_stale`).
    pub redis_max_stale: Duration,
    /// The nodes that this one is near to; bare topics prefer them. Default none (`rpc_zmq_zone`).
    pub zone: Option<Zone>,
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
pub(crate) struct Draft {
    pub(crate) config: Config,
    pub(crate) url: Option<UrlChoice>,
}

/// What a `transport_url` says about the matchmaker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UrlChoice {
    pub(crate) kind: MatchmakerKind,
    pub(crate) ring_file: Option<PathBuf>,
    pub(crate) redis: Option<RedisChoice>,
}

/// Where Redis is, by a `transport_url`; what it leaves out is as the options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RedisChoice {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) database: Option<u16>,
    pub(crate) tls: bool,
    /// Where the Sentinels are: empty, if Redis is at a host; `None`: as the options say.
    pub(crate) sentinels: Option<Vec<TcpAddress>>,
    pub(crate) group: Option<String>,
}

impl RedisChoice {
    /// What it says of options by their names: whether each now has another value than in `config`.
    pub(crate) fn overrides(&self, config: &Config, option: &str) -> bool {
        let sentinel = self.sentinels.as_ref().is_some_and(|sentinels| !sentinels.is_empty());
        match option {
            "host" => sentinel || self.host.as_ref().is_some_and(|host| *host != config.redis_host),
            "port" => sentinel || self.port.is_some_and(|port| port != config.redis_port),
            "user" => self.user.is_some() && self.user != config.redis_user,
            "password" => self.password.is_some() && self.password != config.redis_password,
            "database" => self.database.is_some_and(|database| database != config.redis_database),
            "tls" => self.tls && !config.redis_tls,
            "sentinel_hosts" => self.sentinels.as_ref().is_some_and(|hosts| *hosts != config.redis_sentinel_hosts),
            "sentinel_group_name" => self.group.as_ref().is_some_and(|group| *group != config.redis_sentinel_group),
            _ => false,
        }
    }

    fn apply(self, config: &mut Config) {
        let Self { user, password, host, port, database, tls, sentinels, group } = self;
        config.redis_user = user.or(config.redis_user.take());
        config.redis_password = password.or(config.redis_password.take());
        config.redis_host = host.unwrap_or_else(|| std::mem::take(&mut config.redis_host));
        config.redis_port = port.unwrap_or(config.redis_port);
        config.redis_database = database.unwrap_or(config.redis_database);
        config.redis_tls |= tls;
        config.redis_sentinel_hosts = sentinels.unwrap_or_else(|| std::mem::take(&mut config.redis_sentinel_hosts));
        config.redis_sentinel_group = group.unwrap_or_else(|| std::mem::take(&mut config.redis_sentinel_group));
    }
}

impl Draft {
    /// Every option as it is when nothing is said about it; those with a default text get it later.
    pub(crate) fn blank() -> Self {
        let config = Config {
            bind_address: String::new(),
            matchmaker: MatchmakerKind::Local,
            ring_file: PathBuf::new(),
            port: 0,
            io_threads: 1,
            io_batch_bytes: 0,
            high_water_mark: 0,
            busy_poll: Duration::ZERO,
            adaptive_poll: Duration::ZERO,
            window: 0,
            topic_backlog: DEFAULT_TOPIC_BACKLOG,
            ipc_dir: None,
            host: host_name(),
            cast_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            thread_pool_size: 1,
            conn_pool_size: 1,
            control_exchange: Exchange::new(DEFAULT_EXCHANGE).expect("a valid name"),
            heartbeat_freq: Duration::ZERO,
            heartbeat_ttl: Duration::ZERO,
            redis_host: String::new(),
            redis_port: 0,
            redis_password: None,
            redis_user: None,
            redis_database: 0,
            redis_tls: false,
            redis_tls_ca_file: None,
            redis_tls_cert_file: None,
            redis_tls_key_file: None,
            redis_sentinel_hosts: Vec::new(),
            redis_sentinel_group: String::new(),
            redis_sentinel_password: None,
            redis_refresh: Duration::ZERO,
            redis_max_stale: Duration::ZERO,
            zone: None,
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
    pub(crate) fn finish(self) -> Config {
        let mut config = self.config;
        if let Some(url) = self.url {
            config.matchmaker = url.kind;
            if let Some(ring_file) = url.ring_file {
                config.ring_file = ring_file;
            }
            if let Some(redis) = url.redis {
                redis.apply(&mut config);
            }
        }
        config
    }
}

/// This machine's name as a node name. A machine without a usable name still gets a configuration:
/// an operator who needs another name than `localhost` sets `rpc_zmq_host`.
pub(crate) fn host_name() -> NodeName {
    NodeName::new(gethostname::gethostname().to_string_lossy())
        .unwrap_or_else(|_| NodeName::new("localhost").expect("a valid name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::DEFAULT_PORT;

    #[test]
    fn defaults_are_those_of_the_legacy_driver() {
        let config = Config::default();
        assert_eq!(config.bind_address, "*");
        assert_eq!(config.matchmaker, MatchmakerKind::Local);
        assert_eq!(config.ring_file, PathBuf::from("/etc/oslo/matchmaker_ring.json"));
        assert_eq!((config.port, config.redis_port), (DEFAULT_PORT, 6379));
        assert_eq!((config.io_threads, config.topic_backlog), (1, 10_000));
        assert_eq!((config.io_batch_bytes, config.high_water_mark, config.busy_poll), (65_536, 10_000, Duration::ZERO));
        assert_eq!(config.adaptive_poll, Duration::from_micros(100));
        assert_eq!((config.thread_pool_size, config.conn_pool_size), (64, 30));
        assert_eq!(config.cast_timeout, Duration::from_secs(30));
        assert_eq!(config.response_timeout, Duration::from_secs(60));
        assert_eq!(config.heartbeat_freq, Duration::from_secs(300));
        assert_eq!(config.heartbeat_ttl, Duration::from_secs(600));
        assert_eq!(config.control_exchange.as_str(), "openstack");
        assert_eq!((config.ipc_dir, config.redis_password), (None, None));
        assert_eq!(config.redis_host, "127.0.0.1");
        assert_eq!((config.redis_user, config.redis_database, config.redis_tls), (None, 0, false));
        assert_eq!(config.redis_sentinel_group, "oslo-messaging-zeromq");
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
