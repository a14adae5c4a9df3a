//! The typed configuration.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::naming::{DEFAULT_EXCHANGE, Exchange, NodeName, TcpAddress, Zone};

use crate::config::load::ConfigBuilder;
use crate::config::options::OPTIONS;
use crate::config::options::spec::OptionSpec;

/// The bound of a topic's backlog when `rpc_zmq_topic_backlog` is unset, in messages. The legacy
/// driver had no bound.
pub const DEFAULT_TOPIC_BACKLOG: usize = 10_000;

/// The bounds of a span in a configuration file. The longest is 2^32 ms, as on the wire.
const SHORTEST_SPAN: Duration = Duration::from_millis(1);
const LONGEST_SPAN: Duration = Duration::from_secs(4_294_967);
/// The bound of `rpc_zmq_busy_poll_us` and `rpc_zmq_adaptive_poll_us`.
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// How nodes find each other (option `rpc_zmq_matchmaker`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MatchmakerKind {
    /// Every server is on this node.
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

    /// The text itself, for authentication.
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
/// [`Config::default`] has the default of every option. It reads neither files nor the environment,
/// only the host name of the machine. `docs/configuration.md` lists what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `rpc_zmq_bind_address`: the interface of the broker, `*`, a host name or an IP literal.
    /// Default `*`.
    pub bind_address: String,
    /// `rpc_zmq_matchmaker` or `transport_url`: how nodes find each other. Default local.
    pub matchmaker: MatchmakerKind,
    /// `[matchmaker_ring] ringfile` or `transport_url`: the file of the ring matchmaker.
    pub ring_file: PathBuf,
    /// `rpc_zmq_port`: the TCP port of every broker. Default 9501; 0 picks a free port.
    pub port: u16,
    /// `rpc_zmq_contexts`: the number of libzmq I/O threads. Default 1.
    pub io_threads: u16,
    /// `rpc_zmq_io_batch_bytes`: the most bytes that libzmq moves in one system call. Default
    /// 65536.
    pub io_batch_bytes: u32,
    /// `rpc_zmq_high_water_mark`: the most messages that libzmq holds for one peer in each
    /// direction. Default 10000.
    pub high_water_mark: u32,
    /// `rpc_zmq_busy_poll_us`: how long a thread polls for a message before it sleeps. Default 0.
    pub busy_poll: Duration,
    /// `rpc_zmq_adaptive_poll_us`: how long the I/O thread of a broker or client polls, as long as
    /// recent polls found messages. Default 100 us.
    pub adaptive_poll: Duration,
    /// `rpc_zmq_log_level`: the level of the log of the programs. `None`: that of each program. It
    /// does not matter to a service that uses the libraries.
    pub log_level: Option<log::LevelFilter>,
    /// `rpc_zmq_window`: the most requests that a server with several workers takes at once while
    /// its handlers are quick. Default 256.
    pub window: u16,
    /// `rpc_zmq_topic_backlog`: the most messages that wait in the backlog of one topic; above it a
    /// sender gets Busy. Default [`DEFAULT_TOPIC_BACKLOG`].
    pub topic_backlog: usize,
    /// `rpc_zmq_ipc_dir`: the directory of local sockets. `None`:
    /// [`resolve_ipc_dir`](super::resolve_ipc_dir) chooses it.
    pub ipc_dir: Option<PathBuf>,
    /// `rpc_zmq_host`: the name of this node in the directory. Default: the host name, or
    /// `localhost` when that is not a valid name.
    pub host: NodeName,
    /// `rpc_cast_timeout`: how long a cast may wait before it expires. Default 30 s.
    pub cast_timeout: Duration,
    /// `rpc_response_timeout`: how long a call waits for its reply. Default 60 s.
    pub response_timeout: Duration,
    /// `rpc_thread_pool_size`: the number of handler threads in a server. Default 64.
    pub thread_pool_size: usize,
    /// `rpc_conn_pool_size`: the most connections that a client keeps open. Default 30.
    pub conn_pool_size: usize,
    /// `control_exchange`: the exchange of targets that name none. Default `openstack`.
    pub control_exchange: Exchange,
    /// `matchmaker_heartbeat_freq`: the time between two renewals of a lease. Default 300 s.
    pub heartbeat_freq: Duration,
    /// `matchmaker_heartbeat_ttl`: the life of a lease that is not renewed. Default 600 s.
    pub heartbeat_ttl: Duration,
    /// `[matchmaker_redis] host`. Default `127.0.0.1`.
    pub redis_host: String,
    /// `[matchmaker_redis] port`. Default 6379.
    pub redis_port: u16,
    /// `[matchmaker_redis] password`. Default none.
    pub redis_password: Option<Secret>,
    /// `[matchmaker_redis] user`. Default none, which is the default user of Redis.
    pub redis_user: Option<String>,
    /// `[matchmaker_redis] database`: the number of the database. Default 0.
    pub redis_database: u16,
    /// `[matchmaker_redis] tls`: whether connections to Redis and Sentinels are encrypted. Default
    /// no.
    pub redis_tls: bool,
    /// `[matchmaker_redis] tls_ca_file`: PEM file of the authorities that may sign the certificate
    /// of Redis. `None`: those that the system trusts.
    pub redis_tls_ca_file: Option<PathBuf>,
    /// `[matchmaker_redis] tls_cert_file`: PEM file of this side's certificate. Default none.
    pub redis_tls_cert_file: Option<PathBuf>,
    /// `[matchmaker_redis] tls_key_file`: PEM file of the key of that certificate. Default none.
    pub redis_tls_key_file: Option<PathBuf>,
    /// `[matchmaker_redis] sentinel_hosts` or `transport_url`: Sentinels that know the primary.
    /// Empty: Redis is at [`redis_host`](Self::redis_host).
    pub redis_sentinel_hosts: Vec<TcpAddress>,
    /// `[matchmaker_redis] sentinel_group_name` or `transport_url`: the group of servers. Default
    /// `oslo-messaging-zeromq`.
    pub redis_sentinel_group: String,
    /// `[matchmaker_redis] sentinel_password`: the password of the Sentinels. Default none.
    pub redis_sentinel_password: Option<Secret>,
    /// `[matchmaker_redis] refresh_interval`: the most time between two reads of remembered topics.
    /// Default 10 s.
    pub redis_refresh: Duration,
    /// `[matchmaker_redis] max_stale`: how long answers are used while Redis cannot be read.
    /// Default 86400 s.
    pub redis_max_stale: Duration,
    /// `rpc_zmq_zone`: the zone of this node. Messages for any server of a topic prefer nodes of
    /// the same zone. Default none.
    pub zone: Option<Zone>,
    /// `rpc_zmq_max_message_bytes`: the largest message in bytes. Default 16777216.
    pub max_message_bytes: usize,
    /// `rpc_zmq_backlog_bytes`: the most bytes of all messages that a broker holds; above it a
    /// sender gets Busy. Default 268435456.
    pub backlog_bytes: usize,
    /// `rpc_zmq_unread_bytes`: the most bytes of answers that a broker holds for clients that have
    /// not read them yet. Default 536870912.
    pub unread_bytes: usize,
    /// `rpc_zmq_drain_timeout`: how long a stopping broker or server waits for requests in flight.
    /// Default 30 s.
    pub drain_timeout: Duration,
    /// `rpc_zmq_connect_timeout`: how long a client waits for a connection to a node before it
    /// tries another. Default 1 s.
    pub connect_timeout: Duration,
    /// `rpc_zmq_notification_store`: the file in which a broker keeps notifications. `None`: in
    /// memory.
    pub notification_store: Option<PathBuf>,
    /// `rpc_zmq_max_deliveries`: how often a notification is delivered before it becomes a dead
    /// letter. Default 5.
    pub max_deliveries: u16,
}

impl Config {
    /// Starts from the defaults and adds layers.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The same configuration, with every number and span within the bounds that a configuration
    /// file has. Programs may set the fields to anything, so whatever uses a configuration calls
    /// this first.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for span in [
            &mut self.cast_timeout,
            &mut self.response_timeout,
            &mut self.connect_timeout,
            &mut self.heartbeat_freq,
            &mut self.heartbeat_ttl,
            &mut self.redis_refresh,
            &mut self.redis_max_stale,
        ] {
            *span = (*span).clamp(SHORTEST_SPAN, LONGEST_SPAN);
        }
        self.drain_timeout = self.drain_timeout.min(LONGEST_SPAN);
        self.busy_poll = self.busy_poll.min(LONGEST_POLL);
        self.adaptive_poll = self.adaptive_poll.min(LONGEST_POLL);
        self.io_threads = self.io_threads.clamp(1, 64);
        self.window = self.window.min(8192);
        self.topic_backlog = self.topic_backlog.clamp(1, 10_000_000);
        self.conn_pool_size = self.conn_pool_size.clamp(1, 65536);
        self.max_message_bytes = self.max_message_bytes.clamp(1024, 1 << 30);
        self.backlog_bytes = self.backlog_bytes.clamp(self.max_message_bytes, 1 << 40);
        self.max_deliveries = self.max_deliveries.max(1);
        self
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

/// A configuration while options are applied to it, in any order. `transport_url` is applied last,
/// because it overrides options that may come after it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) config: Config,
    pub(crate) url: Option<UrlChoice>,
}

/// The matchmaker of a `transport_url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlChoice {
    pub(crate) kind: MatchmakerKind,
    pub(crate) ring_file: Option<PathBuf>,
    pub(crate) redis: Option<RedisChoice>,
}

/// The Redis of a `transport_url`. Options decide the fields that it leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RedisChoice {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) database: Option<u16>,
    pub(crate) tls: bool,
    /// The Sentinels. Empty when Redis is at a host, `None` when the options decide.
    pub(crate) sentinels: Option<Vec<TcpAddress>>,
    pub(crate) group: Option<String>,
}

impl UrlChoice {
    /// Whether it overrides `option`: it changed the value, or its Sentinels replace `host` and
    /// `port`.
    pub(crate) fn overrides(&self, option: &OptionSpec, before: &Config, after: &Config) -> bool {
        let sentinels = self.redis.as_ref().and_then(|redis| redis.sentinels.as_deref()).unwrap_or_default();
        match option.name {
            "rpc_zmq_matchmaker" => after.matchmaker != before.matchmaker,
            "ringfile" => after.ring_file != before.ring_file,
            "host" => !sentinels.is_empty() || after.redis_host != before.redis_host,
            "port" => !sentinels.is_empty() || after.redis_port != before.redis_port,
            "user" => after.redis_user != before.redis_user,
            "password" => after.redis_password != before.redis_password,
            "database" => after.redis_database != before.redis_database,
            "tls" => after.redis_tls != before.redis_tls,
            "sentinel_hosts" => after.redis_sentinel_hosts != before.redis_sentinel_hosts,
            "sentinel_group_name" => after.redis_sentinel_group != before.redis_sentinel_group,
            _ => false,
        }
    }
}

impl RedisChoice {
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
    /// Every option without its default text, which is applied later.
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
            log_level: None,
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
            unread_bytes: 0,
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

/// The host name as a node name, or `localhost` if it is not a valid one. `rpc_zmq_host` overrides
/// it.
pub(crate) fn host_name() -> NodeName {
    NodeName::new(rustix::system::uname().nodename().to_string_lossy())
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
