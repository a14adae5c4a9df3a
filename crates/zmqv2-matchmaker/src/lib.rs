//! Who listens where: directories of services behind one trait.
//!
//! This crate owns the [`Matchmaker`] trait, what it answers ([`Placement`], [`Candidates`]), the turn-taking among
//! several nodes ([`Rotation`]), and three directories: [`LocalMatchmaker`] (everything is on this node),
//! [`RingMatchmaker`] (a JSON file says who is where), and, with the feature `redis`, one in Redis, asked through a memory of
//! its answers ([`CachedMatchmaker`]), as any [`RemoteDirectory`] directory can be. It does not know how messages travel, and it never decides what
//! happens to a message: a broker that does not have the server answers so itself.
//!
//! ```
//! use zmqv2_matchmaker::{Matchmaker, RingMatchmaker, Rotation};
//! use zmqv2_proto::Target;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("ring.json");
//! std::fs::write(&path, r#"{"demo": ["host1", "host2:9502"]}"#)?;
//! let ring = RingMatchmaker::open(&path, 9501)?;
//! let turns = Rotation::new();
//!
//! // Any server of the topic: the nodes take turns.
//! let target = Target::topic("demo")?;
//! let first = ring.resolve_one(&target, &turns)?.expect("the ring lists two nodes");
//! let second = ring.resolve_one(&target, &turns)?.expect("the ring lists two nodes");
//! assert_ne!(first, second);
//!
//! // A topic that nobody offers has no node; it is not an error.
//! assert_eq!(ring.resolve_one(&Target::topic("nobody")?, &turns)?, None);
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `conformance`, the module of that name holds the suite that every implementation must pass.

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
pub use crate::redis::{RedisAt, RedisDirectory, RedisSettings, RedisTls};
pub use api::{
    Candidates, Health, Lease, ListedServer, ListedTopic, Matchmaker, MatchmakerError, PlacedNode, Placement,
    Refreshed, Registration, Rotation,
};
pub use cached::remote::{
    ChangeWatcher, DirectoryAnswer, Presence, RemoteDirectory, Revision, ServerEntry, TopicQuery, TopicState,
};
pub use cached::{CacheSettings, CachedMatchmaker};
pub use jitter::random_span;
pub use local::LocalMatchmaker;
pub use open::open;
pub use ring::file::MAX_RING_BYTES;
pub use ring::{CHECK_INTERVAL, RingMatchmaker};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
