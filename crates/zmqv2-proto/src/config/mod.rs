//! The configuration: the options of the legacy driver, from INI files, the environment, flags and
//! code.
//!
//! [`OPTIONS`] defines every option: its parsing, its default, and its text in [`Loaded::print`]
//! and [`example_ini`]. A flag or code wins over the environment, the environment over files, a
//! later file over an earlier one, a later line over an earlier one, and any of them over the
//! default.
//!
//! Programs decide which files are read and which flags exist.
//!
//! ```
//! use zmqv2_proto::config::Config;
//!
//! let loaded = Config::builder()
//!     .environment_from([("OS_DEFAULT__RPC_RESPONSE_TIMEOUT", "5")])
//!     .flag("--port", "rpc_zmq_port", "0")
//!     .build()?;
//! assert_eq!(loaded.config.port, 0);
//! assert_eq!(loaded.config.response_timeout.as_secs(), 5);
//! assert!(loaded.print().contains("flag --port"));
//! # Ok::<(), zmqv2_proto::config::ConfigError>(())
//! ```

mod ipc_dir;
mod load;
mod options;
mod print;
mod report;
mod settings;

pub use ipc_dir::{IpcDirError, check_ipc_dir, find_ipc_dir, resolve_ipc_dir};
pub use load::{ConfigBuilder, EffectiveOption, Loaded};
pub use options::OPTIONS;
pub use options::retired::Retired;
pub use options::spec::{OptionKind, OptionSpec, Preset, option};
pub use print::example_ini;
pub use report::{ConfigError, ConfigWarning, Source};
pub use settings::{Config, DEFAULT_TOPIC_BACKLOG, MatchmakerKind, Secret};

// Shared by the crates of zmqv2.
#[doc(hidden)]
pub use ipc_dir::{LONGEST_SOCKET_NAME_BYTES, MAX_SOCKET_PATH_BYTES};
#[doc(hidden)]
pub use print::reference_markdown;
