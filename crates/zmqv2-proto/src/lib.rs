//! The protocol of zmqv2: the destination, the content and the wire format of messages.
//!
//! This crate has [targets](Target) and names, the [header](Header) that a broker reads, the JSON
//! bodies that only clients and servers read, the [refusals](Refusal), the [configuration](config),
//! and `transport`, the one module that uses libzmq. Other crates find servers, route
//! requests and dispatch methods.
//!
//! Without the default feature `zmq`, the crate has no sockets, no threads and no C++.
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

pub mod config;
mod message;
mod naming;
mod no_connection;
pub mod observe;
mod process;
mod refusal;
pub mod service;
#[cfg(feature = "zmq")]
pub mod transport;
mod wire;

pub use config::Config;
pub use message::{
    BodyError, DEFAULT_POOL, DISPATCHER_MODULE, Failure, InvalidPriority, Notification, Priority, Reply, Request,
    RequestContext, json_text,
};
pub use naming::{
    Address, DEFAULT_EXCHANGE, Exchange, InvalidAddress, InvalidName, InvalidVersion, MethodName, Namespace, Node,
    NodeName, ReceiverKind, ServerName, Target, TcpAddress, Topic, TopicKey, Version, Zone,
};
pub use no_connection::NoConnection;
pub use refusal::{Avoid, NextStep, Reason, Refusal};
pub use wire::{
    ClockId, Flags, Header, InstanceId, InvalidHeader, InvalidId, Kind, MessageId, Ttl, control, deadline, hello,
};

pub use process::Inherited;

// Shared by the crates of zmqv2.
#[doc(hidden)]
pub use message::{RequestRef, SERVER_MODULE, envelope};
#[doc(hidden)]
pub use process::{PerProcess, process_id};
#[doc(hidden)]
pub use wire::{FIXED_BYTES, HeaderView, MAX_HEADER_BYTES, bundle, rewrite_hop};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
