//! The base of the whole-system tests: real processes of both binaries, on several nodes of one machine.
//!
//! A node has its own loopback address (127.a.b.n, port 9501) and its own socket directory. A [`Cluster`] is a few nodes
//! with one ring file. Every process is killed when its handle is dropped. When a test fails, it shows what they printed.

pub mod checker;
pub mod compare;
pub mod harness;
pub mod journal;
pub mod legacy;
mod load;
pub mod measure;
pub mod messaging;
pub mod runs;
pub mod stopwatch;
mod threads;
pub mod told;
mod traffic;
mod trial;

pub use harness::binaries::{binary, build_only};
pub use harness::clock::{PATIENCE, eventually, now, wait_until, within};
pub use harness::cluster::{Cluster, Node};
pub use harness::namespaces::in_namespaces;
pub use harness::process::{Finished, Process};
pub use harness::redis::{cluster as redis_world, server as redis_server};
pub use harness::{kernel, notifications as heard, skip, zmtp};
pub use load::{Load, Record, echo, spread};
pub use traffic::{Traffic, Verdict};
pub use trial::{Summary, TOPIC, Trial, answered_at, stop_all};
