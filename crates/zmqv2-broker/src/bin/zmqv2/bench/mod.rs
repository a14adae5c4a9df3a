//! `zmqv2 bench`: how many messages a second, and how long each takes.

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
use progress::Screen;
use report::Report;
use results::Tally;
use run::{End, Run};
use schedule::Pace;

/// How long a run that is cut short waits for what is on its way.
const GRACE: Duration = Duration::from_secs(1);
const MOST_BYTES: u64 = 1 << 30;
const MOST_CONCURRENCY: u64 = 10_000;
/// Without `--concurrency`, at a rate: enough that a message rarely waits for its turn.
const AT_A_RATE: usize = 64;
/// How long brokers keep notifications of a run that nobody takes: what is left of it goes by itself.
const KEPT: Duration = Duration::from_secs(60);
/// More messages than `--concurrency` can lead to: a fanout sends one to every node.
const MOST_OUTSTANDING: usize = 1 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Latencies are of messages that were ok, in microseconds; with --rate from the time at which a message was to be \
sent, so that whatever delays the sending counts. The first error of each kind is shown on stderr. Ctrl-C ends the run early.\n\n\
Exit codes: 0 when anything was ok, otherwise that of what happened most: 3 remote error, 4 refused (the reason comes first on \
stderr), 5 timeout, unacknowledged, or nobody reached; 1 failed, 2 usage or configuration."
)]
pub(crate) struct BenchFlags {
    /// What is measured
    pattern: Pattern,
    #[command(flatten)]
    target: TargetFlags,
    /// The method (default: echo); of notifications, the event type (default: bench)
    method: Option<String>,
    #[command(flatten)]
    interface: InterfaceFlags,
    /// Send so many messages a second, whether or not earlier ones have ended (default: each as soon as an earlier one has)
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Messages that may be on their way: threads for calls, otherwise of one thread (default: 1; with --rate 64)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_CONCURRENCY))]
    concurrency: Option<u64>,
    /// Length of the argument text, sent as {"text": "xxx..."}
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=MOST_BYTES))]
    size: u64,
    /// How long to send
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A number of messages a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| format!("{text:?} is not a number of messages per second above 0"))
}

impl BenchFlags {
    fn concurrency(&self) -> usize {
        let default = if self.rate.is_some() { AT_A_RATE } else { 1 };
        self.concurrency.map_or(default, |messages| messages as usize)
    }

    fn sender(&self, common: &CommonFlags) -> Result<Sender, Failure> {
        let (messages, size) = (self.concurrency(), self.size as usize);
        let args = to_raw_value(&serde_json::json!({ "text": "x".repeat(size) }))?;
        let everybody = matches!(self.pattern, Pattern::Fanout | Pattern::Notify);
        if everybody && self.target.server.is_some() {
            return Err(Failure::usage(anyhow::anyhow!("--server: a {} goes to everybody", self.pattern)));
        }
        // The client's own bounds must not stand in for --concurrency, nor close sockets that are needed again at once.
        if self.pattern == Pattern::Notify {
            let build = |builder: NotifierBuilder| {
                builder.max_outstanding(MOST_OUTSTANDING).max_outstanding_bytes(usize::MAX).time_to_live(KEPT)
            };
            let notifier = self.target.topic.notifier(common, None, build)?;
            let event_type = self.method.clone().unwrap_or_else(|| "bench".to_owned());
            return Ok(pattern::notify(notifier, event_type, args));
        }
        let client = self.target.topic.client_with(
            common,
            &self.interface,
            |config| config.conn_pool_size = config.conn_pool_size.max(messages),
            |builder| builder.max_outstanding(MOST_OUTSTANDING).max_outstanding_bytes(usize::MAX),
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
    let screen = Arc::new(Screen::new());
    let pace = Pace::new(now(), flags.duration, flags.rate);
    let run = Arc::new(Run::new(pace, stopped.clone(), Arc::clone(&screen), Tally::new()?));
    let (alive, ended) = crossbeam_channel::bounded(0);
    run.start(&sender, flags.concurrency(), &alive)?;
    drop(alive);

    let (span, ok) = watch(&run, &stopped, &ended, &screen);
    let mut tally = run.tally().clone();
    let open = run.sent().saturating_sub(tally.ended());
    tally.give_up(flags.pattern.silence(), open);

    let report = Report::new(flags.pattern, span, ok, &tally);
    if flags.json { say(serde_json::to_string(&report)?) } else { say(report.to_string().trim_end()) }?;
    match tally.worst() {
        _ if tally.ok > 0 => Ok(()),
        Some((kind, exit)) => {
            Err(Failure::new(exit, anyhow::anyhow!("nothing was ok; {}: {}", kind.name(), tally.bad(kind))))
        }
        None => Err(Failure::new(Exit::Failed, anyhow::anyhow!("nothing was sent"))),
    }
}

/// Opens the connections, with a message of each thread. How they end is no part of the result, unless nothing can be sent.
fn warm_up(sender: &Sender, concurrency: usize) -> Result<(), Failure> {
    let threads = if matches!(sender, Sender::Blocking(_)) { concurrency } else { 1 };
    let warm = || match sender.send_and_wait().how {
        Err((_, failure)) if failure.exit() == Exit::Usage => Err(failure),
        _ => Ok(()),
    };
    std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, warm);
        let threads = (0..threads).map(spawn).collect::<Result<Vec<_>, _>>()?;
        // None of them panics.
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}

/// Waits for the end of the run and shows how it goes. How long messages were sent, and how many were ok then.
fn watch(run: &Run, stopped: &End, ended: &End, screen: &Screen) -> (Duration, u64) {
    let ticks =
        if screen.is_terminal { crossbeam_channel::tick(Duration::from_secs(1)) } else { crossbeam_channel::never() };
    let over = crossbeam_channel::after(run.pace.left(now()));
    let measure = || (now().saturating_duration_since(run.pace.start), run.tally().ok);
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
                let tally = run.tally().clone();
                screen.progress(progress::progress(now().saturating_duration_since(run.pace.start), &tally, ok_before));
                ok_before = tally.ok;
            }
        }
    }
    screen.progress(String::new());
    measured.unwrap_or_else(|| match measure() {
        measured if run.is_stopped() => measured,
        // At a rate, everything may have ended a little before the time was over.
        (_, ok) => (run.pace.duration, ok),
    })
}
