//! The RPC server: a builder and a handle.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, InstanceId, ServerName, Target};

use crate::dispatcher::Dispatcher;
use crate::endpoint::Endpoint;
use crate::error::ServerError;
use crate::lane::Batch;
use crate::repeats::Repeats;
use crate::rpc::Rpc;
use crate::service::{Offer, Service, Setup};

/// Builds an [`RpcServer`].
pub struct ServerBuilder {
    target: Target,
    endpoints: Vec<Box<dyn Endpoint>>,
    sockets: WorkerSockets,
    setup: Setup,
}

/// How the workers of an [`RpcServer`] get their requests. Both keep the same promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WorkerSockets {
    /// All workers take turns with one ROUTER, to which the broker sends as many requests as there are workers. A quick
    /// request costs no wake-up of another worker; beside one that is slow, others wait for about a millisecond. The
    /// default.
    #[default]
    Shared,
    /// Each has a REP of its own, with one request at a time: no request waits for any other worker, each costs a
    /// wake-up, and each worker seven descriptors in the broker.
    Own,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("target", &self.target)
            .field("endpoints", &self.endpoints.len())
            .field("workers", &self.setup.workers)
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// Adds an endpoint. A request goes to the first that fits its namespace and version and has its method.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Endpoint + 'static) -> Self {
        self.endpoints.push(Box::new(endpoint));
        self
    }

    /// How many requests run at the same time; 1 to [`MAX_WORKERS`](zmqv2_proto::control::MAX_WORKERS). Default: option `rpc_thread_pool_size` (64).
    /// With 1, requests of one client run in the order they were sent.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.setup.workers = Some(workers);
        self
    }

    /// How the workers get their requests. A single worker always has a REP.
    #[must_use]
    pub fn worker_sockets(mut self, sockets: WorkerSockets) -> Self {
        self.sockets = sockets;
        self
    }

    /// The configuration. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.setup.config = config;
        self
    }

    /// The socket directory of the node's broker. Default: the one that the configuration leads to.
    #[must_use]
    pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.setup.ipc_dir = Some(dir.into());
        self
    }

    /// Shares a transport, and so one libzmq context, with clients of the same process.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.setup.transport = Some(transport);
        self
    }

    /// Starts the server: binds its workers and registers at the node's broker as soon as there is one.
    /// [`RpcServer::wait_ready`] tells when work can come.
    ///
    /// # Errors
    /// [`ServerError`], which says what is in the way.
    pub fn start(self) -> Result<RpcServer, ServerError> {
        let Self { target, endpoints, sockets, setup } = self;
        let mut target = target.with_default_exchange(&setup.config.control_exchange);
        let workers = setup.workers_or(setup.config.thread_pool_size)?;
        if endpoints.is_empty() {
            return Err(ServerError::NoEndpoint);
        }
        let server = match &target.server {
            Some(server) => server.clone(),
            None => ServerName::new(setup.config.host.as_str())?,
        };
        target.server = Some(server.clone());
        let work = Rpc {
            dispatcher: Dispatcher::new(endpoints),
            max_message_bytes: setup.config.max_message_bytes,
            repeats: Repeats::default(),
        };
        let shared = workers > 1 && sockets == WorkerSockets::Shared;
        let offer = Offer { key: target.key(), also: Vec::new(), server, batch: Batch::ONE, shared };
        let service = setup.start(workers, offer, work)?;
        Ok(RpcServer { target, service })
    }
}

/// A running server. `Send + Sync`. Dropping it stops it as [`stop`](Self::stop) does.
pub struct RpcServer {
    target: Target,
    service: Service,
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer").field("target", &self.target).field("service", &self.service).finish()
    }
}

impl RpcServer {
    /// A builder of a server for `target`: exchange (default: option `control_exchange`), topic, and a
    /// server name (default: option `rpc_zmq_host`).
    #[must_use]
    pub fn builder(target: Target) -> ServerBuilder {
        ServerBuilder { target, endpoints: Vec::new(), sockets: WorkerSockets::default(), setup: Setup::default() }
    }

    /// What it serves, with its server name.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The id of this run.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.service.instance()
    }

    /// Whether the broker has taken its registration. Turns false while the broker is away.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.service.is_ready()
    }

    /// Waits until the broker has taken the registration: work can come from now on.
    ///
    /// # Errors
    /// [`ServerError::NotReady`] after `timeout`; the server goes on trying.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), ServerError> {
        self.service.wait_ready(timeout)
    }

    /// Stops: takes no new work, finishes what is in flight (within option `rpc_zmq_drain_timeout`), unregisters. Does
    /// nothing the second time.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`] when handlers were still running at the end of that time.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.service.stop()
    }
}
