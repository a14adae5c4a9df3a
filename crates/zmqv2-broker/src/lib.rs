//! The daemon of zmqv2, one per node: takes requests from clients of any node and hands them to the node's servers.
//!
//! This crate owns the routing [`engine`], the event loop around it ([`Broker`]), and the two binaries `zmqv2-broker` and
//! `zmqv2`. It never parses the body of a request.
//!
//! ```no_run
//! use std::sync::Arc;
//! use zmqv2_broker::{Broker, Settings};
//! use zmqv2_matchmaker::LocalMatchmaker;
//! use zmqv2_proto::{Config, Node, TcpAddress, config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::default();
//! let settings = Settings::new(&config, config::resolve_ipc_dir(&config)?)?;
//! let node = Node::new(config.host.clone(), TcpAddress::new("127.0.0.1", config.port)?);
//! let broker = Broker::open(settings, Arc::new(LocalMatchmaker::new(node)))?;
//! println!("listening at {}", broker.address());
//! broker.run()?;
//! # Ok(())
//! # }
//! ```

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod cli;
mod directory;
mod driver;
pub mod engine;
mod error;
mod message;

mod settings;
mod startup;
mod status_query;
pub mod store;

pub use driver::Broker;
pub use error::BrokerError;
pub use settings::{Settings, Stopper};
pub use status_query::{AskError, ask_status};
