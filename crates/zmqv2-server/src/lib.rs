//! Servers of zmqv2: endpoints, their dispatch, and a server that registers at its node's broker, runs requests on
//! its workers, and drains when it stops. [`RpcServer`] takes calls and casts, [`NotificationListener`] notifications.
//!
//! This crate owns what happens between a request's arrival in a process and its reply. It does not know how clients find
//! a server, nor how a broker chooses one.
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

mod error;
mod listener;
mod rpc;
mod runtime;

pub use error::{MAX_BATCHED, ServerError};
pub use listener::{
    BatchEndpoint, BatchResult, BatchVerdict, Handler, IntoBatchResult, IntoNotificationResult, InvalidFilter, Notice,
    NotificationEndpoint, NotificationFilter, NotificationListener, NotificationListenerBuilder, NotificationResult,
    Priorities, Verdict,
};
pub use rpc::dispatcher::PING_METHOD;
pub use rpc::endpoint::{Endpoint, HandlerError, HandlerResult, Incoming, Methods, reply};
pub use rpc::server::{RpcServer, RpcServerBuilder, WorkerSockets};
pub use zmqv2_proto::{
    Config, DEFAULT_POOL, Failure, InvalidName, Notification, Priority, Reply, Request, RequestContext, Target, Version,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
