//! The settings from which the connections of a client or a notifier are made.

use std::path::PathBuf;
use std::sync::Arc;

use zmqv2_matchmaker::{Matchmaker, MatchmakerError};
use zmqv2_proto::config::{IpcDirError, find_ipc_dir};
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{InvalidAddress, InvalidName, control};

use crate::api::connections::{ConnectionParts, SharedConnections};
use crate::settings::Settings;

/// Each slot of the table costs memory.
pub(crate) const MAX_OUTSTANDING: usize = 1 << 20;

#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) matchmaker: Option<Arc<dyn Matchmaker>>,
    pub(crate) ipc_dir: Option<PathBuf>,
    pub(crate) transport: Option<Transport>,
}

/// Why a client or a notifier cannot be made from its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The directory of the configuration cannot be opened.
    #[error(transparent)]
    Directory(#[from] MatchmakerError),
    /// The socket directory of this node cannot be found.
    #[error(transparent)]
    RunDir(#[from] IpcDirError),
    /// The socket directory gives no valid address for the broker of this node.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A topic has no valid name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A notifier needs at least one topic.
    #[error("a notifier needs at least one topic, such as \"notifications\"")]
    NoTopic,
}

/// The setters that all builders share. A builder has a field `setup`.
macro_rules! setup_setters {
    () => {
        /// Sets the configuration. Default: [`Config::default`].
        pub fn config(mut self, config: Config) -> Self {
            self.setup.settings.config = config;
            self
        }

        /// Sets the directory, which says which nodes have a topic. Share one per process. Default:
        /// a new directory of the configured kind (option `rpc_zmq_matchmaker`).
        pub fn matchmaker(mut self, matchmaker: Arc<dyn Matchmaker>) -> Self {
            self.setup.matchmaker = Some(matchmaker);
            self
        }

        /// Sets the socket directory of this node, in which the local broker listens. Default: the
        /// option `rpc_zmq_ipc_dir`.
        pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
            self.setup.ipc_dir = Some(dir.into());
            self
        }

        /// Shares a libzmq context with other clients. Default: a new context with the configured
        /// options.
        pub fn transport(mut self, transport: Transport) -> Self {
            self.setup.transport = Some(transport);
            self
        }

        /// Sets how many messages may be without an outcome. Default: 10,000. The minimum is 1, the
        /// maximum is 1,048,576. A blocking call never waits for room. A fanout counts once for
        /// each node, but needs room for one message only, so one fanout can exceed the bound.
        pub fn max_outstanding(mut self, messages: usize) -> Self {
            self.setup.settings.max_outstanding = messages.clamp(1, $crate::api::setup::MAX_OUTSTANDING);
            self
        }

        /// Sets how many bytes these messages may have together. Default: 64 MiB. A larger single
        /// message is sent while no other is outstanding. Messages inside libzmq may need up to as
        /// much again.
        pub fn max_outstanding_bytes(mut self, bytes: usize) -> Self {
            self.setup.settings.max_outstanding_bytes = bytes;
            self
        }

        /// Sets what a sender does when one of these two bounds is reached. Default: it waits.
        pub fn when_full(mut self, when_full: WhenFull) -> Self {
            self.setup.settings.when_full = when_full;
            self
        }

        /// Sets a function that sees the outcome of every cast, fanout and notification, also if
        /// its handle was dropped. For a notification, the target's topic is `<topic>.<priority>`
        /// and its server is the pool. The function runs on the client's I/O thread, so it must be
        /// quick and must not block.
        ///
        /// ```no_run
        /// # use zmqv2_client::{RpcClient, Target};
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let client = RpcClient::builder(Target::topic("mailer")?)
        ///     .observer(|target, outcome| println!("{target}: {outcome}"))
        ///     .build()?;
        /// # Ok(())
        /// # }
        /// ```
        pub fn observer(mut self, observer: impl Fn(&Target, &Outcome) + Send + Sync + 'static) -> Self {
            self.setup.settings.observer = Some($crate::settings::Observer(Arc::new(observer)));
            self
        }

        /// Adds an [`Interceptor`](crate::Interceptor), which sees every message before it is sent and
        /// after it has ended. Default: none.
        pub fn interceptor(mut self, interceptor: impl $crate::Interceptor) -> Self {
            self.setup.settings.interceptors.add(interceptor);
            self
        }
    };
}
pub(crate) use setup_setters;

impl Setup {
    pub(crate) fn build(self) -> Result<SharedConnections, ClientError> {
        let mut settings = self.settings;
        settings.config = settings.config.bounded();
        let settings = Arc::new(settings);
        let config = &settings.config;
        let ipc_dir = self.ipc_dir.map_or_else(|| find_ipc_dir(config), Ok)?;
        let local_broker = control::broker_socket(&ipc_dir)?;
        let matchmaker = self.matchmaker.map_or_else(|| zmqv2_matchmaker::open(config), Ok)?;
        let transport = self.transport.unwrap_or_else(|| Transport::new(TransportOptions::from(config)));
        let local_broker = (config.host.clone(), local_broker);
        Ok(SharedConnections::new(ConnectionParts { settings, matchmaker, local_broker, transport }))
    }
}
