//! The contract of a directory.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::{Node, ServerName, TopicKey};

use crate::api::{BrokerProcess, MatchmakerError, OtherBroker, Placement};

/// A directory of the nodes that host each topic.
///
/// A **client** asks with [`known`](Self::known) and [`resolve_all`](Self::resolve_all). A
/// **broker** reports the servers of its own node with [`register`](Self::register),
/// [`renew`](Self::renew) and [`withdraw`](Self::withdraw). One instance serves a whole process,
/// from any number of threads.
///
/// # Which methods may block
/// | method | does I/O | call it from |
/// |---|---|---|
/// | `known`, `generation`, `health`, `name` | never | any thread, also one that owns sockets |
/// | `resolve_all` | for the first question about a topic | a thread that may wait |
/// | `register`, `renew`, `withdraw`, `check_in`, `refresh`, `list` | always | a thread beside the event loop |
///
/// An implementation bounds every wait by a timeout and documents it. A caller with a nearer
/// deadline asks `known` first, and leaves the first question about a topic to another thread.
///
/// # Memory
/// A directory that is asked over a network remembers its answers and renews them in the
/// background, so that it is not asked for each message. The memory is bounded. While the directory
/// cannot be reached, remembered answers stay in use and `health` is [`Health::Stale`]. Only a topic
/// that was never asked for yields [`MatchmakerError::Unavailable`].
///
/// # Answers that may lack servers
/// A directory that has lost its data, or that brokers could not write to, does not know all
/// servers. Its answers are [incomplete](crate::Completeness) until every broker has had the time to
/// register again. An *empty* answer of such a directory is [`MatchmakerError::Refilling`].
///
/// # Leases
/// A registration lives for its lease, by the directory's clock; clocks of two nodes are never
/// compared. A lease that ends without renewal *while other brokers can renew theirs* ends the
/// registration: no fresh answer contains it, and a remembered answer loses it at the next refresh.
/// Leases that end while nobody can renew say nothing about the servers, and end nothing. A node
/// leaves a topic with its last registration. Dropping a matchmaker stops its threads and withdraws
/// nothing.
pub trait Matchmaker: Send + Sync + fmt::Debug {
    /// The kind of directory, as the option `rpc_zmq_matchmaker` calls it, for logs.
    fn name(&self) -> &'static str;

    /// Every node that hosts `key`, as one snapshot that all callers share until something changes.
    ///
    /// Without a change, two questions give the same allocation ([`Arc::ptr_eq`]). A topic that
    /// nobody offers gives an empty placement.
    ///
    /// # Errors
    /// [`MatchmakerError::Unavailable`] when nothing is remembered and the directory cannot be
    /// asked. [`MatchmakerError::Refilling`] when the directory knows no server of the topic, but
    /// may not know all servers yet.
    fn resolve_all(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError>;

    /// The answer of `resolve_all` from memory, without I/O. `None` when `key` was never asked for,
    /// or is forgotten.
    fn known(&self, key: &TopicKey) -> Option<Arc<Placement>>;

    /// Records that `registration.server` runs at `registration.node`, for the next `lease`.
    ///
    /// Idempotent. Key, server and the *name* of the node identify a registration. Registering
    /// again starts a new lease and replaces the node's address. On return, the answers of this
    /// matchmaker contain the registration; other matchmakers see it at their next refresh. A
    /// read-only directory accepts and ignores registrations, and its documentation says so. A
    /// failed registration is not kept for later: the caller tries again.
    ///
    /// # Errors
    /// [`MatchmakerError::Unavailable`] when the directory cannot be reached. It may have recorded
    /// the registration nevertheless.
    fn register(&self, registration: &Registration, lease: Duration) -> Result<(), MatchmakerError>;

    /// Starts a new lease for a registration, and records it again if it has expired or is lost. So
    /// renewals alone refill a directory that lost its data.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    fn renew(&self, registration: &Registration, lease: Duration) -> Result<(), MatchmakerError> {
        self.register(registration, lease)
    }

    /// Ends a registration at once. Idempotent: it may be missing already.
    ///
    /// # Errors
    /// [`MatchmakerError::Unavailable`] when the directory cannot be reached. The registration then
    /// ends with its lease.
    fn withdraw(&self, registration: &Registration) -> Result<(), MatchmakerError>;

    /// [`register`](Self::register) for many registrations, in one message if the directory can.
    ///
    /// # Errors
    /// As [`register`](Self::register). Some may have been recorded.
    fn register_all(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        registrations.iter().try_for_each(|registration| self.register(registration, lease))
    }

    /// [`renew`](Self::renew) for many registrations.
    ///
    /// # Errors
    /// As [`renew`](Self::renew). Some may have been renewed.
    fn renew_all(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        registrations.iter().try_for_each(|registration| self.renew(registration, lease))
    }

    /// [`withdraw`](Self::withdraw) for many registrations.
    ///
    /// # Errors
    /// As [`withdraw`](Self::withdraw). Some may have been withdrawn.
    fn withdraw_all(&self, registrations: &[Registration]) -> Result<(), MatchmakerError> {
        registrations.iter().try_for_each(|registration| self.withdraw(registration))
    }

    /// Shows the directory that this node's broker lives and can write, and asks whether the
    /// directory still has what it accepted. Brokers call this every one or two seconds. A directory
    /// without I/O answers at once (the default).
    ///
    /// # Errors
    /// The reason why the directory cannot be reached, or does not take renewals.
    fn check_in(&self, check_in: &CheckIn<'_>) -> Result<CheckedIn, MatchmakerError> {
        let _ = check_in;
        Ok(CheckedIn::default())
    }

    /// All topics with their servers, for people. Asks the directory itself, never the memory. The
    /// list may lack servers if [`health`](Self::health) is not [`Health::Ok`] afterwards.
    ///
    /// # Errors
    /// [`MatchmakerError::NoList`] from a directory that keeps no list (the default). Otherwise the
    /// reason why the directory could not be read.
    fn list(&self) -> Result<Vec<ListedTopic>, MatchmakerError> {
        Err(MatchmakerError::NoList { directory: self.name().to_owned() })
    }

    /// Looks for changes now and returns when the answers are up to date.
    ///
    /// Implementations notice changes without it, in the background or in `resolve_all`. It serves
    /// callers that cannot wait for that: an operator's command, a client whose answer was
    /// outdated, a test.
    ///
    /// # Errors
    /// The reason why the directory could not be read. Remembered answers stay.
    fn refresh(&self) -> Result<Refreshed, MatchmakerError>;

    /// A number that changes whenever an answer may have changed. Read it *before* asking; when it
    /// differs later, ask again. Never does I/O: a directory without a thread changes the number
    /// only while somebody asks, so a caller that waits for a server must ask again from time to
    /// time.
    fn generation(&self) -> u64;

    /// Whether answers are up to date, as far as this matchmaker knows. Never does I/O.
    fn health(&self) -> Health;
}

/// A server of a topic that runs at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registration {
    /// The topic.
    pub key: TopicKey,
    /// The server.
    pub server: ServerName,
    /// The node whose broker reaches the server.
    pub node: Node,
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} at {}", self.server, self.key, self.node)
    }
}

/// A topic, as the directory [lists](Matchmaker::list) it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedTopic {
    /// Exchange and topic, or the topic alone for an entry that counts in every exchange.
    pub topic: String,
    /// Its servers, ordered by node and server.
    pub servers: Vec<ListedServer>,
}

impl ListedTopic {
    /// A topic with these servers.
    #[must_use]
    pub fn new(topic: impl Into<String>, servers: Vec<ListedServer>) -> Self {
        Self { topic: topic.into(), servers }
    }
}

/// A server of a [`ListedTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedServer {
    /// Its node.
    pub node: Node,
    /// Its name. `None` when the directory does not name the servers of the node.
    pub server: Option<ServerName>,
    /// Its lease, if the directory has leases.
    pub lease: Option<Lease>,
}

impl ListedServer {
    /// A server without a lease.
    #[must_use]
    pub fn new(node: Node, server: Option<ServerName>) -> Self {
        Self { node, server, lease: None }
    }
}

/// The lease of a registration, by the directory's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Time since the last renewal.
    pub age: Duration,
    /// Time until the lease ends.
    pub left: Duration,
}

/// The result of a [refresh](Matchmaker::refresh).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Refreshed {
    /// Every answer is as before.
    Unchanged,
    /// At least one answer has changed.
    Changed,
}

/// What a broker shows to the directory with [`Matchmaker::check_in`].
#[derive(Debug, Clone, Copy)]
pub struct CheckIn<'a> {
    /// The broker's node.
    pub node: &'a Node,
    /// This run of the broker.
    pub broker: &'a BrokerProcess,
    /// Whether this run has checked in before, so that another one of the same node name lives too.
    pub again: bool,
    /// One of the broker's registrations that the directory has accepted, if there is one.
    pub sample: Option<&'a Registration>,
    /// The lease of the broker's registrations.
    pub lease: Duration,
    /// How often the broker renews them, at least.
    pub renew_every: Duration,
}

/// The directory's answer to a [`CheckIn`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckedIn {
    /// An id of the directory's data and process. When it changes, registrations may be lost.
    pub origin: String,
    /// The sample is not registered.
    pub sample_is_missing: bool,
    /// Another broker of the same node name has checked in since.
    pub other_broker: Option<OtherBroker>,
    /// Why the directory may not know all servers, and the time until it does. `None`: it knows them,
    /// or cannot tell.
    pub incomplete: Option<(Arc<str>, Duration)>,
}

/// Whether a matchmaker's answers are up to date, and all there are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Answers are up to date, as far as the matchmaker knows.
    Ok,
    /// The directory cannot be read. Answers are the last known ones.
    Stale {
        /// The reason, in one line. It names the option to correct, if one is known.
        reason: String,
        /// Since when, as far as this matchmaker knows.
        since: Instant,
    },
    /// The directory can be read, but takes no renewals. New servers are missing in its answers.
    RefusingWrites {
        /// The reason, in one line.
        reason: String,
        /// Since when, as far as this matchmaker knows.
        since: Instant,
    },
    /// The directory works, but brokers may not have registered all servers again yet.
    Refilling {
        /// The reason, in one line, such as "the directory is younger than a lease".
        reason: String,
        /// Since when this matchmaker knows.
        since: Instant,
        /// The time until all brokers have registered again.
        within: Duration,
    },
}

impl Health {
    /// The problem in one line. `None`: there is none.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Stale { reason, .. } | Self::RefusingWrites { reason, .. } | Self::Refilling { reason, .. } => {
                Some(reason)
            }
        }
    }

    /// Since when there is a problem.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        match self {
            Self::Ok => None,
            Self::Stale { since, .. } | Self::RefusingWrites { since, .. } | Self::Refilling { since, .. } => {
                Some(*since)
            }
        }
    }
}
