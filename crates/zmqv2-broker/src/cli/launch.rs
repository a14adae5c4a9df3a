//! Starts the daemon from its flags.

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::transport::libzmq_version;

use super::check::check;
use super::{CommonFlags, Failure, on_stop_signal, say, tell};
use crate::{Broker, Settings};

/// The most descriptors that one worker socket of a server takes in the broker.
const DESCRIPTORS_PER_LINK: u64 = 7;

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
    let directory = setup.directory()?;
    let dir = resolve_ipc_dir(&setup.config).map_err(Failure::usage)?;
    let settings = Settings::new(&setup.config, dir).map_err(Failure::usage)?;
    log::info!("zmqv2-broker {} with libzmq {}", env!("CARGO_PKG_VERSION"), libzmq_version());
    raise_open_files();
    let node = settings.node.clone();
    let directory_name = directory.name();
    let broker = Broker::open(settings, directory)?;
    let stopper = broker.stopper();
    on_stop_signal(move || stopper.stop())?;
    tell(format_args!("ready: node {node} listens at tcp://{}, directory {directory_name}", broker.address()));
    Ok(broker.run()?)
}

/// Raises the limit to what the system allows, and logs it. Without descriptors libzmq silently
/// fails to accept connections.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        log::warn!("cannot raise the limit of open files");
    }
    let now = getrlimit(Resource::Nofile).current;
    let shown = now.map_or_else(|| "unlimited".to_owned(), |now| now.to_string());
    log::info!(
        "open files: {shown} allowed; each client connection takes 1, each server or listening worker {DESCRIPTORS_PER_LINK}"
    );
}
