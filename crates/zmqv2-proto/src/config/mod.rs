//! Configuration: the options of the legacy driver, read from INI files, the environment, flags and code.
//!
//! [`OPTIONS`] is the one definition: parsing, defaults, [`Loaded::print`], [`example_ini`] and
//! [`reference_markdown`] all come from it. The precedence is flag or code, then environment, then the
//! later file, then the earlier file, then the default; inside a file the later line wins.
//!
//! What is not decided here: which files are read and which flags exist (the programs), and what a full
//! queue or an elapsed timeout does (the engines).
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

pub use ipc_dir::{
    IpcDirError, LONGEST_SOCKET_NAME_BYTES, MAX_SOCKET_PATH_BYTES, SYSTEM_IPC_DIR, find_ipc_dir, resolve_ipc_dir,
};
pub use load::{ConfigBuilder, EffectiveOption, Loaded};
pub use options::OPTIONS;
pub use options::retired::{RETIRED, Retired};
pub use options::spec::{OptionSpec, Preset, option};
pub use print::{example_ini, reference_markdown};
pub use report::{ConfigError, ConfigWarning, Source};
pub use settings::{Config, DEFAULT_TOPIC_BACKLOG, MatchmakerKind, Secret};
