//! The benchmark: zmqv2 beside raw libzmq, the legacy driver and, with the feature `peers`, other
//! messaging systems.
//!
//! Client, broker and servers are separate processes. All contenders of a row take turns, and only
//! the ratio of two of them counts. `docs/performance.md` says how to read the result.

mod chain;
mod peers;
mod process;
mod raw;
mod report;
mod row_result;
mod rows;
mod run;
mod workload;
mod zmqv2;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use zmqv2_broker::cli::{Failure, finish};
use zmqv2_tests::measure::Progress;
use zmqv2_tests::{binary, build_only};

use crate::peers::Peers;
use crate::run::Pace;

/// Measures calls, casts and fanouts of zmqv2 beside raw libzmq and others, in alternation
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Seconds instead of half an hour: one round of one row of each shape, which says nothing
    /// about speed
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains this; may be repeated
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// How often each contender of a row is measured [default: 5; with --quick 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long each measurement takes [default: 2; with --quick 0.1]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Workers of our servers [default: that of the option rpc_thread_pool_size; for many servers
    /// fewer]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Directory of report.html, report.json and report.md [default: target/bench]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name the rows and end
    #[arg(long)]
    list: bool,
}

/// The processes that the benchmark starts.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Part {
    Serve(zmqv2::Serve),
    Client(zmqv2::Client),
    Hold(zmqv2::Hold),
    Outstanding(zmqv2::Outstanding),
    #[command(flatten)]
    Peer(peers::Part),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    finish(match &arguments.part {
        Some(Part::Serve(part)) => part.run(),
        Some(Part::Client(part)) => part.run(),
        Some(Part::Hold(part)) => part.run(),
        Some(Part::Outstanding(part)) => part.run(),
        Some(Part::Peer(part)) => part.run(),
        None => bench(&arguments).map_err(Failure::from),
    })
}

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let mut rows = if arguments.quick { rows::quick() } else { rows::all() };
    if !arguments.only.is_empty() {
        rows.retain(|row| arguments.only.iter().any(|only| row.id.contains(only)));
    }
    if rows.is_empty() {
        bail!("no row has such a name; --list shows the names");
    }
    if arguments.list {
        rows.iter().for_each(|row| println!("{:<18} {}", row.id, row.title));
        return Ok(());
    }
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 0.1 } else { 2.0 });
    let span = Duration::try_from_secs_f64(seconds).context("--seconds")?;
    let pace = Pace {
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 }).max(1),
        span,
        idle: span * 5,
        workers: arguments.workers,
    };
    // Built before anything is measured.
    build_only(&["bench", "zmqv2-broker"]);
    let program = binary("bench");
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => program.ancestors().nth(2).context("no target directory")?.join("bench"),
    };
    let peers = Peers::find(arguments.quick);
    peers.skipped().iter().for_each(|line| eprintln!("{line}"));
    let steps = rows.iter().map(|row| run::steps(row, pace, &peers)).sum();
    let mut progress = Progress::new(steps);
    let mut results = Vec::new();
    for row in rows {
        results.push(run::measure(row, pace, &peers, &mut progress)?);
    }
    progress.end();
    println!("{}", report::screen(&results));
    report::report(&results, pace, &peers, &command()).write(&out).with_context(|| format!("{}", out.display()))?;
    println!("{}", out.join("report.html").display());
    Ok(())
}

/// The command that repeats this run.
fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let features = if cfg!(feature = "peers") { " --features peers" } else { "" };
    format!("cargo run --release -p zmqv2-tests{features} --bin bench -- {}", words.join(" "))
}
