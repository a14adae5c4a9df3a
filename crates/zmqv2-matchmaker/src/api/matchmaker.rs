//! The contract between a directory and those who ask it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::{Node, ServerName, Target, TopicKey};

use crate::api::{Candidates, MatchmakerError, Placement, Rotation};

/// A directory: it knows which nodes host which topic.
///
/// Two parties use it. A **client** asks: [`known`](Self::known), [`resolve_all`](Self::resolve_all) and what is built
/// on them. A **broker** tells: [`register`](Self::register), [`renew`](Self::renew) and [`withdraw`](Self::withdraw),
/// for the servers of its own node. One instance serves a whole process, from any number of threads.
///
/// # What may block
/// | method | may do I/O | called from |
/// |---|---|---|
/// | `known`, `generation`, `health`, `name` | never | any thread, also one that owns sockets |
/// | `resolve_all`, `candidates`, `resolve_one` | the first time a topic is asked; then as good as never | a thread that may wait: the caller's, or a resolver thread |
/// | `register`, `renew`, `withdraw`, `refresh` | always | a thread of its own beside the broker's event loop |
///
/// An implementation bounds every wait by a timeout of its own and says which. Who has a nearer deadline than that asks
/// `known` first and leaves the first question about a topic to another thread.
///
/// # What is remembered
/// A directory that is asked over a network keeps its answers and renews them in the background, so that it is never
/// asked per message. While it cannot be reached, remembered answers stay valid and `health` says [`Health::Stale`];
/// only a topic that was never asked yields [`MatchmakerError::Unavailable`]. A directory that comes back *without its
/// data* counts as unreachable until the brokers' next renewals have filled it again. What is remembered is bounded.
///
/// # Leases
/// A registration lives for its lease, counted by the directory's clock, never by comparing two nodes' clocks. When
/// the lease ends without renewal, the registration is as good as withdrawn: no fresh answer contains it, and a
/// remembered answer loses it at its next refresh. A node whose last registration of a topic ends is no longer part of that
/// topic. Dropping a matchmaker stops its threads but withdraws nothing: that is the broker's decision.
pub trait Matchmaker: Send + Sync + fmt::Debug {
    /// The kind of directory, as the option `rpc_zmq_matchmaker` calls it, for logs.
    fn name(&self) -> &'static str;

    /// Every node that hosts `key`: one snapshot, shared by everybody who asks until something changes.
    ///
    /// Asking twice without a change in between gives the same allocation ([`Arc::ptr_eq`]). A topic that nobody
    /// offers gives an empty placement. May do I/O the first time (see the [trait](Self#what-may-block)).
    ///
    /// # Errors
    /// [`MatchmakerError::Unavailable`] when nothing is remembered and the directory cannot be asked; and
    /// [`MatchmakerError::Refilling`] when it says that nobody offers the topic, and is not to be believed.
    fn resolve_all(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError>;

    /// What `resolve_all` would answer from memory, without any I/O; `None`: `key` was never asked, or is forgotten.
    fn known(&self, key: &TopicKey) -> Option<Arc<Placement>>;

    /// Says that `registration.server` runs at `registration.node`, for the next `lease`.
    ///
    /// Idempotent. A registration is identified by key, server and the *name* of the node: registering again starts
    /// a new lease and replaces the node's address. When it returns, this matchmaker's own answers contain it; others'
    /// do after their next refresh. A directory that does not take registrations accepts and ignores them (its
    /// documentation says so). Not kept for later on failure: the caller tries again.
    ///
    /// # Errors
    /// [`MatchmakerError::Unavailable`] when the directory cannot be reached; it may or may not have been noted.
    fn register(&self, registration: &Registration, lease: Duration) -> Result<(), MatchmakerError>;

    /// Starts a new lease for a registration, which need not exist (any more).
    ///
    /// An expired or lost registration is made anew, so that a directory that lost its data is filled again by renewals
    /// alone. Unless an implementation has a cheaper way, this is `register`.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    fn renew(&self, registration: &Registration, lease: Duration) -> Result<(), MatchmakerError> {
        self.register(registration, lease)
    }

    /// Ends a registration at once. Idempotent: what is not registered is withdrawn already.
    ///
    /// # Errors
    /// [`MatchmakerError::Unavailable`] when the directory cannot be reached; the end of the lease then does the work.
    fn withdraw(&self, registration: &Registration) -> Result<(), MatchmakerError>;

    /// [`register`](Self::register) for many at once: one message to the directory where it has a way to take several.
    ///
    /// # Errors
    /// As [`register`](Self::register); some may have been noted.
    fn register_all(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        registrations.iter().try_for_each(|registration| self.register(registration, lease))
    }

    /// [`renew`](Self::renew) for many at once.
    ///
    /// # Errors
    /// As [`renew`](Self::renew); some may have been renewed.
    fn renew_all(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        registrations.iter().try_for_each(|registration| self.renew(registration, lease))
    }

    /// [`withdraw`](Self::withdraw) for many at once.
    ///
    /// # Errors
    /// As [`withdraw`](Self::withdraw); some may have been withdrawn.
    fn withdraw_all(&self, registrations: &[Registration]) -> Result<(), MatchmakerError> {
        registrations.iter().try_for_each(|registration| self.withdraw(registration))
    }

    /// All that the directory knows, for people to read: asks the directory itself, never the memory of earlier answers.
    ///
    /// # Errors
    /// [`MatchmakerError::NoList`] from a directory that keeps none (the default); otherwise why it could not be read.
    fn list(&self) -> Result<Vec<ListedTopic>, MatchmakerError> {
        Err(MatchmakerError::NoList { directory: self.name().to_owned() })
    }

    /// Looks for changes now, whatever the usual interval, and returns when answers are up to date.
    ///
    /// Nobody needs to call this: implementations notice changes by themselves, in the background or while they answer
    /// `resolve_all`. It is for those who cannot wait for that, such as an operator's command, a client that found its
    /// answer outdated, or a test.
    ///
    /// # Errors
    /// Why the directory could not be read. Remembered answers stay.
    fn refresh(&self) -> Result<Refreshed, MatchmakerError>;

    /// A number that changes whenever an answer may have changed. Read it *before* asking; when it differs
    /// later, ask again. Never does I/O, so a directory without a thread of its own moves it only while somebody
    /// asks: who waits for a server to come asks again now and then.
    fn generation(&self) -> u64;

    /// Whether answers are up to date, as far as this matchmaker can tell. Never does I/O.
    fn health(&self) -> Health;

    /// The nodes that may host `target`: all of the topic's, or, when the target names a server, those where that
    /// server may be ([`Placement::candidates`] has the rule). Never a node where it is known not to be.
    ///
    /// # Errors
    /// As [`resolve_all`](Self::resolve_all).
    fn candidates(&self, target: &Target) -> Result<Candidates, MatchmakerError> {
        Ok(self.resolve_all(&target.key())?.candidates(target.server.as_ref()))
    }

    /// The candidate whose turn it is; `None`: nobody hosts `target`.
    ///
    /// # Errors
    /// As [`resolve_all`](Self::resolve_all).
    fn resolve_one(&self, target: &Target, turns: &Rotation) -> Result<Option<Node>, MatchmakerError> {
        let key = target.key();
        let candidates = self.resolve_all(&key)?.candidates(target.server.as_ref());
        Ok(turns.order(&key, &candidates).next().cloned())
    }
}

/// "This server of this topic runs at that node."
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
    /// Exchange and topic; a directory that does not tell exchanges apart lists the topic alone.
    pub topic: String,
    /// Who is there, ordered by node and server.
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
    /// Where it is.
    pub node: Node,
    /// Its name; `None`: the directory does not say which servers the node has.
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
    /// Since it was renewed last.
    pub age: Duration,
    /// Until it ends.
    pub left: Duration,
}

/// What a [refresh](Matchmaker::refresh) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Refreshed {
    /// All answers are as before.
    Unchanged,
    /// At least one answer is another one now.
    Changed,
}

/// Whether a matchmaker's answers are up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// As far as it can tell.
    Ok,
    /// The directory cannot be read; answers are what was known last.
    Stale {
        /// Why, in one line.
        reason: String,
    },
}
