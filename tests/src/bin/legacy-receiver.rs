//! The receiver daemon of the legacy driver as a process, for tests and for the comparison.

use std::process::ExitCode;

use clap::Parser;
use zmqv2_broker::cli::{CommonFlags, Failure, finish, on_stop_signal};
use zmqv2_tests::legacy::{Daemon, Options};

/// Forwards what comes over TCP to the sockets of topics, until SIGTERM.
#[derive(Debug, Parser)]
struct Arguments {
    /// An option of the legacy driver, such as rpc_zmq_host=node-1; may be repeated
    #[arg(long = "set", value_name = "OPTION=VALUE")]
    set: Vec<String>,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    // The daemon reports dropped messages only in its log.
    let _ = CommonFlags::default().setup(log::LevelFilter::Error);
    let options = Options::from_pairs(&arguments.set).map_err(Failure::usage)?;
    on_stop_signal(|| std::process::exit(0))?;
    let daemon = Daemon::start(options)?;
    eprintln!("ready");
    daemon.wait();
    Err(anyhow::anyhow!("a message that cannot be read has ended the daemon").into())
}
