//! RPC client of zmqv2: call a method of a service on any node, and learn what became of it.
//!
//! This crate owns the blocking call, the cast, the fanout and the call that does not block: [`RpcClient`], its modified copies
//! ([`Prepared`]), the [`Notifier`], the sockets it keeps open, the choice among the nodes that host a topic, the table of what has no answer
//! yet, and [`CallError`] and [`Outcome`], which say what happened and whether the method may have run. It leaves to others: who is where (`zmqv2-matchmaker`), what the frames look like (`zmqv2-proto`), how a
//! request finds a worker (the broker) and how a method is run (`zmqv2-server`).
//!
//! ```no_run
//! use zmqv2_client::RpcClient;
//! use zmqv2_proto::{RequestContext, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = RpcClient::builder(Target::topic("calculator")?).build()?;
//! let sum: i64 = client.call(&RequestContext::new(), "add", &(1, 2))?;
//! assert_eq!(sum, 3);
//! # Ok(())
//! # }
//! ```
//!
//! # What a call promises
//! - It ends by its timeout + 50 ms, whatever dies meanwhile, and the client can be used again at once.
//! - It runs the method at most once. It tries another node only when it is certain that nothing ran.
//! - A request above the size limit is refused here, before anything is sent.
//! - Its loss is told early, however long it may take, when it is [monitored](RpcClientBuilder::call_monitor_timeout).
//!
//! # What a cast promises
//! - It has exactly one [`Outcome`], by its timeout + 50 ms. `Acked`: a server has accepted it.
//! - It reaches the caller by the [`CastHandle`], and always the [`Counters`] and the observer.
//! - It is never sent again once it may have run, unless [`retry`](RpcClientBuilder::retry) was asked for.
//! - No more than [`max_outstanding`](RpcClientBuilder::max_outstanding) messages are kept; then senders wait or are refused.
//!
//! # What a fanout promises
//! - Every server of every node that the directory knows has an [`Outcome`] in its [`FanoutReport`], in the same time.
//! - A node that is slow, dead or refuses changes nothing for the others. `Acked`: as many servers have accepted it as say so.
//!
//! # What a notification promises
//! - Every pool that is known has an [`Outcome`] in the [`NotifyReport`], by the notifier's timeout + 50 ms.
//! - `Acked`: a listener of the pool has accepted it. `Stored`: a broker keeps it until one does, within its time to live.

mod api;
#[doc(hidden)]
pub mod bench_support;
mod clock;
mod delivery;
mod direct;
mod io;
mod outcome;
mod routing;
mod settings;

pub use api::handles::fanout::{FanoutHandle, FanoutReport, FanoutResult};
pub use api::handles::notify::{NotifyHandle, NotifyReport, NotifyResult};
pub use api::handles::single::{CallHandle, CastHandle};
pub use api::notifier::Notifier;
pub use api::notifier_builder::{DEFAULT_TIME_TO_LIVE, NotifierBuilder};
pub use api::prepared::Prepared;
pub use api::rpc_client::RpcClient;
pub use api::rpc_client_builder::RpcClientBuilder;
pub use api::setup::ClientError;
pub use io::admission::WhenFull;
pub use io::links::IDLE_LIMIT;
pub use io::thread::{Closed, DROP_TIMEOUT};
pub use outcome::Outcome;
pub use outcome::answered::Answered;
pub use outcome::call_error::CallError;
pub use outcome::counters::Counters;
pub use outcome::remote_error::RemoteError;
pub use outcome::send_error::SendError;
pub use routing::node_health::{AVOID_AFTER_REFUSAL, FIRST_PROBE_AFTER, MAX_PROBE_INTERVAL};

// What a caller needs besides, so that a program that only calls depends on this crate alone.
pub use zmqv2_proto::{Config, InvalidName, Priority, Reason, RequestContext, Target, Version};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
