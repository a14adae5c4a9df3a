//! A client process that calls `echo` of a topic, each time with a new payload. It prints the
//! results of the calls on stderr, in one line `summary {JSON}`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use zmqv2_broker::cli::{CommonFlags, Failure, finish};
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_tests::now;

/// Calls `echo` again and again and compares every reply with what was sent.
#[derive(Debug, Parser)]
struct Arguments {
    /// The topic
    topic: String,
    /// How many calls each thread makes
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Prints the end of each call on stdout: the seconds since the machine started, and how it ended
    #[arg(long)]
    trace: bool,
    /// Waits for this file after the first call
    #[arg(long)]
    pause_until: Option<PathBuf>,
    /// How many threads share the client
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Bytes of padding in every payload
    #[arg(long, default_value_t = 0)]
    padding: usize,
    /// Seconds until a call is given up
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    #[command(flatten)]
    common: CommonFlags,
}

/// The results of the calls of one thread.
#[derive(Debug, Default)]
struct CallCounts {
    answered: BTreeMap<String, u64>,
    crossed: u64,
    failed: BTreeMap<String, u64>,
    micros: Vec<u64>,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let setup = arguments.common.setup(log::LevelFilter::Warn)?;
    let client = RpcClient::builder(Target::topic(&arguments.topic)?)
        .matchmaker(setup.directory()?)
        .ipc_dir(find_ipc_dir(&setup.config)?)
        .config(setup.config)
        .timeout(Duration::try_from_secs_f64(arguments.timeout)?)
        .build()?;
    let all: Vec<CallCounts> = std::thread::scope(|scope| {
        let call = |thread| call_all(&client, thread, arguments);
        let threads: Vec<_> = (0..arguments.threads).map(|thread| scope.spawn(move || call(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that ends")).collect()
    });
    let mut total = CallCounts::default();
    for counts in all {
        total.crossed += counts.crossed;
        total.micros.extend(counts.micros);
        for (into, from) in [(&mut total.answered, counts.answered), (&mut total.failed, counts.failed)] {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        }
    }
    total.micros.sort_unstable();
    let at = |share: usize| total.micros.get(total.micros.len() * share / 100).or(total.micros.last());
    eprintln!(
        "summary {}",
        json!({
            "answered": total.answered,
            "crossed": total.crossed,
            "failed": total.failed,
            "p50_us": at(50),
            "p99_us": at(99),
            "max_us": at(100),
        })
    );
    Ok(())
}

fn call_all(client: &RpcClient, thread: usize, arguments: &Arguments) -> CallCounts {
    let mut counts = CallCounts::default();
    let (process, padding) = (std::process::id(), "x".repeat(arguments.padding));
    for number in 0..arguments.count {
        let payload = Value::from(format!("{process}/{thread}/{number}/{padding}"));
        let started = now();
        let result = client.call_detailed::<Value>(&RequestContext::new(), "echo", &payload);
        if arguments.trace {
            let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
            let end = result.as_ref().map_or_else(kind, |_| "ok".to_owned());
            println!("{} {end}", uptime.split(' ').next().unwrap_or_default());
        }
        if let Some(file) = arguments.pause_until.as_ref().filter(|_| number == 0) {
            while !file.exists() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        match result {
            Ok(answered) if answered.value == payload => {
                counts.micros.push(started.elapsed().as_micros() as u64);
                *counts.answered.entry(answered.server.to_string()).or_default() += 1;
            }
            Ok(answered) => {
                eprintln!("sent {payload}, got {} from {}", answered.value, answered.server);
                counts.crossed += 1;
            }
            Err(error) => {
                eprintln!("{payload}: {error}");
                *counts.failed.entry(kind(&error)).or_default() += 1;
            }
        }
    }
    counts
}

fn kind(error: &CallError) -> String {
    match error.reason() {
        Some(reason) => reason.to_string(),
        None => format!("{error:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned(),
    }
}
