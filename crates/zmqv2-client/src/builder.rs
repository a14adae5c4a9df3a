//! Making a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_matchmaker::{Matchmaker, MatchmakerError};
use zmqv2_proto::config::{RunDirError, find_ipc_dir};
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, InvalidAddress, Target, Version, control};

use crate::client::RpcClient;
use crate::connections::Connections;
use crate::directory::Directory;
use crate::engine::{Engine, Settings};
use crate::journey::Plan;

/// Settings of a client to be. Everything but the target has a default.
#[derive(Debug, Clone)]
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
            allowed_remote_modules: self.allowed_remote_modules,
            local_broker: (config.host, local_broker),
        };
        let plan = Plan {
            target: self.target,
            timeout: self.timeout.unwrap_or(config.response_timeout),
            version_cap: self.version_cap,
        };
        let connections = Connections::new(transport, config.conn_pool_size);
        Ok(RpcClient::new(Engine::new(settings, Directory::new(matchmaker), connections), plan))
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
