//! Starts the daemon from its flags.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::transport::{Transport, libzmq_version, network_ceiling, open_file_limit};

use super::check::check;
use super::memory::give_back_freed_memory;
use super::state::write_state;
use super::{CommonFlags, Failure, Reloader, SignalHandler, say, tell};
use crate::status_query::query_status;
use crate::{Broker, Settings};

/// How long SIGUSR2 waits for the event loop.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);
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
    if flags.check_config {
        check(&setup)?;
        return Ok(say(format_args!("the configuration is valid ({} warnings)", setup.loaded.warnings.len()))?);
    }
    let signals = SignalHandler::install()?;
    let directory = setup.directory()?;
    let dir = resolve_ipc_dir(&setup.config).map_err(Failure::usage)?;
    let settings = Settings::new(&setup.config, dir).map_err(Failure::usage)?;
    log::info!("zmqv2-broker {} with libzmq {}", env!("CARGO_PKG_VERSION"), libzmq_version());
    log_open_files();
    give_back_freed_memory();
    let node = settings.node.clone();
    let directory_name = directory.name();
    let reloader = Reloader::new(common, &setup, Some(Arc::clone(&directory)));
    let state = BrokerState { transport: Transport::new(settings.transport.clone()), dir: settings.ipc_dir.clone() };
    let broker = Broker::open(settings, directory)?;
    let stopper = broker.stopper();
    signals.handle(move || stopper.stop(), move || reloader.reload(), move || state.write())?;
    tell(format_args!("ready: node {node} listens at tcp://{}, directory {directory_name}", broker.address()));
    Ok(broker.run()?)
}

/// Asks the running broker for its status, as any process of the node may.
struct BrokerState {
    transport: Transport,
    dir: PathBuf,
}

impl BrokerState {
    fn write(&self) {
        match query_status(&self.transport, &self.dir, STATE_TIMEOUT) {
            Ok(report) => write_state(&report),
            Err(error) => log::error!("the broker does not report its state: {error}"),
        }
    }
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
