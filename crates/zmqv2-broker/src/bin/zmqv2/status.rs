//! `zmqv2 status`.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use zmqv2_broker::ask_status;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure};
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::control::StatusReport;
use zmqv2_proto::transport::{Transport, TransportOptions};

/// A broker answers at once; one that does not within this is not there.
const WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &CommonFlags, flags: &StatusFlags) -> Result<(), Failure> {
    let setup = common.setup(log::LevelFilter::Warn)?;
    let dir = find_ipc_dir(&setup.config).map_err(Failure::usage)?;
    let transport = Transport::new(TransportOptions::from(&setup.config));
    let report = ask_status(&transport, &dir, WITHIN).map_err(|error| Failure::new(Exit::Timeout, error))?;
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", render(&report));
    }
    Ok(())
}

fn render(report: &StatusReport) -> String {
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    let StatusReport { node, version, pid, uptime_s, .. } = report;
    line(format_args!("broker of node {node}, version {version}, process {pid}, up {uptime_s:.1} s"));
    for address in &report.listening {
        line(format_args!("  listens at {address}"));
    }
    if report.draining {
        line(format_args!("  stopping"));
    }
    let StatusReport { in_flight, queued, held_bytes, .. } = report;
    line(format_args!("  {in_flight} requests in flight, {queued} waiting ({held_bytes} bytes)"));
    if report.topics.is_empty() {
        line(format_args!("no server is registered"));
    }
    for topic in &report.topics {
        line(format_args!("{}/{}: {} waiting", topic.exchange, topic.topic, topic.queued));
        for server in &topic.servers {
            let stopping = if server.withdrawing { ", stopping" } else { "" };
            line(format_args!(
                "  {}: {} workers ready, {} busy, {} waiting for it, process {}{stopping}",
                server.server, server.workers_ready, server.workers_busy, server.queued, server.pid
            ));
        }
    }
    let counted: Vec<_> = report.counters.iter().filter(|(_, count)| **count > 0).collect();
    if !counted.is_empty() {
        line(format_args!("since its start:"));
        for (name, count) in counted {
            line(format_args!("  {name} {count}"));
        }
    }
    out
}
