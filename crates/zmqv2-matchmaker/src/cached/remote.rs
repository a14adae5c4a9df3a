//! The trait of a directory that is asked over a network and stands behind the
//! [cache](crate::CachedMatchmaker).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::{Node, NodeName, ServerName, TopicKey};

use crate::api::{CheckIn, CheckedIn, ListedTopic, MatchmakerError, Registration};

/// A directory that is asked over a network. Every method except [`close_idle`](Self::close_idle)
/// may do I/O, and bounds its waits by its own timeout.
pub trait RemoteDirectory: Send + Sync + fmt::Debug {
    /// The kind of directory, as the option `rpc_zmq_matchmaker` calls it.
    fn name(&self) -> &'static str;

    /// Kind and address, for errors.
    fn location(&self) -> String;

    /// Reads topics in as few round trips as possible; one topic takes one.
    ///
    /// # Errors
    /// The reason why the directory could not be read.
    fn read(&self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError>;

    /// Records registrations in as few round trips as possible, each completely or not at all.
    ///
    /// # Errors
    /// The reason why the directory could not be written. Some may have been recorded.
    fn register(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError>;

    /// Ends registrations in as few round trips as possible, and remembers for one lease that they
    /// were *withdrawn*. A cache that keeps old answers after an outage drops these servers.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    fn withdraw(&self, registrations: &[Registration]) -> Result<(), MatchmakerError>;

    /// As [`Matchmaker::check_in`](crate::Matchmaker::check_in).
    ///
    /// # Errors
    /// The reason why the directory cannot be reached, or does not take renewals.
    fn check_in(&self, check_in: &CheckIn<'_>) -> Result<CheckedIn, MatchmakerError> {
        let _ = check_in;
        Ok(CheckedIn::default())
    }

    /// All topics with their servers, for people.
    ///
    /// # Errors
    /// The reason why the directory could not be read.
    fn list(&self) -> Result<DirectoryList, MatchmakerError>;

    /// Closes connections that were not used since the last call. Never waits.
    fn close_idle(&self) {}

    /// A watcher of changes with its own connection, which it opens when needed.
    fn watcher(&self) -> Box<dyn ChangeWatcher>;
}

/// Follows the changes of topics.
pub trait ChangeWatcher: Send {
    /// Waits up to `timeout` until one of these topics may have changed. Returns false when the
    /// time is over.
    ///
    /// # Errors
    /// The reason why the directory could not be asked.
    fn wait(&mut self, known: &[TopicQuery], timeout: Duration) -> Result<bool, MatchmakerError>;

    /// As [`RemoteDirectory::read`].
    ///
    /// # Errors
    /// As [`RemoteDirectory::read`].
    fn read(&mut self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError>;
}

/// The revision of a topic. Later revisions compare greater, unless the directory lost its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Revision(pub u64, pub u64);

impl Revision {
    /// The revision of a topic that was never registered.
    pub const NONE: Self = Self(0, 0);
}

/// Asks for the servers of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicQuery {
    /// The topic.
    pub key: TopicKey,
    /// The revision that the caller has, if any.
    pub known: Option<Revision>,
}

/// The answer to some queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// An id of the data. A directory that lost its data has another one.
    pub epoch: String,
    /// An id of the process that answers for the directory.
    pub instance: String,
    /// The clock by which the directory counts leases, from any start.
    pub clock: Duration,
    /// The age of the data. Registrations from before may be missing.
    pub age: Duration,
    /// Whether brokers can renew their registrations.
    pub renewals: Renewals,
    /// One state per query, in their order. `None`: unchanged.
    pub states: Vec<Option<TopicState>>,
}

/// All topics of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectoryList {
    /// The topics, in their order.
    pub topics: Vec<ListedTopic>,
    /// As [`DirectoryAnswer::age`].
    pub age: Duration,
    /// As [`DirectoryAnswer::renewals`].
    pub renewals: Renewals,
}

/// What a directory knows about the renewals of all brokers. It decides whether leases that end mean
/// that servers are gone, and whether the data is complete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Renewals {
    /// The directory cannot tell. Only its age, process and epoch count.
    #[default]
    Unknown,
    /// Brokers could renew during the whole last lease. The data is complete.
    Work,
    /// Brokers could not renew at some time within the last lease.
    Interrupted {
        /// The time until every broker has renewed.
        left: Duration,
        /// The reason, in one line.
        reason: Arc<str>,
    },
    /// No broker can renew now.
    Stopped {
        /// The reason, in one line.
        reason: Arc<str>,
    },
}

/// The state of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicState {
    /// The revision of this state.
    pub revision: Revision,
    /// Whether the entries are only the changes since the [known](TopicQuery::known) revision.
    pub changes_only: bool,
    /// Servers that are present or gone. Of two addresses of a node, the later one is newer.
    pub entries: Vec<ServerEntry>,
}

/// A server of a topic at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEntry {
    /// The node's name.
    pub node: NodeName,
    /// The server.
    pub server: ServerName,
    /// Whether the server is there.
    pub presence: Presence,
}

/// Whether a server is at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The server is registered at this node.
    At(Node),
    /// The server was withdrawn within the last lease.
    Withdrawn,
    /// The lease has ended, or the server was withdrawn longer ago.
    Ended,
}
