//! The legacy ZeroMQ driver, as release 1.12 of the Python original does it, in Rust: for comparison, and for nothing else.
//!
//! The same frames, topics, sockets, option names and faults; the same language and libzmq as zmqv2, so that a difference
//! between the two is one of pattern. A client pushes to the receiver daemon of a node over TCP, the daemon forwards to
//! the node's servers over IPC (PUSH, or PUB for fanouts and replies), and a reply comes back over a second such path, to a
//! SUB socket that the caller opens for this one call.
//!
//! What the original does badly is kept, too:
//! - nothing is acknowledged, and no failure of a cast is told;
//! - a reply that arrives before its SUB socket has joined is lost, and the call waits for its timeout;
//! - a call's own timeout is ignored, only `rpc_response_timeout` counts;
//! - a topic's backlog has no bound, or drops what is above it; nothing expires;
//! - each socket of daemons, servers and calls has a libzmq context of its own, with its threads; only PUSH sockets share one;
//! - the daemon stands still for half a second whenever it makes a PUB socket;
//! - topic and topic at server are one: the server's name must be its host's; exchanges and pools do not exist;
//! - what follows the first dot of a topic is taken for a host, except by fanouts that the ring file knows;
//! - frames that are no message end the daemon, or a server's reading of that socket; what only has an unknown envelope is
//!   a line in the log;
//! - the directory `redis` is asked for each message; by it a fanout reaches one server of each host; and a server that has
//!   stopped stays visible until it expires.
//!
//! What is kinder than the original:
//! - a cast is sent by the caller's thread instead of a green thread that nobody waits for, so that a full socket slows the
//!   caller down instead of filling memory;
//! - what is closed lingers for a second, not for ever;
//! - readers of sockets are threads of their own, and take no places of `rpc_thread_pool_size`; a worker runs what it has
//!   taken, and nothing waits between the two;
//! - native threads: the original's green threads do one thing at a time in each process;
//! - a topic that the ring file lists without a host has no matchmaker results; the original fails with an exception.

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
