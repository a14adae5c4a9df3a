//! What every kind of server is made of: lanes that serve, a thread that keeps them registered, and their orderly end.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::control::{MAX_WORKERS, ServerRegistration, broker_socket, worker_socket};
use zmqv2_proto::transport::{Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{Address, Config, InstanceId, ServerName, TopicKey};

use crate::error::ServerError;
use crate::lane::{Batch, Halt, Lane, Work};
use crate::pool::Pool;
use crate::registration::{Desk, Keeper, Link, Readiness, now};
use crate::wake::{Bell, Signal};
use crate::words::{Teller, words};

/// Workers that have nothing to do end sooner than this.
const IDLE_WORKERS_END_WITHIN: Duration = Duration::from_millis(200);

/// What all builders of servers ask for.
#[derive(Default)]
pub(crate) struct Setup {
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
    keeper: Mutex<Option<JoinHandle<()>>>,
    halt: Arc<Halt>,
    ended: Receiver<()>,
    workers: u16,
    drain_timeout: Duration,
}

impl Setup {
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
        let desk = Arc::new(Desk { stop: AtomicBool::new(false), bell: Bell::new().map_err(ServerError::Thread)? });
        let (teller, outbox) = words(usize::from(workers) * usize::from(batch.size), &desk);
        let lanes = Lanes {
            transport: &transport,
            dir: &dir,
            instance,
            server: &server,
            config: &config,
            batch,
            teller,
            shared,
        };
        let halt = Arc::new(Halt {
            drain: Signal::new().map_err(ServerError::Thread)?,
            stop: Signal::new().map_err(ServerError::Thread)?,
        });
        let mut undo = Undo(Some(Arc::clone(&halt)));
        let ended = lanes.start(workers, &halt, &Arc::new(work))?;
        let link = Link::open(transport.clone(), broker_socket(&dir)?)?;
        let readiness = Arc::new(Readiness::default());
        let name = format!("{server} of {key}");
        let registration = ServerRegistration::new(instance, workers, batch.size, std::process::id());
        let registration =
            registration.sharing_a_socket(shared).with_window(if shared { config.window } else { 0 }).with_topics(also);
        let keeper = Keeper::new(link, key, server, registration, Arc::clone(&readiness), Arc::clone(&desk), outbox);
        let drain_timeout = config.drain_timeout;
        let keeper = spawn("registration".to_owned(), move || keeper.run(drain_timeout))?;
        undo.0 = None;
        let keeper = Mutex::new(Some(keeper));
        Ok(Service { name, instance, dir, readiness, desk, keeper, halt, ended, workers, drain_timeout })
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
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(keeper) = keeper else { return Ok(()) };
        let end_at = now() + self.drain_timeout;
        self.halt.drain.give();
        self.desk.stop.store(true, Ordering::SeqCst);
        self.desk.bell.ring();
        // Ends by itself within the time to drain; a panic in there has been printed already.
        let _ = keeper.join();
        self.halt.stop.give();
        // Nothing is ever sent: this waits for the last lane to drop its end.
        // Idle ones end at once, also when all of the time is used up.
        match self.ended.recv_deadline(end_at.max(now() + IDLE_WORKERS_END_WITHIN)) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let workers = Arc::strong_count(&self.halt) - 1;
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
struct Lanes<'a> {
    transport: &'a Transport,
    dir: &'a std::path::Path,
    instance: InstanceId,
    server: &'a ServerName,
    config: &'a Config,
    batch: Batch,
    teller: Teller,
    shared: bool,
}

impl Lanes<'_> {
    /// Starts `count` of them. What comes back is disconnected when the last one has ended.
    fn start<W: Work>(self, count: u16, halt: &Arc<Halt>, work: &Arc<W>) -> Result<Receiver<()>, ServerError> {
        let (running, ended) = crossbeam_channel::bounded(0);
        if self.shared {
            self.start_pool(count, halt, work, &running)?;
        } else {
            for index in 0..count {
                let (socket, file) = self.bind(Role::Rep, index)?;
                let bound = Bound { socket, _file: file };
                let (lane, work) = (self.lane(index, halt), Arc::clone(work));
                spawn_worker(index, &running, move || {
                    // As a whole: its parts go in their order.
                    let bound = bound;
                    lane.run(&bound.socket, &*work);
                })?;
            }
        }
        Ok(ended)
    }

    /// Starts workers that take turns with one socket.
    fn start_pool<W: Work>(
        &self,
        count: u16,
        halt: &Arc<Halt>,
        work: &Arc<W>,
        running: &Sender<()>,
    ) -> Result<(), ServerError> {
        let (socket, file) = self.bind(Role::Router, 0)?;
        let pool = Pool::new(socket, Arc::clone(work), self.instance, count, self.config.window)?;
        let shared = Arc::new((pool, file));
        // One thread more than may run something.
        for index in 0..=count {
            let (lane, shared) = (self.lane(index, halt), Arc::clone(&shared));
            spawn_worker(index, running, move || shared.0.run(&lane))?;
        }
        Ok(())
    }

    fn bind(&self, role: Role, index: u16) -> Result<(Socket, SocketFile), ServerError> {
        let mut socket = self.transport.socket(role)?;
        let address = worker_socket(self.dir, self.instance, index)?;
        socket.bind(&address)?;
        Ok((socket, SocketFile(address)))
    }

    fn lane(&self, index: u16, halt: &Arc<Halt>) -> Lane {
        Lane {
            index,
            server: self.server.clone(),
            node: self.config.host.clone(),
            batch: self.batch,
            teller: self.teller.clone(),
            halt: Arc::clone(halt),
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
struct Undo(Option<Arc<Halt>>);

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(halt) = &self.0 {
            halt.stop.give();
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
