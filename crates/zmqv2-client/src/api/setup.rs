//! What every client is made from, whatever it sends.

use std::path::PathBuf;
use std::sync::Arc;

use zmqv2_matchmaker::{Matchmaker, MatchmakerError};
use zmqv2_proto::config::{IpcDirError, find_ipc_dir};
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, InvalidAddress, control};

use crate::api::connections::Connections;
use crate::delivery::table::Limits;
use crate::direct::req_sockets::ReqSockets;
use crate::io::admission::WhenFull;
use crate::io::settings::{IoSettings, Observer};
use crate::io::thread::IoThread;
use crate::routing::directory::Directory;
use crate::routing::router::Router;
use crate::settings::Settings;

const DEFAULT_MAX_OUTSTANDING: usize = 10_000;
const DEFAULT_MAX_OUTSTANDING_BYTES: usize = 64 << 20;
/// Slots of the table are numbered, and each costs memory.
const MAX_OUTSTANDING: usize = 1 << 20;

/// The settings from which the connections of a client are made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) matchmaker: Option<Arc<dyn Matchmaker>>,
    pub(crate) ipc_dir: Option<PathBuf>,
    pub(crate) allowed_remote_modules: Vec<String>,
    pub(crate) transport: Option<Transport>,
    pub(crate) max_outstanding: usize,
    pub(crate) max_outstanding_bytes: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) observer: Option<Observer>,
}

/// A client or a notifier cannot be made from these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The directory that the configuration names cannot be opened.
    #[error(transparent)]
    Directory(#[from] MatchmakerError),
    /// The socket directory of this node cannot be found.
    #[error(transparent)]
    RunDir(#[from] IpcDirError),
    /// The broker of this node has no address that could be used.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A notifier without a topic would notify nobody.
    #[error("a notifier needs at least one topic, such as \"notifications\"")]
    NoTopic,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: Config::default(),
            matchmaker: None,
            ipc_dir: None,
            allowed_remote_modules: Vec::new(),
            transport: None,
            max_outstanding: DEFAULT_MAX_OUTSTANDING,
            max_outstanding_bytes: DEFAULT_MAX_OUTSTANDING_BYTES,
            when_full: WhenFull::Wait,
            observer: None,
        }
    }
}

impl Setup {
    pub(crate) fn build(self) -> Result<Connections, ClientError> {
        let config = self.config;
        let ipc_dir = self.ipc_dir.map_or_else(|| find_ipc_dir(&config), Ok)?;
        let local_broker = control::broker_socket(&ipc_dir)?;
        let matchmaker = self.matchmaker.map_or_else(|| zmqv2_matchmaker::open(&config), Ok)?;
        let transport = self.transport.unwrap_or_else(|| Transport::new(TransportOptions::from(&config)));
        let settings = Settings {
            exchange: config.control_exchange,
            cast_timeout: config.cast_timeout,
            connect_timeout: config.connect_timeout,
            max_message_bytes: config.max_message_bytes,
            allowed_remote_modules: self.allowed_remote_modules.into(),
        };
        let io_settings = IoSettings {
            limits: Limits {
                messages: self.max_outstanding.clamp(1, MAX_OUTSTANDING),
                bytes: self.max_outstanding_bytes,
                connect_timeout: config.connect_timeout,
            },
            when_full: self.when_full,
            observer: self.observer,
            max_links: config.conn_pool_size,
            busy_poll: config.busy_poll,
            adaptive_poll: config.adaptive_poll,
        };
        let router = Arc::new(Router::new(Directory::new(matchmaker), (config.host, local_broker), config.zone));
        let io_thread = IoThread::new(io_settings, transport.clone(), Arc::clone(&router));
        let req_sockets = ReqSockets::new(transport, config.conn_pool_size);
        Ok(Connections::new(settings, router, req_sockets, io_thread))
    }
}
