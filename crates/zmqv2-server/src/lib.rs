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

mod asynchronous;
mod error;
mod handler_error;
mod listener;
mod pull;
mod rpc;
mod runtime;

pub use asynchronous::{AsyncEndpoint, AsyncMethods, AsyncRpcServer, AsyncRpcServerBuilder, BoxFuture, Executor};
pub use error::ServerError;
pub use handler_error::HandlerError;
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
pub use zmqv2_proto::service::{Call, MethodError, MethodResult};
pub use zmqv2_proto::{
    Config, DEFAULT_POOL, Failure, InvalidName, MethodName, Notification, Priority, Reply, Request, RequestContext,
    Target, Version, service,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
