//! The broker of zmqv2. One runs on each node: it takes requests from clients of any node, and
//! hands them to the servers of its own node.
//!
//! This crate owns the routing rules, the event loop around them ([`Broker`]), the store that keeps
//! notifications, and the binaries `zmqv2-broker` and `zmqv2`. It leaves message formats to
//! `zmqv2-proto`, the directory of services to `zmqv2-matchmaker`, and the two ends of a request to
//! `zmqv2-client` and `zmqv2-server`. It never reads the body of a request.
//!
//! ```no_run
//! use zmqv2_broker::{Broker, Config, Settings, open_directory, resolve_ipc_dir};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::default();
//! let settings = Settings::new(&config, resolve_ipc_dir(&config)?)?;
//! let broker = Broker::open(settings, open_directory(&config)?)?;
//! println!("listening at {}", broker.address());
//! broker.run()?;
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

#![warn(clippy::print_stdout, clippy::print_stderr)]

// Shared by the two binaries and by our tests. Not part of the library's interface.
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod cli;
mod directory;
mod driver;
// Public only for our tests and benchmarks.
#[doc(hidden)]
pub mod engine;
mod error;
// Only programs start it.
#[cfg_attr(not(feature = "daemon"), allow(dead_code))]
mod log_queue;
mod message;
mod settings;
mod startup;
mod status_query;
// Public only for our tests.
#[doc(hidden)]
pub mod store;
pub mod testing;
mod threads;

pub use driver::{Broker, Stopper};
pub use engine::Limits;
pub use error::BrokerError;
pub use settings::Settings;
pub use status_query::{StatusQueryError, query_status};
pub use store::StoreError;

// The types of other crates in this interface, so that a program needs only this crate.
pub use zmqv2_matchmaker::{Matchmaker, MatchmakerError, open as open_directory};
pub use zmqv2_proto::config::{self, Config, IpcDirError, resolve_ipc_dir};
pub use zmqv2_proto::control::{self, StatusReport};
pub use zmqv2_proto::transport::{SocketSendError, Transport, TransportError, TransportOptions};
pub use zmqv2_proto::{Address, InvalidAddress, NoConnection, NodeName, TcpAddress, Zone};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
