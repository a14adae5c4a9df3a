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
pub use message::envelope;
pub use message::notification::{DEFAULT_POOL, InvalidPriority, Notification, Priority};
pub use message::reply::{DISPATCHER_MODULE, Failure, Reply};
pub use message::request::{BodyError, Request, RequestContext, RequestRef};
pub use naming::address::{Address, InvalidAddress, Node, TcpAddress};
pub use naming::names::{Exchange, InvalidName, MethodName, Namespace, NodeName, ServerName, Topic, Zone};
pub use naming::target::{DEFAULT_EXCHANGE, Target, TopicKey};
pub use naming::version::{InvalidVersion, Version};
pub use naming::{address, names};
pub use refusal::{Avoid, NextStep, Reason, Refusal};
pub use wire::header::{
    FIXED_BYTES, Flags, Header, HeaderView, InvalidHeader, Kind, MAGIC, MAX_HEADER_BYTES, PROTOCOL_VERSION, rewrite_hop,
};
pub use wire::id::{InstanceId, InvalidId, MessageId};
pub use wire::ttl::Ttl;
pub use wire::{bundle, control};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
