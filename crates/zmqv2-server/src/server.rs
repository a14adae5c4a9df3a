//! The server: a builder, a handle, and the threads behind it.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::control::{MAX_WORKERS, Registration, broker_socket, worker_socket};
use zmqv2_proto::transport::{Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{Address, Config, InstanceId, ServerName, Target};

use crate::dispatcher::Dispatcher;
use crate::endpoint::Endpoint;
use crate::error::ServerError;
use crate::registration::{Desk, Keeper, Readiness, now};
use crate::repeats::Repeats;
use crate::wake::{Bell, Signal};
use crate::worker::{self, Freedom, Work};

/// Builds an [`RpcServer`].
pub struct ServerBuilder {
    target: Target,
    endpoints: Vec<Box<dyn Endpoint>>,
    workers: Option<usize>,
    config: Config,
    ipc_dir: Option<PathBuf>,
    transport: Option<Transport>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("target", &self.target)
            .field("endpoints", &self.endpoints.len())
            .field("workers", &self.workers)
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

    /// How many requests run at the same time; 1 to [`MAX_WORKERS`]. Default: option `rpc_thread_pool_size` (64).
    /// With 1, requests of one client run in the order they were sent.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The configuration. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The socket directory of the node's broker. Default: the one that the configuration leads to.
    #[must_use]
    pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.ipc_dir = Some(dir.into());
        self
    }

    /// Shares a transport, and so one libzmq context, with clients of the same process.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Starts the server: binds its workers and registers at the node's broker as soon as there is one.
    /// [`RpcServer::wait_ready`] tells when work can come.
    ///
    /// # Errors
    /// [`ServerError`], which says what is in the way.
    pub fn start(self) -> Result<RpcServer, ServerError> {
        let Self { mut target, endpoints, workers, config, ipc_dir, transport } = self;
        let count = workers.unwrap_or(config.thread_pool_size);
        let workers = u16::try_from(count).ok().filter(|count| (1..=MAX_WORKERS).contains(count));
        let workers = workers.ok_or(ServerError::Workers(count))?;
        if endpoints.is_empty() {
            return Err(ServerError::NoEndpoint);
        }
        let server = match &target.server {
            Some(server) => server.clone(),
            None => ServerName::new(config.host.as_str())?,
        };
        target.server = Some(server.clone());
        let dir = ipc_dir.map_or_else(|| resolve_ipc_dir(&config), Ok)?;
        let transport = transport.unwrap_or_else(|| Transport::new(TransportOptions::from(&config)));
        let instance = InstanceId::random();
        let work = Arc::new(Work {
            dispatcher: Dispatcher::new(endpoints),
            server: server.clone(),
            node: config.host.clone(),
            max_message_bytes: config.max_message_bytes,
            stop: Signal::new().map_err(ServerError::Thread)?,
            repeats: Repeats::default(),
        });
        let desk = Arc::new(Desk { stop: AtomicBool::new(false), bell: Bell::new().map_err(ServerError::Thread)? });
        let mut undo = Undo(Some(Arc::clone(&work)));
        // A worker stands in it once at most.
        let (free, freed) = crossbeam_channel::bounded(workers.into());
        // Dropped when it ends: every worker holds the sending end.
        let (running, ended) = crossbeam_channel::bounded(0);
        for index in 0..workers {
            let mut socket = transport.socket(Role::Worker)?;
            let address = worker_socket(&dir, instance, index)?;
            socket.bind(&address)?;
            let bound = Bound { socket, _file: SocketFile(address) };
            let (running, freedom) = (running.clone(), Freedom { index, free: free.clone(), desk: Arc::clone(&desk) });
            let work = Arc::clone(&work);
            spawn(format!("worker-{index}"), move || {
                let _running: Sender<()> = running;
                // As a whole: its parts go in their order.
                let bound = bound;
                worker::run(&bound.socket, &work, &freedom);
            })?;
        }
        drop(running);
        let mut socket = transport.socket(Role::Link)?;
        socket.connect(&broker_socket(&dir)?)?;
        let readiness = Arc::new(Readiness::default());
        let keeper = Keeper {
            socket,
            key: target.key(),
            server,
            registration: Registration::new(instance, workers, 1, std::process::id()),
            readiness: Arc::clone(&readiness),
            desk: Arc::clone(&desk),
            freed,
            drain_timeout: config.drain_timeout,
        };
        let keeper = spawn("registration".to_owned(), move || keeper.run())?;
        let drain_timeout = config.drain_timeout;
        undo.0 = None;
        Ok(RpcServer {
            target,
            instance,
            dir,
            readiness,
            desk,
            keeper: Mutex::new(Some(keeper)),
            work,
            ended,
            workers,
            drain_timeout,
        })
    }
}

/// Ends the workers of a server that does not come to start.
struct Undo(Option<Arc<Work>>);

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(work) = &self.0 {
            work.stop.give();
        }
    }
}

/// A worker's socket, and then its file.
struct Bound {
    socket: Socket,
    _file: SocketFile,
}

/// libzmq leaves it behind, and nobody will ever bind it again.
struct SocketFile(Address);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Address::Ipc(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServerError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(ServerError::Thread)
}

/// A running server. `Send + Sync`. Dropping it stops it as [`stop`](Self::stop) does.
pub struct RpcServer {
    target: Target,
    instance: InstanceId,
    dir: PathBuf,
    readiness: Arc<Readiness>,
    desk: Arc<Desk>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    work: Arc<Work>,
    ended: Receiver<()>,
    workers: u16,
    drain_timeout: Duration,
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer")
            .field("target", &self.target)
            .field("instance", &self.instance)
            .field("workers", &self.workers)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

impl RpcServer {
    /// A builder of a server for `target`: exchange, topic, and a server name (default: option `rpc_zmq_host`).
    #[must_use]
    pub fn builder(target: Target) -> ServerBuilder {
        ServerBuilder {
            target,
            endpoints: Vec::new(),
            workers: None,
            config: Config::default(),
            ipc_dir: None,
            transport: None,
        }
    }

    /// What it serves, with its server name.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The id of this run.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Whether the broker has taken its registration. Turns false while the broker is away.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness.get()
    }

    /// Waits until the broker has taken the registration: work can come from now on.
    ///
    /// # Errors
    /// [`ServerError::NotReady`] after `timeout`; the server goes on trying.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), ServerError> {
        if self.readiness.wait(timeout) {
            return Ok(());
        }
        Err(ServerError::NotReady { waited: timeout, dir: self.dir.display().to_string() })
    }

    /// Stops: takes no new work, finishes what is in flight (within option `rpc_zmq_drain_timeout`), unregisters. Does
    /// nothing the second time.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`] when handlers were still running at the end of that time.
    pub fn stop(&self) -> Result<(), ServerError> {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(keeper) = keeper else { return Ok(()) };
        let end_at = now() + self.drain_timeout;
        self.desk.stop.store(true, Ordering::Release);
        self.desk.bell.ring();
        // Ends by itself within the time to drain; a panic in there has been printed already.
        let _ = keeper.join();
        self.work.stop.give();
        // Nothing is ever sent: this waits for the last worker to drop its end.
        match self.ended.recv_deadline(end_at) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let workers = Arc::strong_count(&self.work) - 1;
                Err(ServerError::Unfinished { workers, waited: self.drain_timeout })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::warn!("{} stopped early: {error}", self.target);
        }
    }
}
