//! A running server of either kind: its workers, its registration, and its orderly end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::control::{ServerRegistration, broker_socket, worker_socket};
use zmqv2_proto::transport::{Observation, Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{
    Address, Inherited, InstanceId, NoConnection, PerProcess, ReceiverKind, ServerName, TopicKey, deadline, process_id,
};

use crate::error::ServerError;
use crate::runtime::completions;
use crate::runtime::now;
use crate::runtime::registration::{BrokerLimit, BrokerLink, Readiness, RegistrationThread, SIGN_INTERVAL};
use crate::runtime::rep_worker::{Batch, RepWorker};
use crate::runtime::running::{RunningHandlers, enter_server, is_in_server};
use crate::runtime::settings::Settings;
use crate::runtime::shared_socket::{DeferredPool, Inbox, WorkerPool};
use crate::runtime::wakeup::{RegistrationWaker, Signal};
use crate::runtime::worker::{ShutdownSignals, Work, Worker};

/// Idle workers end within this time after the stop signal.
const IDLE_WORKERS_END_WITHIN: Duration = Duration::from_millis(200);

/// The topics and workers that a server offers to its broker.
pub(crate) struct Offer {
    pub(crate) receiver: ReceiverKind,
    pub(crate) key: TopicKey,
    /// Further topics that the same workers serve.
    pub(crate) also: Vec<TopicKey>,
    pub(crate) server: ServerName,
    pub(crate) workers: u16,
    pub(crate) batch: Batch,
    /// All workers share one socket.
    pub(crate) shares_socket: bool,
    /// The most requests that the broker may send at a time to a shared socket while handlers are
    /// quick. 0: never more than there are workers.
    pub(crate) window: u16,
}

impl Offer {
    /// The registration of this offer, for workers that take bodies of up to this many bytes.
    fn registration(&self, instance: InstanceId, max_message_bytes: usize) -> ServerRegistration {
        let window = if self.shares_socket { self.window } else { 0 };
        let registration = ServerRegistration::new(instance, self.workers, self.batch.size, std::process::id())
            .sharing_a_socket(self.shares_socket)
            .with_window(window)
            .with_max_message_bytes(max_message_bytes)
            .with_signs_of_life(SIGN_INTERVAL)
            .with_receiver(self.receiver)
            .with_topics(self.also.clone());
        // A REP socket takes nothing while its worker runs, and nobody waits for notifications.
        let cancels = self.shares_socket && self.receiver == ReceiverKind::Server;
        if cancels { registration.with_cancellation() } else { registration }
    }
}

pub(crate) struct Service {
    name: String,
    pub(crate) instance: InstanceId,
    dir: PathBuf,
    workers: u16,
    drain_timeout: Duration,
    /// The process that started the server, and what runs in it.
    pid: u32,
    threads: PerProcess<Threads>,
}

/// The threads of a service, and how they are reached.
struct Threads {
    readiness: Arc<Readiness>,
    wakeup: Arc<RegistrationWaker>,
    /// `None` after a stop.
    registration: Mutex<Option<JoinHandle<()>>>,
    shutdown: Arc<ShutdownSignals>,
    /// Disconnected when the last worker has ended.
    ended: Receiver<()>,
}

impl Service {
    /// Binds the workers' sockets, and registers the offer as soon as there is a broker.
    pub(crate) fn start<W: Work>(settings: Settings, offer: Offer, work: W) -> Result<Self, ServerError> {
        Self::start_threads(settings, offer, |starter| starter.start(&Arc::new(work)))
    }

    /// As [`start`](Self::start), for requests that are answered later.
    pub(crate) fn start_deferred(settings: Settings, offer: Offer, inbox: Arc<dyn Inbox>) -> Result<Self, ServerError> {
        Self::start_threads(settings, offer, |starter| starter.start_deferred(inbox))
    }

    fn start_threads(
        settings: Settings,
        offer: Offer,
        start: impl FnOnce(WorkerStarter<'_>) -> Result<Receiver<()>, ServerError>,
    ) -> Result<Self, ServerError> {
        let Settings { config, ipc_dir, transport, .. } = settings;
        let config = config.bounded();
        let dir = ipc_dir.map_or_else(|| resolve_ipc_dir(&config), Ok)?;
        let transport = transport.unwrap_or_else(|| Transport::new(TransportOptions::from(&config)));
        let (instance, workers, drain_timeout) = (InstanceId::random(), offer.workers, config.drain_timeout);
        let wakeup = Arc::new(RegistrationWaker::new().map_err(ServerError::Thread)?);
        let (sender, completions) = completions::channel(usize::from(workers) * usize::from(offer.batch.size), &wakeup);
        let shutdown = Arc::new(ShutdownSignals {
            drain: Signal::new().map_err(ServerError::Thread)?,
            stop: Signal::new().map_err(ServerError::Thread)?,
            // A shared socket has one thread more than workers.
            running: RunningHandlers::new(usize::from(workers) + 1),
        });
        let broker_limit = Arc::new(BrokerLimit::default());
        let worker = Worker {
            index: 0,
            server: offer.server.clone(),
            node: config.host.clone(),
            completions: sender,
            shutdown: Arc::clone(&shutdown),
            shares_socket: offer.shares_socket,
            broker_limit: Arc::clone(&broker_limit),
            max_message_bytes: config.max_message_bytes,
        };
        let readiness = Arc::new(Readiness::default());
        let thread = RegistrationThread {
            link: BrokerLink::open(transport.clone(), broker_socket(&dir)?)?,
            key: offer.key.clone(),
            server: offer.server.clone(),
            registration: offer.registration(instance, config.max_message_bytes),
            readiness: Arc::clone(&readiness),
            wakeup: Arc::clone(&wakeup),
            completions,
            broker_limit,
        };
        let name = format!("{} of {}", offer.server, offer.key);
        let starter = WorkerStarter { transport, dir: &dir, instance, offer, worker };
        let started = start(starter).and_then(|ended| {
            let (wakeup, shutdown) = (Arc::clone(&wakeup), Arc::clone(&shutdown));
            let registration = spawn("registration".to_owned(), move || {
                thread.run(drain_timeout);
                // Nobody may wait for this thread, if a handler has stopped the server.
                if wakeup.is_stopped() {
                    shutdown.stop.set();
                }
            })?;
            Ok((ended, Mutex::new(Some(registration))))
        });
        // If the server cannot start as a whole, the workers that run already end.
        let (ended, registration) = started.inspect_err(|_| shutdown.stop.set())?;
        let threads = PerProcess::new(Threads { readiness, wakeup, registration, shutdown, ended });
        Ok(Self { name, instance, dir, workers, drain_timeout, pid: process_id(), threads })
    }

    /// The threads, unless they are in the parent of this process.
    fn threads(&self) -> Result<&Threads, ServerError> {
        Ok(self.threads.get().ok_or(Inherited { parent: self.pid })?)
    }

    /// Whether it was started in this process, and not before a fork.
    pub(crate) fn is_own(&self) -> bool {
        self.threads.get().is_some()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.threads.get().is_some_and(|threads| threads.readiness.get())
    }

    pub(crate) fn wait_ready(&self, timeout: Duration) -> Result<(), ServerError> {
        if self.threads()?.readiness.wait(timeout) {
            return Ok(());
        }
        let problem = match broker_socket(&self.dir) {
            Ok(address) => match Observation::begin(&address).cause() {
                NoConnection::NoAnswer => {
                    "a program listens there; its log says whether it refuses this server, if it \
                                           is zmqv2-broker"
                        .to_owned()
                }
                cause => cause.explain(&address),
            },
            Err(error) => error.to_string(),
        };
        Err(ServerError::NotReady { waited: timeout, dir: self.dir.display().to_string(), problem })
    }

    /// Begins to stop: the broker sends no new requests.
    pub(crate) fn begin_stop(&self) -> Result<(), ServerError> {
        let Threads { wakeup, shutdown, .. } = self.threads()?;
        shutdown.drain.set();
        wakeup.stop();
        Ok(())
    }

    /// Whether this thread runs a handler of this server.
    pub(crate) fn is_in_handler(&self) -> bool {
        self.threads.get().is_some_and(|threads| is_in_server(Arc::as_ptr(&threads.shutdown).cast()))
    }

    pub(crate) fn stop(&self) -> Result<(), ServerError> {
        let Threads { wakeup, registration, shutdown, ended, .. } = self.threads()?;
        if self.is_in_handler() {
            // A handler of this server. Waiting would be waiting for itself, so this only begins: the
            // registration's thread ends the workers after the last handler.
            return self.begin_stop();
        }
        let registration = registration.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(registration) = registration else { return Ok(()) };
        let end_at = deadline(now(), self.drain_timeout);
        shutdown.drain.set();
        wakeup.stop();
        // The thread ends within the time to drain. A panic in it has been printed already.
        let _ = registration.join();
        shutdown.stop.set();
        // Nothing is ever sent: this waits for the last thread to drop its sender. Idle threads get
        // some time even if the time to drain is over.
        let _ = ended.recv_deadline(end_at.max(now() + IDLE_WORKERS_END_WITHIN));
        let handlers = shutdown.running.names();
        if handlers.is_empty() {
            // The last handler has ended, or its thread is late.
            return Ok(());
        }
        Err(ServerError::Unfinished { workers: handlers.len(), handlers, waited: self.drain_timeout })
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
        // A child leaves the server to its parent.
        if self.is_own()
            && let Err(error) = self.stop()
        {
            log::warn!("{} stopped early: {error}", self.name);
        }
    }
}

/// Starts the worker threads of a server.
struct WorkerStarter<'a> {
    transport: Transport,
    dir: &'a Path,
    instance: InstanceId,
    offer: Offer,
    /// The first worker. The others are copies with other numbers.
    worker: Worker,
}

impl WorkerStarter<'_> {
    /// The receiver is disconnected when the last thread has ended.
    fn start<W: Work>(self, work: &Arc<W>) -> Result<Receiver<()>, ServerError> {
        let (running, ended) = crossbeam_channel::bounded(0);
        let Offer { workers, batch, .. } = self.offer;
        let worker = |index| Worker { index, ..self.worker.clone() };
        if self.offer.shares_socket {
            let (socket, file) = self.bind(Role::Router, 0)?;
            let pool = WorkerPool::new(socket, Arc::clone(work), self.instance, workers, self.offer.window)?;
            // In this order: the socket closes before its file is removed.
            let shared = Arc::new((pool, file));
            // One thread more than workers: see `WorkerPool::run`.
            for index in 0..=workers {
                let (worker, shared) = (worker(index), Arc::clone(&shared));
                spawn_worker(index, &running, move || {
                    enter_server(worker.address());
                    shared.0.run(&worker);
                })?;
            }
            return Ok(ended);
        }
        for index in 0..workers {
            let (socket, file) = self.bind(Role::Rep, index)?;
            let worker = RepWorker { worker: worker(index), batch, work: Arc::clone(work), socket };
            spawn_worker(index, &running, move || {
                enter_server(worker.worker.address());
                worker.run();
                drop(file);
            })?;
        }
        Ok(ended)
    }

    fn start_deferred(self, inbox: Arc<dyn Inbox>) -> Result<Receiver<()>, ServerError> {
        let (running, ended) = crossbeam_channel::bounded(0);
        let (socket, file) = self.bind(Role::Router, 0)?;
        let Offer { workers, window, receiver, .. } = self.offer;
        let hands_back = receiver == ReceiverKind::Server;
        let pool = DeferredPool::new(socket, self.worker, self.instance, workers, window, hands_back)?;
        let pool = Arc::new(pool);
        spawn_worker(0, &running, move || {
            pool.run(&*inbox);
            drop(file);
        })?;
        Ok(ended)
    }

    fn bind(&self, role: Role, index: u16) -> Result<(Socket, SocketFile), ServerError> {
        let mut socket = self.transport.socket(role)?;
        let address = worker_socket(self.dir, self.instance, index)?;
        socket.bind(&address)?;
        Ok((socket, SocketFile(address)))
    }
}

/// Starts a worker's thread, which keeps `running` until it ends.
fn spawn_worker(index: u16, running: &Sender<()>, run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    let running = running.clone();
    spawn(format!("worker-{index}"), move || {
        run();
        drop(running);
    })?;
    Ok(())
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServerError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(ServerError::Thread)
}

/// The file of a socket. libzmq leaves it behind, and nobody will bind it again.
struct SocketFile(Address);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Address::Ipc(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
#[path = "tests/service.rs"]
mod tests;
