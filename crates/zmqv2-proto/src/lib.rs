//! The words of zmqv2: whom a message is for, what stands in it, and how it looks on the wire.
//!
//! This crate owns [targets](Target) and names, the [header](Header) that a broker reads, the JSON bodies that
//! only clients and servers read, the [refusals](Refusal) that travel back, the [configuration](config), and (behind the
//! default feature `zmq`) the one module that reaches libzmq, `transport`. It does not know who listens where, how
//! requests are routed, or how methods are dispatched.
//!
//! Without the feature `zmq` the crate is pure: no sockets, no threads, no C++.
//!
//! ```
//! use zmqv2_proto::{Header, Kind, MessageId, Request, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut header = Header::new(Kind::Call, MessageId::random());
//! header.key = Some(Target::topic("demo")?.key());
//! let frames = [header.encode(), Request::new("echo".parse()?, &"hello")?.encode()?];
//! assert_eq!(Header::decode(&frames[0])?, header);
//! # Ok(())
//! # }
//! ```

pub mod config;
mod message;
mod naming;
mod refusal;
#[cfg(feature = "zmq")]
pub mod transport;
mod wire;

pub use config::Config;
pub use message::{
    BodyError, DEFAULT_POOL, DISPATCHER_MODULE, Failure, InvalidPriority, Notification, Priority, Reply, Request,
    RequestContext, RequestRef, envelope, json_text,
};
pub use naming::{
    Address, DEFAULT_EXCHANGE, Exchange, InvalidAddress, InvalidName, InvalidVersion, MethodName, Namespace, Node,
    NodeName, ServerName, Target, TcpAddress, Topic, TopicKey, Version, Zone,
};
pub use refusal::{Avoid, NextStep, Reason, Refusal};
pub use wire::{
    FIXED_BYTES, Flags, Header, HeaderView, InstanceId, InvalidHeader, InvalidId, Kind, MAX_HEADER_BYTES, MessageId,
    Ttl, bundle, control, rewrite_hop,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
