//! `zmqv2 listen`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure, Reloader, SignalHandler, StateReport, write_stdout};
use zmqv2_broker::query_status;
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::control::StatusReport;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, InstanceId, Priority};
use zmqv2_server::{Notice, NotificationListener, Priorities, Verdict};

use crate::send::target::target_of;
use crate::serve::{now, say_ready};

/// The longest wait for each step of the end.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "Prints event_type, publisher_id, priority, payload, message_id and timestamp of each. A notification \
counts as handled when its line is written. If its line cannot be written, it is delivered again.\n\n\
Exit codes: 0 after --count notifications, SIGTERM or SIGINT; 1 failure, such as a closed stdout; 2 wrong usage or configuration.\n\n\
SIGHUP: reads the configuration again, and takes over the level of the log. SIGUSR2: writes the state to the log. \
SIGUSR1: nothing."
)]
pub(crate) struct ListenFlags {
    /// The topics, without the priority
    #[arg(required = true)]
    topics: Vec<String>,
    /// The exchange that scopes them (default: option control_exchange)
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// The pool: each pool gets every notification, for one of its listeners (default: default)
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Only this priority, repeatable: audit, debug, info, warn, error, critical or sample
    /// (default: all)
    #[arg(long, value_name = "P")]
    priority: Vec<Priority>,
    /// Exit after N notifications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

enum End {
    Signal,
    Counted,
    Unwritable(Box<dyn std::error::Error + Send + Sync>),
}

pub(crate) fn run(common: &CommonFlags, flags: &ListenFlags) -> Result<(), Failure> {
    let (end, ended) = crossbeam_channel::bounded(1);
    let (stopping, stops) = crossbeam_channel::bounded(1);
    let setup = common.setup(log::LevelFilter::Warn)?;
    let signals = SignalHandler::install()?;
    let listener = Arc::new(flags.start(&setup.config, end.clone(), stops).map_err(Failure::usage)?);
    let reloader = Reloader::new(common, &setup, None);
    let about = json!({ "pool": listener.pool(), "topics": flags.topics, "instance": listener.instance() });
    let (state, reported) = (StateReport::new(about), Arc::clone(&listener));
    // The channel has room for one reason: the first counts.
    let stop = move || drop(end.try_send(End::Signal));
    signals.handle(stop, move || reloader.reload(), move || state.write(reported.is_ready()))?;
    let waiting = Arc::clone(&listener);
    let line = format!("ready: pool {} listens to {}", listener.pool(), flags.description());
    let (ready_sender, ready) = crossbeam_channel::bounded(1);
    std::thread::Builder::new().name("ready".to_owned()).spawn(move || {
        say_ready(|span| waiting.wait_ready(span), line);
        drop(ready_sender);
    })?;
    // The signal thread has a sender and never ends, so this receives.
    let end = ended.recv();
    if !matches!(end, Ok(End::Signal)) {
        // The listener has had notifications, so it is ready. Its ready line comes before the end.
        let _: Result<(), RecvTimeoutError> = ready.recv_timeout(PATIENCE);
    }
    // The channel has room for one, and this is the only one.
    let _ = stopping.try_send(listener.instance());
    listener.stop()?;
    match end {
        Ok(End::Unwritable(error)) => {
            Err(Failure::new(Exit::Failed, format!("cannot write a notification, which is delivered again: {error}")))
        }
        _ => Ok(()),
    }
}

impl ListenFlags {
    fn description(&self) -> String {
        let priorities: Vec<_> = self.priority.iter().map(|priority| priority.as_str()).collect();
        let priorities = if priorities.is_empty() { "any priority".to_owned() } else { priorities.join(", ") };
        format!("{} ({priorities})", self.topics.join(", "))
    }

    fn start(
        &self,
        config: &Config,
        end: Sender<End>,
        stops: Receiver<InstanceId>,
    ) -> anyhow::Result<NotificationListener> {
        let dir = resolve_ipc_dir(config)?;
        let transport = Transport::new(TransportOptions::from(config));
        let mut builder = NotificationListener::builder().ipc_dir(&dir).transport(transport.clone());
        let printer = Printer { left: Mutex::new(self.count), end, stops, transport, dir };
        for topic in &self.topics {
            let target = target_of(topic, self.exchange.as_deref())?;
            builder = builder.target(target.with_default_exchange(&config.control_exchange));
        }
        if let Some(pool) = &self.pool {
            builder = builder.pool(pool)?;
        }
        let priorities: Priorities = match &self.priority[..] {
            [] => Priorities::ALL,
            some => some.iter().copied().collect(),
        };
        // One worker keeps the lines in the order of the notifications, and none follows the last.
        let builder = builder.workers(1).config(config.clone()).on(priorities, move |notice| printer.print(notice));
        Ok(builder.start()?)
    }
}

struct Printer {
    /// How many notifications are still to be printed. `None`: no limit.
    left: Mutex<Option<u64>>,
    end: Sender<End>,
    /// Receives the instance of the listener when it is about to stop.
    stops: Receiver<InstanceId>,
    transport: Transport,
    dir: PathBuf,
}

#[derive(Serialize)]
struct Line<'a> {
    event_type: &'a str,
    publisher_id: &'a str,
    priority: &'a str,
    payload: &'a RawValue,
    message_id: &'a str,
    timestamp: &'a str,
}

impl Printer {
    fn print(&self, notice: &Notice) -> Verdict {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *left == Some(0) {
            return Verdict::Requeue;
        }
        if let Err(error) = write(notice) {
            *left = Some(0);
            self.end(End::Unwritable(error.into()));
            return Verdict::Requeue;
        }
        *left = left.map(|left| left - 1);
        if *left == Some(0) {
            self.end(End::Counted);
        }
        Verdict::Handled
    }

    /// Ends the program, and waits until the broker delivers nothing more. A further delivery would
    /// be requeued, and count against the maximum of deliveries.
    fn end(&self, end: End) {
        let by = now() + PATIENCE;
        let _ = self.end.try_send(end);
        let Ok(instance) = self.stops.recv_timeout(PATIENCE) else { return };
        let takes_work = |report: &StatusReport| {
            let mut servers = report.topics.iter().flat_map(|topic| &topic.servers);
            servers.any(|server| server.instance == instance && !server.withdrawing)
        };
        while now() < by && query_status(&self.transport, &self.dir, PATIENCE).is_ok_and(|report| takes_work(&report)) {
        }
    }
}

fn write(notice: &Notice) -> anyhow::Result<()> {
    let line = Line {
        event_type: notice.event_type(),
        publisher_id: notice.publisher_id(),
        priority: notice.priority().as_str(),
        payload: &notice.notification.payload,
        message_id: notice.message_id(),
        timestamp: notice.timestamp(),
    };
    // The payload is unchanged JSON. A line break in it is white space, because strings escape it.
    let mut text = serde_json::to_string(&line)?.replace(['\n', '\r'], " ");
    text.push('\n');
    Ok(write_stdout(text.as_bytes())?)
}
