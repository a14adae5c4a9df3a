//! The RPC client of zmqv2: calls, casts, fanouts and notifications, each with a known outcome.
//!
//! This crate owns the [`RpcClient`], the [`Notifier`], their connections, the choice among the
//! nodes of a topic, retries, and the outcome of every message. It leaves to others:
//!
//! - which nodes have a topic: the directory (`zmqv2-matchmaker`);
//! - the format of messages: `zmqv2-proto`;
//! - how a node finds a worker: the broker (`zmqv2-broker`);
//! - how a method runs: `zmqv2-server`.
//!
//! ```no_run
//! use zmqv2_client::{RequestContext, RpcClient, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = RpcClient::builder(Target::topic("calculator")?).build()?;
//! let sum: i64 = client.call(&RequestContext::new(), "add", &(1, 2))?;
//! assert_eq!(sum, 3);
//! # Ok(())
//! # }
//! ```
//!
//! # How a message ends
//! Every message ends at most 50 ms after its timeout. There is one type for each question:
//!
//! | question | type |
//! |---|---|
//! | Why could it not be sent? | [`SendError`] |
//! | How did a call end? | [`Answered`] or [`CallError`] |
//! | How did a cast end? | [`Outcome`] |
//! | How did a fanout or a notification end? | [`FanoutReport`], [`NotifyReport`] |
//!
//! # Guarantees
//! - **Call**: the method runs at most once. The client tries another node only if the first one
//!   surely did not run it. With a [monitor](RpcClientBuilder::call_monitor_timeout), the caller of
//!   a long call learns early that it is lost.
//! - **Cast**: the outcome goes to its [`CastHandle`], and always to the [`Counters`] and the
//!   [observer](RpcClientBuilder::observer).
//! - **Fanout**: every server that the directory lists has an outcome. A slow or dead node delays
//!   no other.
//! - **Notification**: every known pool of listeners has an outcome.
//! - The client sends no message again that may have run, unless you ask for
//!   [`retry`](RpcClientBuilder::retry).
//! - A client has a bound on open messages ([`max_outstanding`](RpcClientBuilder::max_outstanding))
//!   and on the size of a message (option `rpc_zmq_max_message_bytes`).
//!
//! # Features
//! `tracing`: the interceptor `Tracing`. `metrics`: the interceptor `Metrics`. Both are off by default.
//!
//! `redis`: the directory in Redis (`rpc_zmq_matchmaker = redis`). Off by default, because it brings
//! 47 more crates.
//!
//! # A faster libzmq
//!
//! This crate builds libzmq from source. Cargo does not apply the build flags of the zmqv2 repository
//! in your program. For cheaper wake-ups and larger batches (up to twice the messages per second), add
//! two lines to the `.cargo/config.toml` of your own workspace:
//!
//! ```toml
//! [env]
//! CXXFLAGS = "-DZMQ_HAVE_EVENTFD=1 -DZMQ_HAVE_EVENTFD_CLOEXEC=1 -DZMQ_BUILD_DRAFT_API=1"
//! ```
//!
//! The first socket of a process logs the variant at level debug.

mod api;
#[doc(hidden)] // For the benchmarks of this workspace.
pub mod bench_support;
mod callback_thread;
mod clock;
mod delivery;
mod direct;
mod interceptor;
mod io;
mod outcome;
mod peers;
mod routing;
mod settings;
mod wake;

pub use api::async_client::AsyncRpcClient;
pub use api::async_notifier::AsyncNotifier;
pub use api::handles::ended::{EndedHandles, Handle, WatchError};
pub use api::handles::fanout::{FanoutHandle, FanoutReport, FanoutResult};
pub use api::handles::futures::{CallFuture, DetailedCallFuture, SendFuture};
pub use api::handles::notify::{NotifyHandle, NotifyReport, NotifyResult};
pub use api::handles::report::{Report, ReportHandle};
pub use api::handles::single::{CallHandle, CastHandle};
pub use api::notifier::Notifier;
pub use api::notifier_builder::NotifierBuilder;
pub use api::rpc_client::RpcClient;
pub use api::rpc_client_builder::RpcClientBuilder;
pub use api::service::ServiceError;
pub use api::setup::ClientError;
#[cfg(feature = "metrics")]
pub use interceptor::Metrics;
#[cfg(feature = "tracing")]
pub use interceptor::Tracing;
pub use interceptor::{EndResult, Ended, Interceptor, Outgoing, RefusedBy, Verb};
pub use io::admission::WhenFull;
pub use io::thread::Closed;
pub use outcome::Outcome;
pub use outcome::answered::Answered;
pub use outcome::call_error::CallError;
pub use outcome::counters::Counters;
pub use outcome::raw_reply::RawReply;
pub use outcome::remote_error::RemoteError;
pub use outcome::send_error::SendError;
#[doc(hidden)] // For the tests of this crate.
pub use routing::node_health::FIRST_PROBE_AFTER;

// The types of other crates in this interface, so that a program needs only this crate.
pub use zmqv2_matchmaker::{Matchmaker, MatchmakerError};
pub use zmqv2_proto::config::{self, Config, IpcDirError};
pub use zmqv2_proto::observe::TraceParent;
pub use zmqv2_proto::transport::{Transport, TransportError, TransportOptions};
pub use zmqv2_proto::{
    Address, Avoid, BodyError, Exchange, Failure, InvalidAddress, InvalidName, InvalidVersion, MessageId, Namespace,
    NextStep, NoConnection, NodeName, Priority, Reason, Refusal, RequestContext, ServerName, Target, TcpAddress, Topic,
    TopicKey, Version, service,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
