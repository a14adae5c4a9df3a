//! The legacy ZeroMQ driver in Rust, after release 1.12 of the Python original. It serves only for
//! comparison.
//!
//! It has the frames, topics, sockets, option names and faults of the original, and the language
//! and libzmq of zmqv2. So a difference between the two drivers comes from the pattern. A client
//! pushes to the receiver daemon of a node over TCP. The daemon forwards to the node's servers over
//! IPC (PUSH, or PUB for fanouts and replies). A reply comes back over a second such path, to a SUB
//! socket that the caller opens for this one call.
//!
//! It keeps the weaknesses of the original:
//! - Nothing is acknowledged, and a failed cast is not reported.
//! - A reply that arrives before its SUB socket has joined is lost, and the call waits for its
//!   timeout.
//! - A call's own timeout is ignored; only `rpc_response_timeout` counts.
//! - A topic's backlog has no bound, or drops messages above its bound. Nothing expires.
//! - Each socket of daemons, servers and calls has its own libzmq context with its own threads.
//!   Only PUSH sockets share one.
//! - The daemon stops for half a second whenever it makes a PUB socket.
//! - A topic and a topic at a server are the same: the server's name must be the name of its host.
//!   Exchanges and pools do not exist.
//! - Everything after the first dot of a topic is taken for a host, except in fanouts that the ring
//!   file knows.
//! - Frames that are not a message end the daemon, or a server's reading of that socket. An unknown
//!   envelope is only logged.
//! - The directory `redis` is asked for each message. With it, a fanout reaches one server of each
//!   host, and a stopped server stays visible until it expires.
//!
//! It is better than the original in these points:
//! - The caller's thread sends a cast, where the original starts a green thread that nobody waits
//!   for. So a full socket slows the caller down, and does not fill memory.
//! - A closed socket lingers for a second, not for ever.
//! - Readers of sockets have their own threads, and use no place of `rpc_thread_pool_size`. A
//!   worker runs the message that it has taken; no queue lies between.
//! - It has native threads. The green threads of the original do one thing at a time in each
//!   process.
//! - For a topic that the ring file lists without a host, the original fails with an exception;
//!   here the topic has no hosts.

mod client;
mod daemon;
pub mod frames;
mod json;
mod matchmaker;
mod options;
mod redis;
mod server;
mod socket_pool;
mod sockets;

pub use client::{Client, Failed, Help, Target};
pub use daemon::Daemon;
pub use matchmaker::Matchmaker;
pub use options::{InvalidOption, Options};
pub use server::{Handler, NoticeHandler, Server};
