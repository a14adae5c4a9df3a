//! What every kind of server is made of: lanes that serve, a thread that keeps them registered, and their orderly end.

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
use zmqv2_proto::{Address, Config, InstanceId, ServerName, TopicKey};

use crate::error::ServerError;
use crate::runtime::completions::{CompletionSender, channel};
use crate::runtime::now;
use crate::runtime::registration::{Desk, Link, Readiness, RegistrationThread};
use crate::runtime::rep_worker::{Batch, ShutdownSignals, Work, WorkerContext};
use crate::runtime::shared_socket::WorkerPool;
use crate::runtime::wakeup::{Signal, Waker};

/// Workers that have nothing to do end sooner than this.
const IDLE_WORKERS_END_WITHIN: Duration = Duration::from_millis(200);

/// What all builders of servers ask for.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) workers: Option<usize>,
    pub(crate) config: Config,
    pub(crate) ipc_dir: Option<PathBuf>,
    pub(crate) transport: Option<Transport>,
}

/// What a server offers, and to whom.
pub(crate) struct Offer {
    pub(crate) key: TopicKey,
    /// Further topics that the same lanes serve.
    pub(crate) also: Vec<TopicKey>,
    pub(crate) server: ServerName,
    pub(crate) batch: Batch,
    /// All workers share one socket.
    pub(crate) shared: bool,
}

/// A running server, whatever its lanes do.
pub(crate) struct Service {
    name: String,
    instance: InstanceId,
    dir: PathBuf,
    readiness: Arc<Readiness>,
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shutdown: Arc<ShutdownSignals>,
    ended: Receiver<()>,
    workers: u16,
    drain_timeout: Duration,
}

impl Settings {
    /// How many lanes: what was asked for, or else `default`.
    pub(crate) fn workers_or(&self, default: usize) -> Result<u16, ServerError> {
        let count = self.workers.unwrap_or(default);
        let workers = u16::try_from(count).ok().filter(|count| (1..=MAX_WORKERS).contains(count));
        workers.ok_or(ServerError::Workers(count))
    }

    /// Binds `workers` lanes that do `work`, and registers them as soon as there is a broker.
    pub(crate) fn start<W: Work>(self, workers: u16, offer: Offer, work: W) -> Result<Service, ServerError> {
        let Self { config, ipc_dir, transport, .. } = self;
        let Offer { key, also, server, batch, shared } = offer;
        let dir = ipc_dir.map_or_else(|| resolve_ipc_dir(&config), Ok)?;
        let transport = transport.unwrap_or_else(|| Transport::new(TransportOptions::from(&config)));
        let instance = InstanceId::random();
        let desk = Arc::new(Desk { stop: AtomicBool::new(false), waker: Waker::new().map_err(ServerError::Thread)? });
        let (sender, completions) = channel(usize::from(workers) * usize::from(batch.size), &desk);
        let lanes = WorkerStarter {
            transport: &transport,
            dir: &dir,
            instance,
            server: &server,
            config: &config,
            batch,
            completions: sender,
            shared,
        };
        let shutdown = Arc::new(ShutdownSignals {
            drain: Signal::new().map_err(ServerError::Thread)?,
            stop: Signal::new().map_err(ServerError::Thread)?,
        });
        let mut undo = StopUnlessStarted(Some(Arc::clone(&shutdown)));
        let ended = lanes.start(workers, &shutdown, &Arc::new(work))?;
        let link = Link::open(transport.clone(), broker_socket(&dir)?)?;
        let readiness = Arc::new(Readiness::default());
        let name = format!("{server} of {key}");
        let registration = Registration::new(instance, workers, batch.size, std::process::id());
        let registration =
            registration.sharing_a_socket(shared).with_window(if shared { config.window } else { 0 }).with_topics(also);
        let thread = RegistrationThread::new(
            link,
            key,
            server,
            registration,
            Arc::clone(&readiness),
            Arc::clone(&desk),
            completions,
        );
        let drain_timeout = config.drain_timeout;
        let thread = spawn("registration".to_owned(), move || thread.run(drain_timeout))?;
        undo.0 = None;
        let thread = Mutex::new(Some(thread));
        Ok(Service { name, instance, dir, readiness, desk, thread, shutdown, ended, workers, drain_timeout })
    }
}

impl Service {
    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness.get()
    }

    pub(crate) fn wait_ready(&self, timeout: Duration) -> Result<(), ServerError> {
        if self.readiness.wait(timeout) {
            return Ok(());
        }
        Err(ServerError::NotReady { waited: timeout, dir: self.dir.display().to_string() })
    }

    pub(crate) fn stop(&self) -> Result<(), ServerError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        let end_at = now() + self.drain_timeout;
        self.shutdown.drain.set();
        self.desk.stop.store(true, Ordering::SeqCst);
        self.desk.waker.wake();
        // Ends by itself within the time to drain; a panic in there has been printed already.
        let _ = thread.join();
        self.shutdown.stop.set();
        // Nothing is ever sent: this waits for the last lane to drop its end.
        // Idle ones end at once, also when all of the time is used up.
        match self.ended.recv_deadline(end_at.max(now() + IDLE_WORKERS_END_WITHIN)) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let workers = Arc::strong_count(&self.shutdown) - 1;
                Err(ServerError::Unfinished { workers, waited: self.drain_timeout })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("instance", &self.instance)
            .field("workers", &self.workers)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::warn!("{} stopped early: {error}", self.name);
        }
    }
}

/// What the lanes of a server have in common.
struct WorkerStarter<'a> {
    transport: &'a Transport,
    dir: &'a std::path::Path,
    instance: InstanceId,
    server: &'a ServerName,
    config: &'a Config,
    batch: Batch,
    completions: CompletionSender,
    shared: bool,
}

impl WorkerStarter<'_> {
    /// Starts `count` of them. What comes back is disconnected when the last one has ended.
    fn start<W: Work>(
        self,
        count: u16,
        shutdown: &Arc<ShutdownSignals>,
        work: &Arc<W>,
    ) -> Result<Receiver<()>, ServerError> {
        let (running, ended) = crossbeam_channel::bounded(0);
        if self.shared {
            self.start_pool(count, shutdown, work, &running)?;
        } else {
            for index in 0..count {
                let (socket, file) = self.bind(Role::Worker, index)?;
                let bound = Bound { socket, _file: file };
                let (worker, work) = (self.lane(index, shutdown), Arc::clone(work));
                spawn_worker(index, &running, move || {
                    // As a whole: its parts go in their order.
                    let bound = bound;
                    worker.run(&bound.socket, &*work);
                })?;
            }
        }
        Ok(ended)
    }

    /// Starts workers that take turns with one socket.
    fn start_pool<W: Work>(
        &self,
        count: u16,
        shutdown: &Arc<ShutdownSignals>,
        work: &Arc<W>,
        running: &Sender<()>,
    ) -> Result<(), ServerError> {
        let (socket, file) = self.bind(Role::Front, 0)?;
        let pool = WorkerPool::new(socket, Arc::clone(work), self.instance, count, self.config.window)?;
        let shared = Arc::new((pool, file));
        // One thread more than may run something.
        for index in 0..=count {
            let (worker, shared) = (self.lane(index, shutdown), Arc::clone(&shared));
            spawn_worker(index, running, move || shared.0.run(&worker))?;
        }
        Ok(())
    }

    fn bind(&self, role: Role, index: u16) -> Result<(Socket, SocketFile), ServerError> {
        let mut socket = self.transport.socket(role)?;
        let address = worker_socket(self.dir, self.instance, index)?;
        socket.bind(&address)?;
        Ok((socket, SocketFile(address)))
    }

    fn lane(&self, index: u16, shutdown: &Arc<ShutdownSignals>) -> WorkerContext {
        WorkerContext {
            index,
            server: self.server.clone(),
            node: self.config.host.clone(),
            batch: self.batch,
            completions: self.completions.clone(),
            shutdown: Arc::clone(shutdown),
            shares: self.shared,
        }
    }
}

/// Starts the thread of a worker; it keeps `running` until it ends.
fn spawn_worker(index: u16, running: &Sender<()>, run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    let running = running.clone();
    spawn(format!("worker-{index}"), move || {
        run();
        drop(running);
    })?;
    Ok(())
}

/// Ends the lanes of a server that does not come to start.
struct StopUnlessStarted(Option<Arc<ShutdownSignals>>);

impl Drop for StopUnlessStarted {
    fn drop(&mut self) {
        if let Some(shutdown) = &self.0 {
            shutdown.stop.set();
        }
    }
}

/// A lane's socket, and then its file.
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
