//! RPC servers of zmqv2: endpoints, their dispatch, and a server that registers at its node's broker, runs requests on
//! its workers, and drains when it stops.
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

mod dispatcher;
mod endpoint;
mod error;
mod lane;
mod recent;
mod registration;
mod repeats;
mod rpc;
mod server;
mod service;
mod wake;
mod words;

pub use dispatcher::PING_METHOD;
pub use endpoint::{Endpoint, HandlerError, HandlerResult, Incoming, Methods, reply};
pub use error::ServerError;
pub use server::{RpcServer, ServerBuilder};
pub use zmqv2_proto::{Config, Failure, InvalidName, Reply, Request, RequestContext, Target, Version};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
