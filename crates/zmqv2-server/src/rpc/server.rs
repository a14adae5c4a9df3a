//! The RPC server: a builder and a handle.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, InstanceId, ReceiverKind, ServerName, Target};

use crate::error::ServerError;
use crate::rpc::counters::{LiveCounters, ServerCounters};
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::duplicates::repeats::RepeatedRequests;
use crate::rpc::endpoint::Endpoint;
use crate::rpc::worker::RpcWork;
use crate::runtime::rep_worker::Batch;
use crate::runtime::service::{Offer, Service};
use crate::runtime::settings::{Settings, service_methods, settings_setters};

/// Builds an [`RpcServer`].
pub struct RpcServerBuilder {
    target: Target,
    endpoints: Vec<Box<dyn Endpoint>>,
    sockets: WorkerSockets,
    settings: Settings,
}

/// How the workers of an [`RpcServer`] get their requests. The promises are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WorkerSockets {
    /// All workers take turns with one ROUTER socket. A quick request wakes no other worker. Beside
    /// a slow request, others may wait for about a millisecond. The default.
    #[default]
    Shared,
    /// Each worker has its own REP socket, with one request at a time. No request waits for another
    /// worker. Each request wakes a worker, and each worker costs the broker seven descriptors.
    Own,
}

impl fmt::Debug for RpcServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServerBuilder")
            .field("target", &self.target)
            .field("endpoints", &self.endpoints.len())
            .field("workers", &self.settings.workers)
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

impl RpcServerBuilder {
    /// Adds an endpoint. A request goes to the first one that fits its namespace and version and
    /// has its method.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Endpoint + 'static) -> Self {
        self.endpoints.push(Box::new(endpoint));
        self
    }

    /// How the workers get their requests. A single worker always has a REP socket.
    #[must_use]
    pub fn worker_sockets(mut self, sockets: WorkerSockets) -> Self {
        self.sockets = sockets;
        self
    }

    settings_setters! {
        /// How many requests run at the same time: 1 to
        /// [`MAX_WORKERS`](zmqv2_proto::control::MAX_WORKERS). Default: option
        /// `rpc_thread_pool_size` (64). With 1, requests of one client run in the order in which
        /// they were sent.
    }

    /// Starts the server: binds its sockets, and registers at the node's broker as soon as there is
    /// one. [`RpcServer::wait_ready`] tells when work can come.
    ///
    /// # Errors
    /// [`ServerError`]: the server cannot start as asked.
    pub fn start(self) -> Result<RpcServer, ServerError> {
        let Self { target, endpoints, sockets, mut settings } = self;
        let workers = settings.workers_or(settings.config.thread_pool_size)?;
        if endpoints.is_empty() {
            return Err(ServerError::NoEndpoint);
        }
        let mut target = target.with_default_exchange(&settings.config.control_exchange);
        let server = match &target.server {
            Some(server) => server.clone(),
            None => ServerName::new(settings.config.host.as_str())?,
        };
        target.server = Some(server.clone());
        let counters = Arc::new(LiveCounters::default());
        let work = RpcWork {
            dispatcher: Dispatcher { endpoints },
            interceptors: std::mem::take(&mut settings.interceptors),
            repeated: RepeatedRequests::default(),
            counters: Arc::clone(&counters),
        };
        let shares_socket = workers > 1 && sockets == WorkerSockets::Shared;
        let key = target.key();
        let window = settings.config.window;
        let (receiver, also, batch) = (ReceiverKind::Server, Vec::new(), Batch::ONE);
        let offer = Offer { receiver, key, also, server, workers, batch, shares_socket, window };
        let service = Service::start(settings, offer, work)?;
        Ok(RpcServer { target, counters, service })
    }
}

/// A running server. Dropping it stops it as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct RpcServer {
    target: Target,
    counters: Arc<LiveCounters>,
    service: Service,
}

impl RpcServer {
    /// A builder of a server for the topic of `target`. If `target` has no exchange, option
    /// `control_exchange` gives it. If it has no server name, option `rpc_zmq_host` gives it.
    /// Namespaces and versions are those of the endpoints.
    #[must_use]
    pub fn builder(target: Target) -> RpcServerBuilder {
        let (endpoints, sockets, settings) = (Vec::new(), WorkerSockets::default(), Settings::default());
        RpcServerBuilder { target, endpoints, sockets, settings }
    }

    /// The server's target, with exchange and server name.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Counts the requests of this server, and those that failed.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        self.counters.read()
    }

    service_methods!();

    /// Stops: takes no new requests, finishes those that it has (within option
    /// `rpc_zmq_drain_timeout`), and unregisters. A second call does nothing. A handler of this server
    /// may call it: it then only begins to stop, because it would wait for itself.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`]: handlers were still running at the end of that time.
    /// [`ServerError::Inherited`]: the server is in the parent of this process.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.service.stop()
    }
}
