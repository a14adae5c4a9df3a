//! The base of the whole-system tests: real processes of both binaries, on several nodes of one
//! machine.
//!
//! A node has its own loopback address (127.a.b.n, port 9501) and its own socket directory. A
//! [`Cluster`] is a few nodes with one ring file. Every process is killed when its handle is
//! dropped. When a test fails, it shows what they printed.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "only this package uses it: names suffice, a test fails by a panic, and programs print every error"
)]

pub mod comparison;
pub mod harness;
pub mod measure;
pub mod proof;

pub use comparison::{compare, legacy, messaging};
pub use harness::binaries::{binary, build_only};
pub use harness::clock::{PATIENCE, eventually, now, wait_until, within};
pub use harness::cluster::{Cluster, Node};
pub use harness::delay_relay::DelayRelay;
pub use harness::namespaces::in_namespaces;
pub use harness::private_network::PrivateNetwork;
pub use harness::process::{Finished, Process};
pub use harness::redis::{cluster as redis_cluster, newcomers as redis_newcomers, server as redis_server};
pub use harness::{fork, gate, kernel, notifications, relay, skip, terminal, zmtp};
pub use measure::measured_process;
pub use proof::journaled_run::{JournaledRun, Summary, TOPIC, acceptance_times, stop_all};
pub use proof::load::{CallRecord, Load, assert_undelayed, echo, spread};
pub use proof::traffic::{Traffic, TrafficResult};
pub use proof::{checker, faults, journal, scenarios};
