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
//! - the daemon stands still for half a second whenever it makes a PUB socket;
//! - topic and topic at server are one: the server's name must be its host's; exchanges and pools do not exist;
//! - a message that cannot be read ends the daemon or the server that reads it.
//!
//! Two things are kinder than the original: a cast is sent by the caller's thread instead of a green thread that nobody
//! waits for, so that a full socket slows the caller down instead of filling memory; and what is closed lingers for a
//! second, not for ever. Of the directories, `redis` is not there.

mod client;
mod daemon;
pub mod frames;
mod json;
mod matchmaker;
mod options;
mod server;
mod socket_pool;
mod sockets;

pub use client::{Client, Failed, Help, Target};
pub use daemon::Daemon;
pub use matchmaker::Matchmaker;
pub use options::{InvalidOption, Options};
pub use server::{Handler, NoticeHandler, Server};
