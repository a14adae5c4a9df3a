//! `zmqv2 bench`: messages per second, and their latencies.

mod pattern;
mod progress;
mod report;
mod results;
mod run;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{RecvTimeoutError, select};
use serde_json::value::to_raw_value;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure, on_stop_signal, say};
use zmqv2_client::NotifierBuilder;

use crate::send::target::{InterfaceFlags, TargetFlags, seconds};
use crate::serve::now;
use pattern::{Pattern, Sender};
use progress::Progress;
use report::Report;
use results::Results;
use run::{End, Run};
use schedule::Schedule;

/// An interrupted run waits this long for messages that are outstanding.
const GRACE: Duration = Duration::from_secs(1);
const MAX_BYTES: u64 = 1 << 30;
const MAX_CONCURRENCY: u64 = 10_000;
/// The default of `--concurrency` with `--rate`: enough that a message is rarely late.
const CONCURRENCY_AT_A_RATE: usize = 64;
/// How long brokers keep notifications that no listener takes.
const TIME_TO_LIVE: Duration = Duration::from_secs(60);
/// Above every `--concurrency`, because a fanout sends a message to every node.
const MAX_OUTSTANDING: usize = 1 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Latencies are those of successful messages, in microseconds. With --rate they count from the time at which a \
message is due, so that a late start counts. The first error of each kind is shown on stderr. Ctrl-C ends the run early.\n\n\
Exit codes: 0 if a message was successful, otherwise that of the most frequent failure: 3 remote error, 4 refused (stderr \
begins with the reason), 5 timeout, no acknowledgement, or no broker reached; 1 failure, 2 wrong usage or configuration."
)]
pub(crate) struct BenchFlags {
    /// The kind of message to measure
    pattern: Pattern,
    #[command(flatten)]
    target: TargetFlags,
    /// The method (default: echo), or the event type of notifications (default: bench)
    method: Option<String>,
    #[command(flatten)]
    interface: InterfaceFlags,
    /// Messages per second, whether or not earlier ones have ended (default: one after another)
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Outstanding messages; for calls the number of threads (default: 1; with --rate 64)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CONCURRENCY))]
    concurrency: Option<u64>,
    /// Length of the argument text, sent as {"text": "xxx..."}
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=MAX_BYTES))]
    size: u64,
    /// How long to send
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| format!("{text:?} is not a number of messages per second above 0"))
}

impl BenchFlags {
    fn concurrency(&self) -> usize {
        let default = if self.rate.is_some() { CONCURRENCY_AT_A_RATE } else { 1 };
        self.concurrency.map_or(default, |messages| messages as usize)
    }

    fn sender(&self, common: &CommonFlags) -> Result<Sender, Failure> {
        let (messages, size) = (self.concurrency(), self.size as usize);
        let args = to_raw_value(&serde_json::json!({ "text": "x".repeat(size) }))?;
        let for_every_server = matches!(self.pattern, Pattern::Fanout | Pattern::Notify);
        if for_every_server && self.target.server.is_some() {
            return Err(Failure::usage("--server: a fanout or notification goes to every server"));
        }
        // Only --concurrency bounds the messages, and no socket is closed during the run.
        if self.pattern == Pattern::Notify {
            let build = |builder: NotifierBuilder| {
                builder.max_outstanding(MAX_OUTSTANDING).max_outstanding_bytes(usize::MAX).time_to_live(TIME_TO_LIVE)
            };
            let notifier = self.target.topic.notifier(common, None, build)?;
            let event_type = self.method.clone().unwrap_or_else(|| "bench".to_owned());
            return Ok(pattern::notify(notifier, event_type, args));
        }
        let client = self.target.topic.client_with(
            common,
            &self.interface,
            |config| config.conn_pool_size = config.conn_pool_size.max(messages),
            |builder| builder.max_outstanding(MAX_OUTSTANDING).max_outstanding_bytes(usize::MAX),
        )?;
        let client = self.target.at_server(client)?;
        let method = self.method.clone().unwrap_or_else(|| "echo".to_owned());
        Ok(match self.pattern {
            Pattern::Call => pattern::call(client, method, args),
            Pattern::Cast => pattern::cast(client, method, args),
            Pattern::Fanout | Pattern::Notify => pattern::fanout(client, method, args),
        })
    }
}

pub(crate) fn run(common: &CommonFlags, flags: &BenchFlags) -> Result<(), Failure> {
    let sender = Arc::new(flags.sender(common)?);
    warm_up(&sender, flags.concurrency())?;

    let (stop, stopped) = crossbeam_channel::bounded(0);
    let mut stop = Some(stop);
    on_stop_signal(move || drop(stop.take()))?;
    let progress = Arc::new(Progress::new());
    let schedule = Schedule::new(now(), flags.duration, flags.rate);
    let run = Arc::new(Run::new(schedule, stopped.clone(), Arc::clone(&progress), Results::new()?));
    let (alive, ended) = crossbeam_channel::bounded(0);
    run.start(&sender, flags.concurrency(), &alive)?;
    drop(alive);

    let (span, ok) = watch(&run, &stopped, &ended, &progress);
    let mut results = run.results().clone();
    let open = run.sent().saturating_sub(results.ended());
    results.add_unended(flags.pattern.without_end(), open);

    let report = Report::new(flags.pattern, span, ok, &results);
    if flags.json { say(serde_json::to_string(&report)?) } else { say(report.to_string().trim_end()) }?;
    match results.most_frequent() {
        _ if results.ok > 0 => Ok(()),
        Some((kind, exit)) => {
            Err(Failure::new(exit, format!("nothing was ok; {}: {}", kind.name(), results.failed(kind))))
        }
        None => Err(Failure::new(Exit::Failed, "nothing was sent")),
    }
}

/// Opens the connections with one message of each thread. Only usage errors count as failures.
fn warm_up(sender: &Sender, concurrency: usize) -> Result<(), Failure> {
    let threads = if matches!(sender, Sender::Blocking(_)) { concurrency } else { 1 };
    let warm = || match sender.send_and_wait().result {
        Err((_, failure)) if failure.exit() == Exit::Usage => Err(failure),
        _ => Ok(()),
    };
    std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, warm);
        let threads = (0..threads).map(spawn).collect::<Result<Vec<_>, _>>()?;
        // None of the threads panics.
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}

/// Shows the progress until the run ends. Returns how long messages were sent, and how many were
/// successful in that time.
fn watch(run: &Run, stopped: &End, ended: &End, progress: &Progress) -> (Duration, u64) {
    let ticks =
        if progress.is_terminal { crossbeam_channel::tick(Duration::from_secs(1)) } else { crossbeam_channel::never() };
    let over = crossbeam_channel::after(run.schedule.left(now()));
    let measure = || (now().saturating_duration_since(run.schedule.start), run.results().ok);
    let mut measured = None;
    let mut ok_before = 0;
    loop {
        select! {
            recv(ended) -> _ => break,
            recv(stopped) -> _ => {
                measured = measured.or_else(|| Some(measure()));
                match ended.recv_timeout(GRACE) {
                    Ok(never) => match never {},
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            recv(over) -> _ => measured = Some(measure()),
            recv(ticks) -> _ => {
                let results = run.results().clone();
                progress.show(progress::progress_line(now().saturating_duration_since(run.schedule.start), &results, ok_before));
                ok_before = results.ok;
            }
        }
    }
    progress.show(String::new());
    measured.unwrap_or_else(|| match measure() {
        measured if run.is_stopped() => measured,
        // With a rate, all messages may have ended a little before the duration.
        (_, ok) => (run.schedule.duration, ok),
    })
}
