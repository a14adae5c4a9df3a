//! The broker of a node, as a daemon.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use zmqv2_broker::cli::{CommonFlags, LaunchFlags, arguments, finish, keep_freed_memory, launch};

/// Takes requests from clients of any node and hands them to the servers of this node.
///
/// SIGTERM or SIGINT stops it: it takes no new requests and finishes those in flight. A second
/// signal ends it at once.
///
/// SIGHUP reads the configuration again: the level of the log (rpc_zmq_log_level) and the ring file
/// count from then on, and the log names the options that need a restart. SIGUSR2 writes the state
/// to the log, as one line of JSON. SIGUSR1 does nothing.
#[derive(Debug, Parser)]
#[command(name = "zmqv2-broker", version)]
struct Arguments {
    #[command(flatten)]
    launch: LaunchFlags,
    #[command(flatten)]
    common: CommonFlags,
}

fn main() -> ExitCode {
    keep_freed_memory();
    match arguments::<Arguments>() {
        Ok(Arguments { launch: flags, common }) => finish(launch(&common, &flags)),
        Err(exit) => exit,
    }
}
