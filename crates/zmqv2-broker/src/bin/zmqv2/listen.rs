//! `zmqv2 listen`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::Serialize;
use serde_json::value::RawValue;
use zmqv2_broker::ask_status;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure, on_stop_signal, tell};
use zmqv2_proto::config::resolve_ipc_dir;
use zmqv2_proto::control::StatusReport;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{InstanceId, Priority};
use zmqv2_server::{Notice, NotificationListener, NotificationListenerBuilder, Priorities, Verdict};

use crate::serve::now;
use crate::target::target_of;

/// How long the last line waits for the broker to know that it is the last.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "Prints event_type, publisher_id, priority, payload, message_id and timestamp of each. A notification is handled when \
its line is written; one whose line cannot be written goes back, to come again.\n\n\
Exit codes: 0 after --count notifications or SIGTERM or SIGINT, 1 failed, such as when stdout is closed, 2 usage or configuration."
)]
pub(crate) struct ListenFlags {
    /// The topics, without the priority
    #[arg(required = true)]
    topics: Vec<String>,
    /// The exchange that scopes them (default: option control_exchange)
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// The pool: each pool gets every notification, and one listener of it takes it (default: default)
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Only this priority, may be repeated: audit, debug, info, warn, error, critical or sample (default: all)
    #[arg(long, value_name = "P")]
    priority: Vec<Priority>,
    /// End after N notifications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Why it ends.
enum End {
    Asked,
    Counted,
    Unwritable(std::io::Error),
}

pub(crate) fn run(common: &CommonFlags, flags: &ListenFlags) -> Result<(), Failure> {
    let (end, ended) = crossbeam_channel::bounded(1);
    let (stopping, stops) = crossbeam_channel::bounded(1);
    let listener = Arc::new(flags.start(common, end.clone(), stops).map_err(Failure::usage)?);
    // The channel holds one end, and the first counts.
    on_stop_signal(move || drop(end.try_send(End::Asked)))?;
    let waiting = Arc::clone(&listener);
    let what = flags.what();
    let (said, ready) = crossbeam_channel::bounded(1);
    std::thread::Builder::new().name("ready".to_owned()).spawn(move || {
        say_ready(&waiting, &what);
        drop(said);
    })?;
    // A sender lives as long as the signal thread, which is for ever.
    let end = ended.recv();
    if !matches!(end, Ok(End::Asked)) {
        // What has got notifications is ready, and says so before it ends.
        let _: Result<(), RecvTimeoutError> = ready.recv_timeout(PATIENCE);
    }
    // The channel holds one, and this is the one.
    let _ = stopping.try_send(listener.instance());
    listener.stop()?;
    match end {
        Ok(End::Unwritable(error)) => {
            Err(Failure::new(Exit::Failed, anyhow::anyhow!("cannot write a notification, which comes again: {error}")))
        }
        _ => Ok(()),
    }
}

impl ListenFlags {
    /// What it listens to, for people.
    fn what(&self) -> String {
        let priorities: Vec<_> = self.priority.iter().map(|priority| priority.as_str()).collect();
        let priorities = if priorities.is_empty() { "any priority".to_owned() } else { priorities.join(", ") };
        format!("{} ({priorities})", self.topics.join(", "))
    }

    fn start(
        &self,
        common: &CommonFlags,
        end: Sender<End>,
        stops: Receiver<InstanceId>,
    ) -> anyhow::Result<NotificationListener> {
        let config = common.setup(log::LevelFilter::Warn).map_err(|failure| anyhow::anyhow!("{failure}"))?.config;
        let dir = resolve_ipc_dir(&config)?;
        let transport = Transport::new(TransportOptions::from(&config));
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
        // One worker: lines come in the order of the notifications, and nothing more once the last is written.
        let builder: NotificationListenerBuilder =
            builder.workers(1).config(config).on(priorities, move |notice| printer.print(notice));
        Ok(builder.start()?)
    }
}

fn say_ready(listener: &NotificationListener, what: &str) {
    while let Err(error) = listener.wait_ready(Duration::from_secs(5)) {
        log::warn!("{error}");
    }
    tell(format_args!("ready: pool {} listens to {what}", listener.pool()));
}

struct Printer {
    /// How many are still to be printed; `None`: without end.
    left: Mutex<Option<u64>>,
    end: Sender<End>,
    /// Tells that the listener is about to stop, and which it is.
    stops: Receiver<InstanceId>,
    transport: Transport,
    dir: PathBuf,
}

/// A line.
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
            self.last(End::Unwritable(error));
            return Verdict::Requeue;
        }
        *left = left.map(|left| left - 1);
        if *left == Some(0) {
            self.last(End::Counted);
        }
        Verdict::Handled
    }

    /// Ends the program, and waits until the broker gives nothing more: whatever it gave behind this one would come back,
    /// and be a delivery nearer to the most that it may have.
    fn last(&self, end: End) {
        let by = now() + PATIENCE;
        let _ = self.end.try_send(end);
        let Ok(instance) = self.stops.recv_timeout(PATIENCE) else { return };
        let takes_work = |report: &StatusReport| {
            let mut servers = report.topics.iter().flat_map(|topic| &topic.servers);
            servers.any(|server| server.instance == instance && !server.withdrawing)
        };
        while now() < by && ask_status(&self.transport, &self.dir, PATIENCE).is_ok_and(|report| takes_work(&report)) {}
    }
}

/// Writes a line, all of it, before the notification counts as handled.
fn write(notice: &Notice) -> std::io::Result<()> {
    let line = Line {
        event_type: notice.event_type(),
        publisher_id: notice.publisher_id(),
        priority: notice.priority().as_str(),
        payload: &notice.notification.payload,
        message_id: notice.message_id(),
        timestamp: notice.timestamp(),
    };
    // The payload is as it was sent. A line break in JSON is no more than a space: inside of strings it is escaped.
    let mut text = serde_json::to_string(&line)?.replace(['\n', '\r'], " ");
    text.push('\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
