//! What a broker needs to know, and the handle that stops it.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use zmqv2_proto::transport::TransportOptions;
use zmqv2_proto::{Config, InstanceId, NodeName, TcpAddress, Zone};

use crate::engine::Limits;
use crate::error::BrokerError;

/// What a broker needs to know. Made from a [`Config`], so that the options keep their names and defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Its name in the directory (option `rpc_zmq_host`).
    pub node: NodeName,
    /// The zone that the directory has for it (option `rpc_zmq_zone`).
    pub zone: Option<Zone>,
    /// Where it listens (options `rpc_zmq_bind_address` and `rpc_zmq_port`).
    pub bind: TcpAddress,
    /// The directory of its local sockets; exists and can be written.
    pub ipc_dir: PathBuf,
    /// Bounds of the backlog.
    pub limits: Limits,
    /// The largest body that is taken (option `rpc_zmq_max_message_bytes`).
    pub max_message_bytes: usize,
    /// How long a stop waits for what is in flight (option `rpc_zmq_drain_timeout`).
    pub drain_timeout: Duration,
    /// How often registrations in the directory are renewed (option `matchmaker_heartbeat_freq`).
    pub renew_every: Duration,
    /// How long a registration lives without renewal (option `matchmaker_heartbeat_ttl`).
    pub lease: Duration,
    /// The file in which notifications are kept; `None` keeps them in memory (option `rpc_zmq_notification_store`).
    pub notification_store: Option<PathBuf>,
    /// Options of every socket.
    pub transport: TransportOptions,
}

impl Settings {
    /// The settings of `config`, with the socket directory that was found for it.
    ///
    /// A host name to listen at is looked up here: libzmq itself binds only to IP addresses.
    ///
    /// # Errors
    /// [`BrokerError::Address`] when `rpc_zmq_bind_address` is no address, [`BrokerError::HostName`] when it is a name
    /// without one.
    pub fn new(config: &Config, ipc_dir: PathBuf) -> Result<Self, BrokerError> {
        let limits = Limits {
            topic_backlog: config.topic_backlog,
            backlog_bytes: config.backlog_bytes,
            max_deliveries: config.max_deliveries,
            durable: config.notification_store.is_some(),
            first_generation: random(),
        };
        Ok(Self {
            node: config.host.clone(),
            zone: config.zone.clone(),
            bind: looked_up(TcpAddress::new(&config.bind_address, config.port)?)?,
            ipc_dir,
            limits,
            max_message_bytes: config.max_message_bytes,
            drain_timeout: config.drain_timeout,
            renew_every: config.heartbeat_freq,
            lease: config.heartbeat_ttl,
            notification_store: config.notification_store.clone(),
            transport: TransportOptions::from(config),
        })
    }
}

/// The same address without a host name.
fn looked_up(address: TcpAddress) -> Result<TcpAddress, BrokerError> {
    let host = address.host();
    // What has a colon is an IPv6 address, maybe with a scope that only libzmq reads.
    if host.contains(['*', ':']) || host.parse::<IpAddr>().is_ok() {
        return Ok(address);
    }
    let failed = |source| BrokerError::HostName { host: host.to_owned(), source };
    let found = (host, address.port()).to_socket_addrs().map_err(failed)?.next();
    let found = found.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok(TcpAddress::new(found.ip().to_string(), found.port())?)
}

/// Stops a running broker from another thread. `Send + Sync`, cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopper {
    asked: Arc<AtomicU8>,
    waker: Arc<mio::Waker>,
}

impl Stopper {
    pub(crate) fn new(waker: Arc<mio::Waker>) -> Self {
        Self { asked: Arc::default(), waker }
    }

    /// The first time: take nothing new, finish what is in flight within
    /// [`drain_timeout`](Settings::drain_timeout), then end. The second time: end now.
    pub fn stop(&self) {
        let _ = self.asked.fetch_update(Ordering::AcqRel, Ordering::Acquire, |asked| Some(asked.saturating_add(1)));
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the broker: {error}");
        }
    }

    pub(crate) fn asked(&self) -> u8 {
        self.asked.load(Ordering::Acquire)
    }
}

/// Any number, another one each time.
fn random() -> u32 {
    let [a, b, c, d, ..] = *InstanceId::random().as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
