//! Bodies of the messages between a server, its local broker, and the tools that ask a broker about itself.
//! They are JSON without envelope, and travel only over the node's own socket directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::naming::{Address, Exchange, InvalidAddress, NodeName, ServerName, Topic, TopicKey};
use crate::wire::{InstanceId, MessageId};

/// The file name of a broker's local socket.
pub const BROKER_SOCKET: &str = "zmqv2-broker.sock";
/// The file name of a broker's lock.
pub const BROKER_LOCK: &str = "zmqv2-broker.lock";
/// File names of workers' sockets start with this.
pub const WORKER_SOCKET_PREFIX: &str = "zmqv2-";
/// The most workers that one server may offer.
pub const MAX_WORKERS: u16 = 4096;
/// The most requests that may be outstanding on one worker's socket: below the high-water mark of the broker's link.
pub const MAX_CREDIT: u16 = 8192;
/// The most topics that one server may serve.
pub const MAX_TOPICS: usize = 256;
/// The most bytes of a dead letter's body that a status report shows.
pub const SHOWN_BYTES: usize = 4096;

/// The address of the broker whose socket directory is `dir`.
///
/// # Errors
/// [`InvalidAddress`] when the path is too long.
pub fn broker_socket(dir: &std::path::Path) -> Result<Address, InvalidAddress> {
    Address::ipc(dir.join(BROKER_SOCKET))
}

/// The address of worker number `worker` of the server `instance`. Made from the id alone: no name that a peer
/// chose becomes part of a path.
///
/// # Errors
/// [`InvalidAddress`] when the path is too long.
pub fn worker_socket(dir: &std::path::Path, instance: InstanceId, worker: u16) -> Result<Address, InvalidAddress> {
    let id = instance.to_string();
    Address::ipc(dir.join(format!("{WORKER_SOCKET_PREFIX}{}.{worker}", &id[..16])))
}

/// A server offers itself ([`Kind::Register`](crate::Kind::Register)); the header holds exchange, topic and server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerRegistration {
    /// This run of the server.
    pub instance: InstanceId,
    /// How many workers it has, each behind a socket of its own unless it is [`shared`](Self::shared); 1 to [`MAX_WORKERS`].
    pub workers: u16,
    /// How many requests each of them may have; 1 behind a REP socket.
    pub credit: u16,
    /// All workers are behind one socket, a ROUTER, which takes as many requests as they may have together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// With [`shared`](Self::shared): how many requests the workers may have together once they have said that they are
    /// [quick](crate::Flags::WIDE), until they hand one back; at most [`MAX_CREDIT`]. 0, or fewer than they may have anyway: never more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub window: u16,
    /// The process, for people who read `status`.
    pub pid: u32,
    /// Topics that its workers serve besides the header's, all under the same server name; at most [`MAX_TOPICS`] in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<TopicKey>,
}

impl ServerRegistration {
    /// A registration from its parts, for one topic.
    #[must_use]
    pub fn new(instance: InstanceId, workers: u16, credit: u16, pid: u32) -> Self {
        Self { instance, workers, credit, shared: false, window: 0, pid, also: Vec::new() }
    }

    /// The same registration, with all workers behind one socket, or each behind its own.
    #[must_use]
    pub fn sharing_a_socket(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// The same registration, with a window for quick workers behind one socket.
    #[must_use]
    pub fn with_window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// The same registration, for more topics.
    #[must_use]
    pub fn with_topics(mut self, also: Vec<TopicKey>) -> Self {
        self.also = also;
        self
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// The broker's answer to a registration, sent when it is connected to every worker: work may come now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registered {
    /// The broker's node.
    pub node: NodeName,
}

impl Registered {
    /// The answer of a broker at `node`.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self { node }
    }
}

/// A server stops ([`Kind::Withdraw`](crate::Kind::Withdraw)), or has nothing in flight any more
/// ([`Kind::Withdrawn`](crate::Kind::Withdrawn)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Withdrawal {
    /// The run of the server that stops.
    pub instance: InstanceId,
}

impl Withdrawal {
    /// A withdrawal of `instance`.
    #[must_use]
    pub fn new(instance: InstanceId) -> Self {
        Self { instance }
    }
}

/// What a broker holds ([`Kind::StatusReport`](crate::Kind::StatusReport)).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// The broker's version.
    pub version: String,
    /// Its node.
    pub node: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// Where it listens.
    pub listening: Vec<String>,
    /// Whether it is stopping.
    pub draining: bool,
    /// Topics with servers or with waiting requests.
    pub topics: Vec<TopicStatus>,
    /// Requests delivered to a worker and not settled.
    pub in_flight: u64,
    /// Requests waiting for a worker.
    pub queued: u64,
    /// Bytes of waiting requests, of copies of fanouts, and of notifications that are kept.
    pub held_bytes: u64,
    /// Notifications that are kept: waiting for a listener, or taken by one and not handled yet.
    #[serde(default)]
    pub notifications: u64,
    /// Where notifications are kept: `memory`, or the durable store's file.
    #[serde(default)]
    pub store: String,
    /// How well the directory follows the broker; a broker of an earlier version does not say.
    #[serde(default)]
    pub directory: Option<DirectoryStatus>,
    /// The last notifications that were given up, oldest first.
    #[serde(default)]
    pub dead_letters: Vec<DeadLetter>,
    /// What happened since the start, by name.
    pub counters: BTreeMap<String, u64>,
}

/// How well the directory follows a broker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DirectoryStatus {
    /// The kind of directory.
    pub kind: String,
    /// What is wrong with it; `None`: nothing that the broker knows of.
    pub problem: Option<String>,
    /// Registrations that the broker keeps there: one for each server of each topic.
    pub registrations: u64,
    /// Those of them that the directory has not taken yet.
    pub missing: u64,
    /// Servers that are gone, and that the directory could not be told of yet.
    pub leaving: u64,
    /// Seconds since the directory took something last.
    pub confirmed_s: Option<f64>,
}

impl DirectoryStatus {
    /// A directory of this kind, of which nothing is known.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

/// A notification that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Exchange and topic.
    pub key: TopicKey,
    /// The pool whose copy it was; `None` when no listener has ever come.
    pub pool: Option<ServerName>,
    /// The message's id.
    pub id: MessageId,
    /// How often it was delivered.
    pub deliveries: u64,
    /// Why it was given up.
    pub why: String,
    /// Seconds since then.
    pub age_s: f64,
    /// The body's bytes.
    pub bytes: u64,
    /// The body's beginning as text, at most [`SHOWN_BYTES`].
    pub body: String,
}

impl DeadLetter {
    /// A letter of `key` with this id; everything else is empty.
    #[must_use]
    pub fn new(key: TopicKey, pool: Option<ServerName>, id: MessageId) -> Self {
        Self { key, pool, id, deliveries: 0, why: String::new(), age_s: 0.0, bytes: 0, body: String::new() }
    }
}

/// One topic of a [`StatusReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopicStatus {
    /// Its exchange.
    pub exchange: Exchange,
    /// Its name.
    pub topic: Topic,
    /// Its servers.
    pub servers: Vec<ServerStatus>,
    /// Requests waiting for any of its workers.
    pub queued: u64,
}

impl TopicStatus {
    /// A topic without servers.
    #[must_use]
    pub fn new(exchange: Exchange, topic: Topic, queued: u64) -> Self {
        Self { exchange, topic, servers: Vec::new(), queued }
    }
}

/// One running server of a [`TopicStatus`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its name.
    pub server: ServerName,
    /// This run of it.
    pub instance: InstanceId,
    /// Its process.
    pub pid: u32,
    /// Workers that will take a request now.
    pub workers_ready: u64,
    /// Workers with a request in flight.
    pub workers_busy: u64,
    /// Requests waiting for exactly this server.
    pub queued: u64,
    /// Whether it is stopping.
    pub withdrawing: bool,
}

impl ServerStatus {
    /// A server from its parts, with nothing waiting.
    #[must_use]
    pub fn new(server: ServerName, instance: InstanceId, pid: u32) -> Self {
        Self { server, instance, pid, workers_ready: 0, workers_busy: 0, queued: 0, withdrawing: false }
    }
}
