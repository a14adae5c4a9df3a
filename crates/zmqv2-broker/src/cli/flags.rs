//! The flags that every command takes, and the configuration that they lead to.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::Config;
use zmqv2_proto::config::{ConfigWarning, Loaded};
use zmqv2_proto::transport::raise_open_file_limit;

use super::Failure;

/// Flags override the environment, which overrides files, which override defaults.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonFlags {
    /// INI file with options; repeatable, later files win
    #[arg(long, value_name = "FILE", global = true)]
    pub config_file: Vec<PathBuf>,
    /// Name of this node (option rpc_zmq_host)
    #[arg(long, value_name = "NAME", global = true)]
    pub host: Option<String>,
    /// Directory of the node's local sockets (option rpc_zmq_ipc_dir)
    #[arg(long, value_name = "DIR", global = true)]
    pub ipc_dir: Option<String>,
    /// TCP port of brokers; 0 lets a broker pick one (option rpc_zmq_port)
    #[arg(long, value_name = "PORT", global = true)]
    pub port: Option<String>,
    /// Address that a broker listens on; * is every interface (option rpc_zmq_bind_address)
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub bind: Option<String>,
    /// Directory of services: local, ring or redis (option rpc_zmq_matchmaker)
    #[arg(long, value_name = "KIND", global = true)]
    pub matchmaker: Option<String>,
    /// Any other option, such as ringfile=/etc/ring.json; repeatable
    #[arg(long = "set", value_name = "OPTION=VALUE", global = true)]
    pub set: Vec<String>,
    /// Level of the log on stderr: off, error, warn, info, debug or trace (option rpc_zmq_log_level)
    #[arg(long, value_name = "LEVEL", value_parser = level, global = true)]
    pub log_level: Option<log::LevelFilter>,
}

fn level(text: &str) -> Result<log::LevelFilter, &'static str> {
    text.parse().map_err(|_| "allowed are off, error, warn, info, debug and trace")
}

#[derive(Debug)]
pub struct Setup {
    pub config: Config,
    /// The source of each value, and warnings about the files.
    pub loaded: Loaded,
    /// The level of the log if nothing sets it.
    pub(super) default_level: log::LevelFilter,
}

impl CommonFlags {
    /// Starts the log, loads the configuration, and logs its warnings.
    ///
    /// # Errors
    /// A usage error that names file, line, option, value and what is allowed.
    pub fn setup(&self, level: log::LevelFilter) -> Result<Setup, Failure> {
        super::log::start(self.log_level.unwrap_or(level))?;
        if let Err(error) = raise_open_file_limit() {
            log::warn!("cannot raise the limit of open files: {error}");
        }
        let loaded = self.load()?;
        log::set_max_level(self.level(&loaded.config, level));
        warn(&loaded.warnings);
        Ok(Setup { config: loaded.config.clone(), loaded, default_level: level })
    }

    /// The level of the log, for a program with this default.
    pub(super) fn level(&self, config: &Config, default: log::LevelFilter) -> log::LevelFilter {
        self.log_level.or(config.log_level).unwrap_or(default)
    }

    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        let mut builder = Config::builder().environment();
        for file in &self.config_file {
            builder = builder.file(file);
        }
        let flags = [
            ("--host", "rpc_zmq_host", &self.host),
            ("--ipc-dir", "rpc_zmq_ipc_dir", &self.ipc_dir),
            ("--port", "rpc_zmq_port", &self.port),
            ("--bind", "rpc_zmq_bind_address", &self.bind),
            ("--matchmaker", "rpc_zmq_matchmaker", &self.matchmaker),
        ];
        for (flag, option, value) in flags {
            if let Some(value) = value {
                builder = builder.flag(flag, option, value);
            }
        }
        for pair in &self.set {
            let Some((option, value)) = pair.split_once('=') else {
                return Err(Failure::usage(format!("--set {pair}: write OPTION=VALUE")));
            };
            builder = builder.flag("--set", option, value);
        }
        builder.build().map_err(Failure::usage)
    }
}

impl Setup {
    /// Opens the directory of services that the configuration names.
    ///
    /// # Errors
    /// A configuration error, such as a ring file with a mistake in it.
    pub fn directory(&self) -> Result<Arc<dyn Matchmaker>, Failure> {
        zmqv2_matchmaker::open(&self.config).map_err(Failure::directory)
    }
}

/// Services with hundreds of options may share the file. One line names all options that resemble
/// none of ours.
pub(super) fn warn(warnings: &[ConfigWarning]) {
    let mut foreign = Vec::new();
    for warning in warnings {
        match warning {
            ConfigWarning::Unknown { nearest: None, name, .. } => foreign.push(name.as_str()),
            other => log::warn!("{other}"),
        }
    }
    if !foreign.is_empty() {
        log::warn!("options that zmqv2 does not know, left to other programs: {}", foreign.join(", "));
    }
}
