//! Which node hosts which service: directories behind one trait.
//!
//! This crate owns the [`Matchmaker`] trait, its answers ([`Placement`], [`Candidates`]), the turns
//! among several nodes ([`Rotation`]), and three directories: [`LocalMatchmaker`] (everything is on
//! this node), [`RingMatchmaker`] (a JSON file lists the nodes), and [`RedisDirectory`] behind a
//! cache ([`CachedMatchmaker`]). The cache can stand before any [`RemoteDirectory`].
//!
//! An answer that may lack servers says so ([`Completeness`]).
//!
//! Other crates send messages. A broker that does not have the server refuses a message itself.
//!
//! ```
//! use zmqv2_matchmaker::{Matchmaker, RingMatchmaker, Rotation};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("ring.json");
//! std::fs::write(&path, r#"{"demo": ["host1", "host2:9502"]}"#)?;
//! let ring = RingMatchmaker::open(&path, 9501)?;
//!
//! // Any server of the topic: the nodes take turns.
//! let (turns, key) = (Rotation::new(), "openstack/demo".parse()?);
//! let nodes = ring.resolve_all(&key)?.candidates(None);
//! let first = turns.order(&key, &nodes).next();
//! assert!(first.is_some() && first != turns.order(&key, &nodes).next());
//!
//! // A topic that nobody offers has no node. That is not an error.
//! assert!(ring.resolve_all(&"openstack/nobody".parse()?)?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `conformance`, the module of that name holds the suite that every
//! implementation must pass.

mod api;
mod cached;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod jitter;
mod local;
mod open;
#[cfg(feature = "redis")]
mod redis;
mod ring;

#[cfg(feature = "redis")]
pub use crate::redis::{RedisDirectory, RedisLocation, RedisSettings, RedisTls};
pub use api::{
    BrokerProcess, Candidates, CheckIn, CheckedIn, Completeness, Health, InvalidBrokerProcess, Lease, ListedServer,
    ListedTopic, Matchmaker, MatchmakerError, OtherBroker, PlacedNode, Placement, Refreshed, Registration, Rotation,
};
pub use cached::remote::{
    ChangeWatcher, DirectoryAnswer, DirectoryList, Presence, RemoteDirectory, Renewals, Revision, ServerEntry,
    TopicQuery, TopicState,
};
pub use cached::{CacheSettings, CachedMatchmaker};
#[doc(hidden)] // Shared by the crates of zmqv2.
pub use jitter::random_span;
pub use local::LocalMatchmaker;
pub use open::open;
pub use ring::RingMatchmaker;

// The types of zmqv2-proto in this interface, so that a program needs only this crate.
pub use zmqv2_proto::config::{self, Config, Secret};
pub use zmqv2_proto::{
    Exchange, InvalidAddress, InvalidName, Node, NodeName, ServerName, Target, TcpAddress, Topic, TopicKey, Zone,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
