//! The command-line tool of zmqv2.

// `println!` panics if its reader is gone. `say` and `tell` do not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod demo;
mod listen;
mod send;
mod serve;
mod status;
mod topics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zmqv2_broker::cli::{
    CommonFlags, Failure, LaunchFlags, arguments, finish, keep_freed_memory, launch, require_stdout,
};

/// RPC messaging between services on many nodes, without a central broker.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 remote error, 4 refused
/// (stderr begins with the reason), 5 timeout, no acknowledgement, no broker reached, or the
/// directory cannot say where the target is (stderr begins with the kind).
#[derive(Debug, Parser)]
#[command(name = "zmqv2", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker, servers and clients on this machine, show their calls, and clean up
    Demo,
    /// Run this node's broker, as zmqv2-broker does
    Broker(LaunchFlags),
    /// Run a service with the methods echo, sleep and fail, or with any command
    Serve(serve::ServeFlags),
    /// Call a method and print its reply as JSON
    Call(send::call::CallFlags),
    /// Send a message without a result to a service, and print the server that accepted it
    Cast(send::call::CastFlags),
    /// Send a message to every server of a service, and print the outcome of each
    Fanout(send::fanout::FanoutFlags),
    /// Send a notification, and print the listeners that accepted it or the brokers that stored it
    Notify(send::notify::NotifyFlags),
    /// Print notifications, one JSON object per line
    Listen(listen::ListenFlags),
    /// Check whether a service answers
    Ping(send::call::PingFlags),
    /// Measure how many messages per second a service handles, and the latency of each
    Bench(bench::BenchFlags),
    /// Show the state of this node's broker
    Status(status::StatusFlags),
    /// List the topics of the directory with their servers and nodes
    Topics(topics::TopicsFlags),
}

fn main() -> ExitCode {
    keep_freed_memory();
    match arguments::<Arguments>() {
        Ok(arguments) => finish(run(&arguments)),
        Err(exit) => exit,
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    // The result of the others goes to stdout. Without it, nothing is sent and nothing acknowledged.
    if !matches!(arguments.command, Command::Broker(_) | Command::Serve(_)) {
        require_stdout()?;
    }
    match &arguments.command {
        Command::Demo => demo::run(common),
        Command::Broker(flags) => launch(common, flags),
        Command::Serve(flags) => serve::run(common, flags),
        Command::Call(flags) => send::call::call(common, flags),
        Command::Cast(flags) => send::call::cast(common, flags),
        Command::Fanout(flags) => send::fanout::run(common, flags),
        Command::Notify(flags) => send::notify::run(common, flags),
        Command::Listen(flags) => listen::run(common, flags),
        Command::Ping(flags) => send::call::ping(common, flags),
        Command::Bench(flags) => bench::run(common, flags),
        Command::Status(flags) => status::run(common, flags),
        Command::Topics(flags) => topics::run(common, flags),
    }
}
