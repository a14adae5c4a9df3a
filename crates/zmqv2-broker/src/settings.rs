use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use zmqv2_proto::transport::{TransportOptions, interface_address, interface_index};
use zmqv2_proto::{Config, InstanceId, Node, NodeName, TcpAddress, Ttl, Zone};

use crate::engine::Limits;
use crate::error::BrokerError;

/// The longest poll before a sleep, as in a configuration file.
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// The settings of a broker, made from the options of a [`Config`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The node's name in the directory (option `rpc_zmq_host`).
    pub node: NodeName,
    /// The node's zone in the directory (option `rpc_zmq_zone`).
    pub zone: Option<Zone>,
    /// The TCP address to bind (options `rpc_zmq_bind_address` and `rpc_zmq_port`).
    pub bind: TcpAddress,
    /// The directory of the local sockets. It must exist and be writable.
    pub ipc_dir: PathBuf,
    /// The bounds of the backlog.
    pub limits: Limits,
    /// The largest body that is accepted, in bytes (option `rpc_zmq_max_message_bytes`).
    pub max_message_bytes: usize,
    /// The most bytes of unread answers (option `rpc_zmq_unread_bytes`).
    pub unread_bytes: usize,
    /// How long a stop waits for requests in flight (option `rpc_zmq_drain_timeout`).
    pub drain_timeout: Duration,
    /// How often registrations in the directory are renewed (option `matchmaker_heartbeat_freq`).
    pub renew_every: Duration,
    /// How long a registration lives without renewal (option `matchmaker_heartbeat_ttl`).
    pub lease: Duration,
    /// The file in which notifications are kept; `None` keeps them in memory (option
    /// `rpc_zmq_notification_store`).
    pub notification_store: Option<PathBuf>,
    /// The options of every socket.
    pub transport: TransportOptions,
}

/// Room for headers.
const LEAST_UNREAD_BYTES: usize = 1024 * 1024;

impl Settings {
    /// The settings of `config`, with its socket directory.
    ///
    /// Resolves a host name or network interface in `rpc_zmq_bind_address`, because libzmq binds
    /// only to IP addresses.
    ///
    /// # Errors
    /// [`BrokerError::Address`] if `rpc_zmq_bind_address` is not an address.
    /// [`BrokerError::HostName`] if it is a name that cannot be resolved.
    pub fn new(config: &Config, ipc_dir: PathBuf) -> Result<Self, BrokerError> {
        let config = &config.clone().bounded();
        let limits = Limits {
            topic_backlog: config.topic_backlog,
            backlog_bytes: config.backlog_bytes,
            max_deliveries: config.max_deliveries,
            durable: config.notification_store.is_some(),
            first_generation: random(),
            ..Limits::default()
        };
        Ok(Self {
            node: config.host.clone(),
            zone: config.zone.clone(),
            bind: resolve(TcpAddress::new(&config.bind_address, config.port)?)?,
            ipc_dir,
            limits,
            max_message_bytes: config.max_message_bytes,
            // The largest answer fits when nobody holds any.
            unread_bytes: config.unread_bytes.max(5 * config.max_message_bytes + LEAST_UNREAD_BYTES),
            drain_timeout: config.drain_timeout,
            renew_every: config.heartbeat_freq,
            lease: config.heartbeat_ttl,
            notification_store: config.notification_store.clone(),
            transport: TransportOptions::from(config),
        })
    }

    /// The same settings with every span within the bounds that a configuration file has.
    pub(crate) fn bounded(mut self) -> Self {
        let longest = Ttl::MAX.into();
        self.drain_timeout = self.drain_timeout.min(longest);
        self.renew_every = self.renew_every.clamp(Duration::from_millis(1), longest);
        self.lease = self.lease.clamp(Duration::from_millis(1), longest);
        self.transport.busy_poll = self.transport.busy_poll.min(LONGEST_POLL);
        self.transport.adaptive_poll = self.transport.adaptive_poll.min(LONGEST_POLL);
        self
    }

    /// This node as others reach it, when the broker is bound to `address`.
    pub(crate) fn node_at(&self, address: &TcpAddress) -> Node {
        let reachable = TcpAddress::new(self.node.as_str(), address.port()).unwrap_or_else(|_| address.clone());
        Node::new(self.node.clone(), reachable).in_zone(self.zone.clone())
    }
}

/// Replaces a host name by its IP address.
fn resolve(address: TcpAddress) -> Result<TcpAddress, BrokerError> {
    let host = address.host();
    // A colon means an IPv6 address, perhaps with a zone.
    if host.contains(['*', ':']) || host.parse::<IpAddr>().is_ok() {
        return Ok(address);
    }
    let failed = |source| BrokerError::HostName { host: host.to_owned(), source };
    // Interfaces come before host names, as in the legacy driver.
    if let Some(index) = interface_index(host) {
        return Ok(TcpAddress::new(interface_address(index).map_err(failed)?, address.port())?);
    }
    let found = (host, address.port()).to_socket_addrs().map_err(failed)?.next();
    let found = found.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok(TcpAddress::new(found.ip().to_string(), found.port())?)
}

fn random() -> u32 {
    let [a, b, c, d, ..] = *InstanceId::random().as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
