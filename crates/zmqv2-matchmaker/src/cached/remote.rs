//! What a directory that is asked over a network has to be able to do, for the [cache](crate::CachedMatchmaker) in front.

use std::fmt;
use std::time::Duration;

use zmqv2_proto::{Node, NodeName, ServerName, TopicKey};

use crate::api::{ListedTopic, MatchmakerError, Registration};

/// A directory that is asked over a network. Every method may do I/O, and bounds its waits by a timeout of its own.
pub trait RemoteDirectory: Send + Sync + fmt::Debug {
    /// The kind of directory, as the option `rpc_zmq_matchmaker` calls it.
    fn name(&self) -> &'static str;

    /// Kind and place, for errors.
    fn place(&self) -> String;

    /// Reads topics, in as few round trips as possible; one topic is read in one.
    ///
    /// # Errors
    /// Why the directory could not be read.
    fn read(&self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError>;

    /// Notes registrations, each whole or not at all, in as few round trips as possible.
    ///
    /// # Errors
    /// Why the directory could not be written; some may have been noted.
    fn register(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError>;

    /// Ends registrations, in as few round trips as possible, and remembers for a lease that they were *withdrawn*: who does not believe
    /// the directory after an outage believes this.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    fn withdraw(&self, registrations: &[Registration]) -> Result<(), MatchmakerError>;

    /// All topics with their servers, for people to read.
    ///
    /// # Errors
    /// Why the directory could not be read.
    fn list(&self) -> Result<Vec<ListedTopic>, MatchmakerError>;

    /// Nobody has asked for a while: connections of [`read`](Self::read) may be closed until somebody does. Never waits.
    fn rest(&self) {}

    /// Somebody who follows changes, over a connection of its own, opened when first needed.
    fn watcher(&self) -> Box<dyn ChangeWatcher>;
}

/// Follows the changes of topics.
pub trait ChangeWatcher: Send {
    /// Waits until one of these topics may have changed since, at most for `timeout`; whether one has.
    ///
    /// # Errors
    /// Why the directory could not be asked.
    fn wait(&mut self, known: &[TopicQuery], timeout: Duration) -> Result<bool, MatchmakerError>;

    /// As [`RemoteDirectory::read`].
    ///
    /// # Errors
    /// As [`RemoteDirectory::read`].
    fn read(&mut self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError>;
}

/// Which state of a topic is known. Later states compare greater, unless the directory lost its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Revision(pub u64, pub u64);

impl Revision {
    /// The state of a topic that nobody has registered.
    pub const NONE: Self = Self(0, 0);
}

/// What is there of this topic that is not known yet?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicQuery {
    /// The topic.
    pub key: TopicKey,
    /// The state that is known; `None`: none.
    pub known: Option<Revision>,
}

/// The answers to some questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// Stays the same as long as the directory keeps its data.
    pub epoch: String,
    /// Stays the same as long as one process of the directory answers.
    pub instance: String,
    /// The clock by which the directory counts leases, from any beginning.
    pub clock: Duration,
    /// For how long the directory has been there with its data: what was registered before may be missing.
    pub age: Duration,
    /// In the order of the questions; `None`: nothing has changed.
    pub states: Vec<Option<TopicState>>,
}

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicState {
    /// Which state this is.
    pub version: Revision,
    /// Only what has changed since the version that is [known](TopicQuery::known) is told; else everything is.
    pub changes_only: bool,
    /// Who is there, or is there no more. Of two addresses of a node, the later one is the newer one.
    pub entries: Vec<ServerEntry>,
}

/// A server of a topic at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEntry {
    /// The node's name.
    pub node: NodeName,
    /// The server.
    pub server: ServerName,
    /// What is known of it.
    pub presence: Presence,
}

/// Whether a server is somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is registered, and its node is reached like this.
    At(Node),
    /// It was withdrawn lately.
    Withdrawn,
    /// Its lease has ended, or it was withdrawn long ago.
    Ended,
}
