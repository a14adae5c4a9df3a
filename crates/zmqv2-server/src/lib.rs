//! Servers of zmqv2: [`RpcServer`] takes calls and casts, [`NotificationListener`] takes
//! notifications.
//!
//! This crate owns everything between the arrival of a request in a process and its answer:
//! endpoints, the choice of a method, worker threads, requests that come again, the registration
//! at the node's broker, and an orderly stop. It does not know how a client finds a server
//! (`zmqv2-client`, `zmqv2-matchmaker`), nor how a broker chooses one (`zmqv2-broker`).
//!
//! ```no_run
//! use std::time::Duration;
//! use zmqv2_server::{Methods, RpcServer, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let methods = Methods::new().method("add", |(a, b): (i64, i64)| Ok(a + b))?;
//! let target = Target::topic("calculator")?.with_server("node-1")?;
//! let server = RpcServer::builder(target).endpoint(methods).workers(4).start()?;
//! server.wait_ready(Duration::from_secs(5))?;
//! // ... until it is time to go:
//! server.stop()?;
//! # Ok(())
//! # }
//! ```
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

mod asynchronous;
mod error;
mod handler_error;
mod interceptor;
mod listener;
mod pull;
mod rpc;
mod runtime;

pub use asynchronous::{AsyncEndpoint, AsyncMethods, AsyncRpcServer, AsyncRpcServerBuilder, BoxFuture, Executor};
pub use error::ServerError;
pub use handler_error::HandlerError;
#[cfg(feature = "metrics")]
pub use interceptor::Metrics;
#[cfg(feature = "tracing")]
pub use interceptor::Tracing;
pub use interceptor::{EndResult, Ended, Interceptor, Received};
pub use listener::{
    BatchEndpoint, BatchResult, BatchVerdict, Handler, IntoBatchResult, IntoNotificationResult, InvalidFilter, Notice,
    NotificationEndpoint, NotificationFilter, NotificationListener, NotificationListenerBuilder, NotificationResult,
    Priorities, Verdict,
};
pub use pull::{
    BodyKind, PullListener, PullListenerBuilder, PullServer, PullServerBuilder, PulledNotification, PulledRequest,
};
pub use rpc::counters::ServerCounters;
pub use rpc::endpoint::{Endpoint, HandlerResult, Incoming, Methods, reply};
pub use rpc::server::{RpcServer, RpcServerBuilder, WorkerSockets};
pub use runtime::cancellation::Cancellation;

// The types of zmqv2-proto in this interface, so that a program needs only this crate.
pub use zmqv2_proto::config::{self, Config, IpcDirError};
pub use zmqv2_proto::control::MAX_WORKERS;
pub use zmqv2_proto::observe::{TraceParent, Verb};
pub use zmqv2_proto::service::{Call, MethodError, MethodResult};
pub use zmqv2_proto::transport::{Transport, TransportError, TransportOptions};
pub use zmqv2_proto::{
    BodyError, DEFAULT_POOL, Exchange, Failure, Inherited, InstanceId, InvalidAddress, InvalidName, InvalidVersion,
    MessageId, MethodName, Namespace, NodeName, Notification, Priority, Reason, Refusal, Reply, Request,
    RequestContext, ServerName, Target, Topic, TopicKey, Version, service,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
