//! The tool: serve, call and look, from a shell.

// They panic when the reader is gone: `say` and `tell` do not.
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
use zmqv2_broker::cli::{CommonFlags, Failure, LaunchFlags, finish, keep_freed_memory, launch};

/// RPC messaging between services on many nodes, without a central broker.
///
/// Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 remote error, 4 refused (the reason comes first on stderr),
/// 5 timeout, unacknowledged, or nobody reached.
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
    /// Start a broker, servers and clients on this machine, make real calls, show what happened, clean up
    Demo,
    /// Run this node's broker, as zmqv2-broker does
    Broker(LaunchFlags),
    /// Run a service: the methods echo, sleep and fail, or any command
    Serve(serve::ServeFlags),
    /// Call a method and print its reply as JSON
    Call(send::call::CallFlags),
    /// Tell a service something, and print who has accepted it
    Cast(send::call::CastFlags),
    /// Tell every server of a service something, and print what each of them says
    Fanout(send::fanout::FanoutFlags),
    /// Tell whoever listens that something happened, and print who has taken that over
    Notify(send::notify::NotifyFlags),
    /// Print notifications, one JSON object a line
    Listen(listen::ListenFlags),
    /// Ask whether a service answers
    Ping(send::call::PingFlags),
    /// Measure how many messages a second a service takes, and how long each takes
    Bench(bench::BenchFlags),
    /// Show what the broker of this node holds
    Status(status::StatusFlags),
    /// List the topics of the directory, and who serves them where
    Topics(topics::TopicsFlags),
}

fn main() -> ExitCode {
    keep_freed_memory();
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
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
