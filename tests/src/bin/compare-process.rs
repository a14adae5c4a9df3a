//! A process of the comparison: a server, callers, or a sender of casts, with either driver. It
//! prints its results on stdout.

use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use zmqv2_broker::cli::{Failure, finish, on_stop_signal};
use zmqv2_client::CallHandle;
use zmqv2_proto::Config;
use zmqv2_tests::compare::{CallResults, CastResults, monotonic};
use zmqv2_tests::legacy::{Help, Options};
use zmqv2_tests::measure::percentile;
use zmqv2_tests::messaging::{Failed, Handler, Messaging, OverLegacy, OverZmqv2, Pending, SendOutcome, Setup, To};
use zmqv2_tests::{now, wait_until, within};

/// Uses one of the two drivers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Use the legacy driver instead of zmqv2
    #[arg(long)]
    legacy: bool,
    /// An option of the driver; both know the same names
    #[arg(long = "set", value_name = "OPTION=VALUE")]
    set: Vec<String>,
    /// zmqv2: messages wait for a server, and are sent again when they may be lost
    #[arg(long)]
    patient: bool,
    /// legacy: pause before each call, in milliseconds, in the driver's own context
    #[arg(long, value_name = "MS")]
    help_with: Option<u64>,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves a topic until it is killed
    Serve(Serve),
    /// Calls `echo` again and again
    Call(Call),
    /// Casts `note` to one server, or to all
    Cast(Send),
}

#[derive(Debug, Args)]
struct Serve {
    topic: String,
    /// Name of the server
    #[arg(long)]
    server: String,
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How long a handler takes, in microseconds
    #[arg(long, default_value_t = 0)]
    takes: u64,
    /// File with the number of messages that have run, and the time of the last one
    #[arg(long)]
    state: PathBuf,
    /// File with the number of each message that has run
    #[arg(long)]
    journal: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Call {
    topic: String,
    /// Servers to call in turn instead of the topic
    #[arg(long)]
    server: Vec<String>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// zmqv2: each thread has this many calls in flight, instead of one that it waits for
    #[arg(long)]
    window: Option<usize>,
    /// How many calls each thread makes, at most
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// For how many seconds calls are made, at most
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Bytes of padding
    #[arg(long, default_value_t = 128)]
    size: usize,
}

#[derive(Debug, Args)]
struct Send {
    topic: String,
    /// To every server
    #[arg(long)]
    all: bool,
    #[arg(long)]
    count: u64,
    /// Bytes of padding
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// How many may be in flight
    #[arg(long, default_value_t = usize::MAX)]
    window: usize,
    /// File with the outcome of each message
    #[arg(long)]
    outcomes: Option<PathBuf>,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let _ = zmqv2_broker::cli::CommonFlags { log_level: Some(log::LevelFilter::Off), ..Default::default() }
        .setup(log::LevelFilter::Off);
    let driver = driver(arguments)?;
    match &arguments.role {
        Role::Serve(role) => serve(&*driver, role)?,
        Role::Call(role) => call(&*driver, role)?,
        Role::Cast(role) => cast(&*driver, role)?,
    }
    // Exits without waiting for sockets that still linger.
    std::process::exit(0)
}

fn driver(arguments: &Arguments) -> anyhow::Result<Box<dyn Messaging>> {
    if arguments.legacy {
        let options = Options::from_pairs(&arguments.set)?;
        let pause = arguments.help_with.map(Duration::from_millis);
        let help = Help { shared_context: pause.is_some(), pause: pause.unwrap_or_default() };
        let response_timeout = options.response_timeout;
        return Ok(Box::new(OverLegacy::new(options, Setup { help, response_timeout, ..Setup::default() })));
    }
    let mut builder = Config::builder();
    for pair in &arguments.set {
        let (name, value) = pair.split_once('=').with_context(|| format!("{pair}: no ="))?;
        builder = builder.set(name, value);
    }
    let config = builder.build()?.config;
    let ipc_dir = config.ipc_dir.clone().context("rpc_zmq_ipc_dir is not set")?;
    Ok(Box::new(OverZmqv2::with(config, ipc_dir, arguments.patient)))
}

fn serve(driver: &dyn Messaging, role: &Serve) -> anyhow::Result<()> {
    let ran = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let journal = role.journal.as_ref().map(|path| append(path)).transpose()?;
    let (count, takes) = (Arc::clone(&ran), Duration::from_micros(role.takes));
    let handler: Handler = Arc::new(move |method, args| {
        let result = match method {
            "echo" => args.clone(),
            "note" => Value::Null,
            _ => return None,
        };
        if let Some(mut journal) = journal.as_ref() {
            // One write, so that the line is complete before a kill.
            let _ = journal.write_all(format!("{}\n", args["number"]).as_bytes());
        }
        count.1.fetch_max(monotonic(), Ordering::Relaxed);
        count.0.fetch_add(1, Ordering::Relaxed);
        if !takes.is_zero() {
            wait_until(now() + takes);
        }
        Some(Ok(result))
    });
    let state = std::fs::File::create(&role.state)?;
    let _server = driver.serve(&To::topic(&role.topic).at(&role.server), role.workers, handler);
    on_stop_signal(|| std::process::exit(0))?;
    eprintln!("ready");
    let mut written = None;
    loop {
        let seen = (ran.0.load(Ordering::Relaxed), ran.1.load(Ordering::Relaxed));
        if written != Some(seen) {
            // The length is fixed, so that a reader never sees parts of two values.
            state.write_all_at(format!("{:020} {:020}", seen.0, seen.1).as_bytes(), 0)?;
            written = Some(seen);
        }
        wait_until(now() + Duration::from_millis(10));
    }
}

fn append(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().create(true).append(true).open(path)
}

/// The results of the calls of one thread.
#[derive(Debug, Default)]
struct ThreadResults {
    micros: Vec<f64>,
    unanswered: Vec<(u64, String)>,
    waited: f64,
    on_their_way: VecDeque<(Instant, CallHandle<Value>)>,
}

impl ThreadResults {
    /// Waits for the oldest call if there are too many, and adds one.
    fn start(&mut self, window: usize, call: Option<CallHandle<Value>>) {
        if self.on_their_way.len() >= window
            && let Some((begun, oldest)) = self.on_their_way.pop_front()
            && oldest.wait().is_ok()
        {
            self.micros.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        self.on_their_way.extend(call.map(|call| (now(), call)));
    }
}

/// The data that all threads of a caller share.
struct Run<'a> {
    driver: &'a dyn Messaging,
    targets: Vec<To>,
    role: &'a Call,
    padding: String,
    barrier: Barrier,
}

impl Run<'_> {
    fn thread(&self, thread: usize, end_at: Instant) -> ThreadResults {
        let mut results = ThreadResults::default();
        self.barrier.wait();
        for round in 0..self.role.count {
            let begun = now();
            if begun >= end_at {
                break;
            }
            let number = round * self.role.threads as u64 + thread as u64;
            let args = json!({"number": number, "text": self.padding});
            let to = &self.targets[number as usize % self.targets.len()];
            if let Some(window) = self.role.window {
                results.start(window, self.driver.start_call(to, "echo", &args));
                continue;
            }
            let result = self.driver.call(to, "echo", &args, None);
            let micros = begun.elapsed().as_secs_f64() * 1e6;
            match result {
                Ok(answer) => {
                    assert_eq!(answer["number"], number, "the reply to another call");
                    results.micros.push(micros);
                }
                Err(error) => {
                    let word = match error {
                        Failed::Timeout => "Timeout".to_owned(),
                        other => other.to_string(),
                    };
                    results.waited = results.waited.max(micros / 1e3);
                    results.unanswered.push((number, word));
                }
            }
        }
        results
    }
}

fn call(driver: &dyn Messaging, role: &Call) -> anyhow::Result<()> {
    let targets: Vec<To> = match &role.server[..] {
        [] => vec![To::topic(&role.topic)],
        servers => servers.iter().map(|server| To::topic(&role.topic).at(server)).collect(),
    };
    if role.count == u64::MAX {
        // Connecting is not part of the result.
        for to in &targets {
            // Over the connection that is measured.
            within(Duration::from_secs(10), || {
                match role.window.and_then(|_| driver.start_call(to, "echo", &json!({}))) {
                    Some(call) => call.wait().is_ok(),
                    None => driver.call(to, "echo", &json!({}), None).is_ok(),
                }
            });
        }
    }
    let run = Run { driver, targets, role, padding: "x".repeat(role.size), barrier: Barrier::new(role.threads) };
    eprintln!("ready");
    let started = now();
    let end_at = started + Duration::from_secs_f64(role.seconds);
    let results: Vec<ThreadResults> = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..role.threads).map(|thread| scope.spawn(move || run.thread(thread, end_at))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no reply to another call")).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut micros: Vec<f64> = results.iter().flat_map(|results| results.micros.iter().copied()).collect();
    let called = CallResults {
        answered: micros.len(),
        seconds,
        p50_us: percentile(&mut micros, 0.5),
        p99_us: percentile(&mut micros, 0.99),
        worst_wait_ms: results.iter().map(|results| results.waited).fold(0.0, f64::max),
        unanswered: results.into_iter().flat_map(|results| results.unanswered).collect(),
    };
    println!("{}", serde_json::to_string(&called)?);
    Ok(())
}

fn cast(driver: &dyn Messaging, role: &Send) -> anyhow::Result<()> {
    let (to, padding) = (To::topic(&role.topic), "x".repeat(role.size));
    let mut cast = CastResults { begun: monotonic(), ..CastResults::default() };
    let (mut pending, mut words) = (VecDeque::new(), Vec::new());
    let all_told = |pending: Pending| pending.wait(Duration::from_secs(120));
    for number in 0..role.count {
        if pending.len() >= role.window {
            words.extend(pending.pop_front().map(all_told));
        }
        let args = json!({"number": number, "text": padding});
        pending.push_back(if role.all {
            driver.send_to_all(&to, "note", &args)
        } else {
            driver.send(&to, "note", &args)
        });
    }
    cast.sent = monotonic();
    words.extend(pending.into_iter().map(all_told));
    let mut file = role.outcomes.as_ref().map(|path| std::fs::File::create(path).map(BufWriter::new)).transpose()?;
    for (number, words) in words.into_iter().enumerate() {
        for word in words {
            let text = match &word {
                SendOutcome::Failed(reason) => reason.as_str(),
                SendOutcome::Accepted | SendOutcome::Stored => "ok",
                SendOutcome::Unknown => continue,
            };
            *cast.outcomes.entry(text.to_owned()).or_default() += 1;
            if let Some(file) = &mut file {
                writeln!(file, "{number} {text}")?;
            }
        }
    }
    if let Some(mut file) = file {
        file.flush()?;
    }
    // libzmq sends the last messages in this time, which is as long as the legacy driver's sockets
    // linger.
    println!("{}", serde_json::to_string(&cast)?);
    wait_until(now() + Duration::from_secs(1));
    Ok(())
}
