//! A broker for tests, in one line: [`TestBroker`].
//!
//! It runs on a thread of the test's process, so a test of a service starts no other process, and
//! needs no Redis, no fixed port and no cleaning up. `docs/testing.md` of the repository shows
//! complete tests.

mod directory;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use zmqv2_matchmaker::MatchmakerError;
use zmqv2_proto::config::{IpcDirError, MatchmakerKind, resolve_ipc_dir};
use zmqv2_proto::control::StatusReport;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, NodeName, TcpAddress, process_id};

use crate::driver::{Broker, Stopper};
use crate::error::BrokerError;
use crate::settings::Settings;
use crate::status_query::{StatusQueryError, query_status};
use directory::OwnDirectory;

/// The longest wait for a status report.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker on a thread of this process, with a socket directory of its own.
///
/// [`config`](Self::config) joins clients, servers, notifiers and listeners of the same process to
/// it. Many can run at the same time. When the value is dropped, also by a panic, the broker ends
/// and its directory is removed. Drop it after the servers: declare it before them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(feature = "tool")] {
/// use std::time::Duration;
/// use zmqv2_broker::testing::TestBroker;
/// use zmqv2_client::{RequestContext, RpcClient, Target};
/// use zmqv2_server::{Methods, RpcServer};
///
/// let broker = TestBroker::start()?;
///
/// let methods = Methods::new().method("add", |(a, b): (i64, i64)| Ok(a + b))?;
/// let target = Target::topic("calculator")?;
/// let server = RpcServer::builder(target.clone()).config(broker.config()).endpoint(methods).start()?;
/// server.wait_ready(Duration::from_secs(10))?;
///
/// let client = RpcClient::builder(target).config(broker.config()).build()?;
/// assert_eq!(client.call::<i64>(&RequestContext::new(), "add", &(1, 2))?, 3);
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    config: Config,
    address: TcpAddress,
    running: Option<Running>,
    // The last field: the directory is removed after the broker has ended.
    dir: OwnDirectory,
}

/// A test cannot start its broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestBrokerError {
    /// There is no place for the socket directory.
    #[error("cannot make a directory in {parent}: {source}; set TMPDIR to a directory that this user can write in")]
    TempDir {
        /// The temporary directory of this process.
        parent: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The socket directory cannot be used.
    #[error("{0}; TMPDIR says where a test broker makes its directory")]
    IpcDir(#[from] IpcDirError),
    /// The directory of services cannot be opened.
    #[error(transparent)]
    Directory(#[from] MatchmakerError),
    /// The broker cannot start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl TestBroker {
    /// Starts a broker with the defaults of [`Config`] and the directory `local`. It is ready when
    /// this returns.
    ///
    /// # Errors
    /// [`TestBrokerError`] names the cause and the remedy.
    pub fn start() -> Result<Self, TestBrokerError> {
        Self::start_with(|_| {})
    }

    /// Starts a broker with other options, such as a short backlog. The socket directory cannot be
    /// changed.
    ///
    /// ```
    /// # use zmqv2_broker::testing::TestBroker;
    /// let broker = TestBroker::start_with(|config| config.topic_backlog = 1)?;
    /// assert_eq!(broker.config().topic_backlog, 1);
    /// # Ok::<(), zmqv2_broker::testing::TestBrokerError>(())
    /// ```
    ///
    /// # Errors
    /// [`TestBrokerError`] names the cause and the remedy.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Result<Self, TestBrokerError> {
        let parent = std::env::temp_dir();
        let dir = OwnDirectory::create_in(&parent).map_err(|source| TestBrokerError::TempDir { parent, source })?;
        let mut config = Config::default();
        // Port 0 is a free one. The node is its own, whatever the name of the machine.
        (config.bind_address, config.port) = ("127.0.0.1".to_owned(), 0);
        config.matchmaker = MatchmakerKind::Local;
        if let Ok(host) = NodeName::new("localhost") {
            config.host = host;
        }
        change(&mut config);
        config.ipc_dir = Some(dir.path().to_owned());
        let (running, address) = Running::start(&config)?;
        Ok(Self { config, address, running: Some(running), dir })
    }

    /// The configuration of this node, for the builders of clients, notifiers, servers and
    /// listeners.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// The socket directory, for builders that have a configuration of their own, and for
    /// `rpc_zmq_ipc_dir` of other processes.
    #[must_use]
    pub fn ipc_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The TCP address. [`restart`](Self::restart) changes the port, unless the test chose it.
    #[must_use]
    pub fn address(&self) -> &TcpAddress {
        &self.address
    }

    /// Asks the broker for its report: its servers, its counters, what waits.
    ///
    /// # Errors
    /// [`StatusQueryError`], at once if the broker does not run.
    pub fn status(&self) -> Result<StatusReport, StatusQueryError> {
        let timeout = if self.running.is_some() { STATUS_TIMEOUT } else { Duration::ZERO };
        query_status(&Transport::new(TransportOptions::from(&self.config)), self.dir.path(), timeout)
    }

    /// Stops the broker gracefully, as SIGTERM does: it finishes what is in flight, within option
    /// `rpc_zmq_drain_timeout`. Without effect if it does not run.
    ///
    /// # Errors
    /// [`BrokerError`] if it had failed before.
    pub fn stop(&mut self) -> Result<(), BrokerError> {
        self.running.take().map_or(Ok(()), |running| running.end(1))
    }

    /// Ends the broker at once, as the death of its process does: requests and notifications in it
    /// are lost. Without effect if it does not run.
    ///
    /// # Errors
    /// [`BrokerError`] if it had failed before.
    pub fn kill(&mut self) -> Result<(), BrokerError> {
        self.running.take().map_or(Ok(()), |running| running.end(2))
    }

    /// Starts the broker again with the same socket directory. Kills it first if it runs. Servers
    /// register again by themselves; `wait_ready` tells when.
    ///
    /// # Errors
    /// [`TestBrokerError`] if it cannot start again, or had failed before.
    pub fn restart(&mut self) -> Result<(), TestBrokerError> {
        self.kill()?;
        let (running, address) = Running::start(&self.config)?;
        (self.running, self.address) = (Some(running), address);
        Ok(())
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            log::error!("the broker of a test failed: {error}");
        }
    }
}

/// The thread of a broker.
#[derive(Debug)]
struct Running {
    stopper: Stopper,
    thread: JoinHandle<Result<(), BrokerError>>,
    /// A child of a fork has no such thread.
    pid: u32,
}

impl Running {
    /// Opens the broker here, so that its errors are returned, and runs it on a thread.
    fn start(config: &Config) -> Result<(Self, TcpAddress), TestBrokerError> {
        let settings = Settings::new(config, resolve_ipc_dir(config)?)?;
        let broker = Broker::open(settings, zmqv2_matchmaker::open(config)?)?;
        let (stopper, address, pid) = (broker.stopper(), broker.address().clone(), process_id());
        let thread = std::thread::Builder::new().name("zmqv2-broker".to_owned()).spawn(move || broker.run());
        let thread = thread.map_err(BrokerError::Events)?;
        Ok((Self { stopper, thread, pid }, address))
    }

    /// Asks the broker to stop, `times` times, and waits for it.
    fn end(self, times: usize) -> Result<(), BrokerError> {
        if self.pid != process_id() {
            return Ok(());
        }
        for _ in 0..times {
            self.stopper.stop();
        }
        // A panic of the thread has been printed already.
        self.thread.join().unwrap_or(Ok(()))
    }
}
