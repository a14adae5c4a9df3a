//! RPC client of zmqv2: call a method of a service on any node, and learn what became of it.
//!
//! This crate owns the blocking call: [`RpcClient`], its modified copies ([`Prepared`]), the sockets it keeps open, the
//! choice among the nodes that host a topic, and [`CallError`], which says what happened and whether the method may have
//! run. It leaves to others: who is where (`zmqv2-matchmaker`), what the frames look like (`zmqv2-proto`), how a
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

mod answered;
mod builder;
mod client;
mod clock;
mod connections;
mod directory;
mod engine;
mod error;
mod exchange;
mod journey;
mod pool;
mod prepared;
mod remote;
mod suspects;

pub use answered::Answered;
pub use builder::{ClientError, RpcClientBuilder};
pub use client::RpcClient;
pub use connections::IDLE_LIMIT;
pub use error::CallError;
pub use prepared::Prepared;
pub use remote::RemoteError;
pub use suspects::SUSPECT_FOR;

// What a caller needs besides, so that a program that only calls depends on this crate alone.
pub use zmqv2_proto::{Config, InvalidName, RequestContext, Target, Version};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
