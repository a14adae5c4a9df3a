//! Bodies of the messages between a broker and the servers and tools of its node: JSON without an
//! envelope, only over the node's socket directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::naming::{Address, Exchange, InvalidAddress, NodeName, ReceiverKind, ServerName, Topic, TopicKey};
use crate::wire::{InstanceId, MessageId};

/// The file name of a broker's local socket.
#[doc(hidden)] // Shared by the crates of zmqv2.
pub const BROKER_SOCKET: &str = "zmqv2-broker.sock";
/// The file name of a broker's lock.
#[doc(hidden)] // Shared by the crates of zmqv2.
pub const BROKER_LOCK: &str = "zmqv2-broker.lock";
/// The prefix of the file names of workers' sockets.
#[doc(hidden)] // Shared by the crates of zmqv2.
pub const WORKER_SOCKET_PREFIX: &str = "zmqv2-";
/// The most workers that one server may offer.
pub const MAX_WORKERS: u16 = 4096;
/// The most requests that one server may have at the same time behind one shared socket. Both ends
/// of the socket's connection together hold as many messages.
pub const MAX_PLACES: u16 = 16_384;
/// The most outstanding requests on one worker's socket. It is below the high-water mark of
/// sockets.
pub const MAX_CREDIT: u16 = 8192;
/// The most topics that one server may serve.
pub const MAX_TOPICS: usize = 256;
/// The most bytes of a dead letter's body that a status report shows.
#[doc(hidden)] // Shared by the crates of zmqv2.
pub const SHOWN_BYTES: usize = 4096;

/// The address of the broker whose socket directory is `dir`.
///
/// # Errors
/// [`InvalidAddress`] when the path is too long.
#[doc(hidden)] // Shared by the crates of zmqv2.
pub fn broker_socket(dir: &std::path::Path) -> Result<Address, InvalidAddress> {
    Address::ipc(dir.join(BROKER_SOCKET))
}

/// The address of worker number `worker` of the server `instance`. It contains only the id, because
/// no name that a peer chose may become part of a path.
///
/// # Errors
/// [`InvalidAddress`] when the path is too long.
#[doc(hidden)] // Shared by the crates of zmqv2.
pub fn worker_socket(dir: &std::path::Path, instance: InstanceId, worker: u16) -> Result<Address, InvalidAddress> {
    let id = instance.to_string();
    Address::ipc(dir.join(format!("{WORKER_SOCKET_PREFIX}{}.{worker}", &id[..16])))
}

/// The body of [`Kind::Register`](crate::Kind::Register). The header has exchange, topic and
/// server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerRegistration {
    /// This run of the server.
    pub instance: InstanceId,
    /// The number of workers, each with its own socket, 1 to [`MAX_WORKERS`]. If they
    /// [share](Self::shared) one: 1 to [`MAX_PLACES`].
    pub workers: u16,
    /// The number of requests that each worker may have. 1 for a REP socket.
    pub credit: u16,
    /// Whether all workers share one ROUTER socket, which takes the requests of all of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// With [`shared`](Self::shared): the number of requests for all workers together while they
    /// are [quick](crate::Flags::WIDE), until they hand one back. At most [`MAX_CREDIT`]. 0: no
    /// such window.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub window: u16,
    /// The server gives a sign of life at least this often, in ms: a message to the broker. 0: not
    /// said, so its silence means nothing.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub sign_ms: u32,
    /// Whether the server understands [`Kind::Cancel`](crate::Kind::Cancel).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancels: bool,
    /// The process id, for people.
    pub pid: u32,
    /// The kind of receiver. Absent in an earlier version: the broker takes it for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverKind>,
    /// Topics beside the one in the header, under the same server name. At most [`MAX_TOPICS`] in
    /// all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<TopicKey>,
    /// The largest body that the workers take, in bytes. `None`: the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u64>,
}

impl ServerRegistration {
    /// A registration from its parts, for one topic.
    #[must_use]
    pub fn new(instance: InstanceId, workers: u16, credit: u16, pid: u32) -> Self {
        Self {
            instance,
            workers,
            credit,
            shared: false,
            window: 0,
            cancels: false,
            sign_ms: 0,
            pid,
            receiver: None,
            also: Vec::new(),
            max_message_bytes: None,
        }
    }

    /// The same registration, with one socket for all workers, or one for each.
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

    /// The same registration, of a server that gives a sign of life this often.
    #[must_use]
    pub fn with_signs_of_life(mut self, every: std::time::Duration) -> Self {
        self.sign_ms = u32::try_from(every.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// The same registration, of a server that understands [`Kind::Cancel`](crate::Kind::Cancel).
    #[must_use]
    pub fn with_cancellation(mut self) -> Self {
        self.cancels = true;
        self
    }

    /// The same registration, of this kind of receiver.
    #[must_use]
    pub fn with_receiver(mut self, receiver: ReceiverKind) -> Self {
        self.receiver = Some(receiver);
        self
    }

    /// The same registration, for more topics.
    #[must_use]
    pub fn with_topics(mut self, also: Vec<TopicKey>) -> Self {
        self.also = also;
        self
    }

    /// The same registration, for workers that take bodies of up to this many bytes.
    #[must_use]
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = u64::try_from(bytes).ok();
        self
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

/// The broker's answer to a registration, sent when it is connected to every worker. Requests may
/// come from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registered {
    /// The broker's node.
    pub node: NodeName,
    /// The largest body that the broker takes, in bytes. `None`: the broker does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u64>,
}

impl Registered {
    /// The answer of a broker at `node` that takes bodies of up to this many bytes.
    #[must_use]
    pub fn new(node: NodeName, max_message_bytes: usize) -> Self {
        Self { node, max_message_bytes: u64::try_from(max_message_bytes).ok() }
    }
}

/// The body of [`Kind::Withdraw`](crate::Kind::Withdraw) and of
/// [`Kind::Withdrawn`](crate::Kind::Withdrawn).
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

/// The status of a broker, the body of [`Kind::StatusReport`](crate::Kind::StatusReport).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// The broker's version.
    pub version: String,
    /// The broker's node.
    pub node: String,
    /// The broker's process id.
    pub pid: u32,
    /// Seconds since the broker's start.
    pub uptime_s: f64,
    /// The addresses on which the broker listens.
    pub listening: Vec<String>,
    /// Whether the broker is stopping.
    pub draining: bool,
    /// Topics with servers or with waiting requests.
    pub topics: Vec<TopicStatus>,
    /// Requests that a worker has and that are not settled.
    pub in_flight: u64,
    /// Requests waiting for a worker.
    pub queued: u64,
    /// Bytes of waiting requests, copies of fanouts, and kept notifications.
    pub held_bytes: u64,
    /// Kept notifications: those that wait for a listener, and those that are not handled yet.
    #[serde(default)]
    pub notifications: u64,
    /// The place of kept notifications: `memory`, or the file of the store.
    #[serde(default)]
    pub store: String,
    /// The state of the broker's registrations in the directory. Earlier versions do not report it.
    #[serde(default)]
    pub directory: Option<DirectoryStatus>,
    /// The last notifications that were given up, the oldest first.
    #[serde(default)]
    pub dead_letters: Vec<DeadLetter>,
    /// Counters since the start, by name.
    pub counters: BTreeMap<String, u64>,
}

/// The state of a broker's registrations in the directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DirectoryStatus {
    /// The kind of directory.
    pub kind: String,
    /// The problem of the directory, if the broker knows one.
    pub problem: Option<String>,
    /// Registrations of the broker: one for each server of each topic.
    pub registrations: u64,
    /// Registrations that the directory has not accepted yet.
    pub missing: u64,
    /// Withdrawals that the directory has not accepted yet.
    pub leaving: u64,
    /// Seconds since the directory last accepted something.
    pub confirmed_s: Option<f64>,
}

impl DirectoryStatus {
    /// A directory of this kind, without any facts.
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
    /// The pool of this copy. `None` when there was no listener.
    pub pool: Option<ServerName>,
    /// The message's id.
    pub id: MessageId,
    /// The number of deliveries.
    pub deliveries: u64,
    /// The reason.
    pub why: String,
    /// Seconds since the notification was given up.
    pub age_s: f64,
    /// The size of the body in bytes.
    pub bytes: u64,
    /// The beginning of the body as text, at most 4,096 bytes.
    pub body: String,
}

impl DeadLetter {
    /// A dead letter of `key` with this id. All other fields are empty.
    #[must_use]
    pub fn new(key: TopicKey, pool: Option<ServerName>, id: MessageId) -> Self {
        Self { key, pool, id, deliveries: 0, why: String::new(), age_s: 0.0, bytes: 0, body: String::new() }
    }
}

/// One topic of a [`StatusReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopicStatus {
    /// The exchange.
    pub exchange: Exchange,
    /// The topic's name.
    pub topic: Topic,
    /// The kind of receivers. Earlier versions do not report it.
    #[serde(default)]
    pub receivers: ReceiverKind,
    /// The servers of the topic.
    pub servers: Vec<ServerStatus>,
    /// Requests that wait for any server of the topic.
    pub queued: u64,
}

impl TopicStatus {
    /// A topic without servers.
    #[must_use]
    pub fn new(exchange: Exchange, topic: Topic, queued: u64) -> Self {
        Self { exchange, topic, receivers: ReceiverKind::default(), servers: Vec::new(), queued }
    }
}

/// One running server of a [`TopicStatus`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The server's name.
    pub server: ServerName,
    /// The run of the server.
    pub instance: InstanceId,
    /// The server's process id.
    pub pid: u32,
    /// Workers that are ready for a request.
    pub workers_ready: u64,
    /// Workers with a request in flight.
    pub workers_busy: u64,
    /// Requests that wait for exactly this server.
    pub queued: u64,
    /// Whether the server is stopping.
    pub withdrawing: bool,
}

impl ServerStatus {
    /// A server without requests.
    #[must_use]
    pub fn new(server: ServerName, instance: InstanceId, pid: u32) -> Self {
        Self { server, instance, pid, workers_ready: 0, workers_busy: 0, queued: 0, withdrawing: false }
    }
}
