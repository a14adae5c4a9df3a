//! Starts the daemon from its flags.

use clap::Args;
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::transport::{libzmq_version, network_ceiling, open_file_limit};

use super::{CommonFlags, Failure, on_stop_signal, say, tell};
use crate::store::FileStore;
use crate::{Broker, Settings};

/// The most descriptors that one server with a shared socket takes in the broker: 1 for its
/// connection, and 7 for the link to it.
const DESCRIPTORS_PER_LINK: u64 = 8;

#[derive(Debug, Clone, Default, Args)]
pub struct LaunchFlags {
    /// Check the configuration, print what is wrong with it, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the effective configuration with the source of each value, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Runs a broker until a signal stops it.
///
/// # Errors
/// Why the broker could not start or go on.
pub fn launch(common: &CommonFlags, flags: &LaunchFlags) -> Result<(), Failure> {
    let setup = common.setup(log::LevelFilter::Info)?;
    if flags.print_config {
        return Ok(say(setup.loaded.print().trim_end())?);
    }
    let directory = setup.directory()?;
    if flags.check_config {
        let settings = Settings::new(&setup.config, Default::default()).map_err(Failure::usage)?;
        if let Some(path) = &settings.notification_store {
            FileStore::check(path).map_err(Failure::usage)?;
        }
        return Ok(say(format_args!("the configuration is valid ({} warnings)", setup.loaded.warnings.len()))?);
    }
    let dir = resolve_ipc_dir(&setup.config).map_err(Failure::usage)?;
    let settings = Settings::new(&setup.config, dir).map_err(Failure::usage)?;
    log::info!("zmqv2-broker {} with libzmq {}", env!("CARGO_PKG_VERSION"), libzmq_version());
    log_open_files();
    let node = settings.node.clone();
    let directory_name = directory.name();
    let broker = Broker::open(settings, directory)?;
    let stopper = broker.stopper();
    on_stop_signal(move || stopper.stop())?;
    tell(format_args!("ready: node {node} listens at tcp://{}, directory {directory_name}", broker.address()));
    Ok(broker.run()?)
}

/// Logs how many descriptors there are, and for whom they are kept.
fn log_open_files() {
    let limit = open_file_limit();
    if limit == u64::MAX {
        return log::info!("open files: unlimited");
    }
    let network = network_ceiling(limit);
    log::info!(
        "open files: {limit} allowed; connections from the network are refused from {network} on; each client takes 1, each server about {DESCRIPTORS_PER_LINK}"
    );
}
