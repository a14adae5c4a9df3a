//! Making a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::{Matchmaker, MatchmakerError};
use zmqv2_proto::config::{RunDirError, find_ipc_dir};
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, InvalidAddress, Target, Version, control};

use crate::client::RpcClient;
use crate::connections::Connections;
use crate::courier::{Courier, Observer, Rules};
use crate::directory::Directory;
use crate::engine::{Engine, Settings};
use crate::gate::WhenFull;
use crate::journey::Plan;
use crate::outcome::Outcome;
use crate::outstanding::Limits;
use crate::routes::Routes;

/// Settings of a client to be. Everything but the target has a default.
#[derive(Clone)]
#[must_use = "a builder makes no client before `build`"]
pub struct RpcClientBuilder {
    target: Target,
    config: Config,
    matchmaker: Option<Arc<dyn Matchmaker>>,
    ipc_dir: Option<PathBuf>,
    timeout: Option<Duration>,
    version_cap: Option<Version>,
    allowed_remote_modules: Vec<String>,
    transport: Option<Transport>,
    cast_timeout: Option<Duration>,
    retries: u32,
    wait_for_ready: bool,
    max_outstanding: usize,
    max_outstanding_bytes: usize,
    when_full: WhenFull,
    observer: Option<Observer>,
}

const DEFAULT_MAX_OUTSTANDING: usize = 10_000;
const DEFAULT_MAX_OUTSTANDING_BYTES: usize = 64 << 20;
/// Slots of the table are numbered, and each costs memory.
const MOST_OUTSTANDING: usize = 1 << 20;

impl fmt::Debug for RpcClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClientBuilder").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A client cannot be made from these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The directory that the configuration names cannot be opened.
    #[error(transparent)]
    Directory(#[from] MatchmakerError),
    /// The socket directory of this node cannot be found.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The broker of this node has no address that could be used.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
}

impl RpcClientBuilder {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            config: Config::default(),
            matchmaker: None,
            ipc_dir: None,
            timeout: None,
            version_cap: None,
            allowed_remote_modules: Vec::new(),
            transport: None,
            cast_timeout: None,
            retries: 0,
            wait_for_ready: false,
            max_outstanding: DEFAULT_MAX_OUTSTANDING,
            max_outstanding_bytes: DEFAULT_MAX_OUTSTANDING_BYTES,
            when_full: WhenFull::Wait,
            observer: None,
        }
    }

    /// The options. Default: [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The directory that says which nodes host a topic; share one per process. Default: a new one, of the kind that
    /// the configuration names (`rpc_zmq_matchmaker`).
    pub fn matchmaker(mut self, matchmaker: Arc<dyn Matchmaker>) -> Self {
        self.matchmaker = Some(matchmaker);
        self
    }

    /// The directory of this node's local sockets: the way to the broker of this node (`rpc_zmq_host`). Default: the
    /// one that the configuration leads to.
    pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.ipc_dir = Some(dir.into());
        self
    }

    /// How long a call may take, from the call to its return. Default: `rpc_response_timeout` (60 s). Less than 1 ms
    /// counts as 1 ms, more than [`Ttl::MAX`](zmqv2_proto::Ttl::MAX) (49 days) as that.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Send no message of a version above this, nor of another major version: for rolling upgrades, while old servers
    /// still run. Default: no cap.
    pub fn version_cap(mut self, cap: Version) -> Self {
        self.version_cap = Some(cap);
        self
    }

    /// Modules whose remote errors come back as themselves, besides the built-in ones; see
    /// [`RemoteError`](crate::RemoteError). Default: none.
    pub fn allowed_remote_modules<M: Into<String>>(mut self, modules: impl IntoIterator<Item = M>) -> Self {
        self.allowed_remote_modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Shares a libzmq context with others. Default: a context of its own, with the configuration's options.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How long a cast waits for its acknowledgement, from the cast on. Default: `rpc_cast_timeout` (30 s). The same bounds
    /// as for [`timeout`](Self::timeout).
    pub fn cast_timeout(mut self, timeout: Duration) -> Self {
        self.cast_timeout = Some(timeout);
        self
    }

    /// How often a message that may have been lost is sent again, with the same id: after its connection broke, after its
    /// server was lost, and when its timeout divided by `retries + 1` has passed without an answer. Default: 0, never.
    ///
    /// A server that still lives runs a repeated message once; *another* server does not know what the first one ran. So
    /// use this for methods that may run twice. With retries, a cast also waits for a connection until its timeout, not
    /// only for `rpc_zmq_connect_timeout`.
    pub fn retry(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Whether a message waits, within its timeout, until a server of its target is there. Default: no; it is refused at
    /// once (`NoRoute`). One that has waited in vain is refused with `Expired`, and never runs.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// How many casts and calls that do not block may be without an outcome. Default: 10,000; at least 1, at most
    /// 1,048,576. See [`when_full`](Self::when_full) for what happens then. A fanout counts once for each node; it is taken over
    /// whole as soon as there is room for one, so that the bound is exceeded by at most the nodes of one fanout.
    pub fn max_outstanding(mut self, messages: usize) -> Self {
        self.max_outstanding = messages;
        self
    }

    /// How many bytes these messages may have together. Default: 64 MiB. A single message above this is sent when
    /// nothing else is outstanding. What is on its way through libzmq comes on top, at most the same again.
    pub fn max_outstanding_bytes(mut self, bytes: usize) -> Self {
        self.max_outstanding_bytes = bytes;
        self
    }

    /// What becomes of a sender when one of these bounds is reached. Default: it waits.
    pub fn when_full(mut self, what: WhenFull) -> Self {
        self.when_full = what;
        self
    }

    /// Is told the outcome of every cast, also of those whose handle was dropped. It runs on the client's I/O thread:
    /// be brief, and never block.
    ///
    /// ```no_run
    /// # use zmqv2_client::RpcClient;
    /// # use zmqv2_proto::Target;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("mailer")?)
    ///     .observer(|target, outcome| println!("{target}: {outcome}"))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn observer(mut self, observer: impl Fn(&Target, &Outcome) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Makes the client. Opens nothing: a broker that is not there yet is no error.
    ///
    /// # Errors
    /// [`ClientError`] when settings are missing or contradict each other.
    pub fn build(self) -> Result<RpcClient, ClientError> {
        let config = self.config;
        let ipc_dir = self.ipc_dir.map_or_else(|| find_ipc_dir(&config), Ok)?;
        let local_broker = control::broker_socket(&ipc_dir)?;
        let matchmaker = self.matchmaker.map_or_else(|| zmqv2_matchmaker::open(&config), Ok)?;
        let transport = self.transport.unwrap_or_else(|| Transport::new(TransportOptions::from(&config)));
        let settings = Settings {
            connect_timeout: config.connect_timeout,
            max_message_bytes: config.max_message_bytes,
            allowed_remote_modules: self.allowed_remote_modules.into(),
        };
        let plan = Plan {
            target: self.target,
            timeout: self.timeout.unwrap_or(config.response_timeout),
            cast_timeout: self.cast_timeout.unwrap_or(config.cast_timeout),
            version_cap: self.version_cap,
            retries: self.retries,
            wait_for_ready: self.wait_for_ready,
        };
        let rules = Rules {
            limits: Limits {
                messages: self.max_outstanding.clamp(1, MOST_OUTSTANDING),
                bytes: self.max_outstanding_bytes,
                connect_timeout: config.connect_timeout,
            },
            when_full: self.when_full,
            observer: self.observer,
            max_links: config.conn_pool_size,
        };
        let routes = Arc::new(Routes::new(Directory::new(matchmaker), (config.host, local_broker)));
        let courier = Courier::new(rules, transport.clone(), Arc::clone(&routes));
        let connections = Connections::new(transport, config.conn_pool_size);
        Ok(RpcClient::new(Engine::new(settings, routes, connections, courier), plan))
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::config::MatchmakerKind;

    use super::*;

    fn builder(change: impl FnOnce(&mut Config)) -> RpcClientBuilder {
        let mut config = Config::default();
        change(&mut config);
        RpcClient::builder(Target::topic("t").unwrap()).config(config)
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let missing = builder(|config| {
            config.matchmaker = MatchmakerKind::Ring;
            config.ring_file = "/nowhere/ring.json".into();
        });
        let error = missing.build().unwrap_err().to_string();
        assert!(error.contains("/nowhere/ring.json"), "{error}");
        let deep = builder(|_| {}).ipc_dir("/".repeat(200)).build().unwrap_err();
        assert!(deep.to_string().contains("rpc_zmq_ipc_dir"), "{deep}");
    }

    #[test]
    fn the_default_timeout_is_that_of_responses_rg29() {
        let client = builder(|config| {
            config.response_timeout = Duration::from_secs(7);
            config.cast_timeout = Duration::from_secs(3);
            config.connect_timeout = Duration::from_secs(2);
        });
        let shown = format!("{:?}", client.build().unwrap().prepare());
        assert!(shown.contains("timeout: 7s"), "{shown}");
    }
}
