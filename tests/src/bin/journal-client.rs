//! A client process that sends casts, fanouts or notifications (and calls, if asked to) as fast as
//! possible. It writes its messages and their outcomes to a journal.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::json;
use zmqv2_broker::cli::{CommonFlags, Failure, finish, on_stop_signal};
use zmqv2_client::{CallHandle, CastHandle, FanoutHandle, Notifier, NotifyHandle, RpcClient, SendError, WhenFull};
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::{RequestContext, Target, Ttl};
use zmqv2_tests::fork::{Child, fork_process};
use zmqv2_tests::journal::convert::{self, call_error_name, variant_name};
use zmqv2_tests::journal::{JournalWriter, Outcome, Part, Record, Verb};
use zmqv2_tests::{PATIENCE, kernel, now, wait_until};

/// A cast that took longer than this has waited for room.
const SLOWED: Duration = Duration::from_millis(1);
/// A message that was sent later than this, in milliseconds, after its line has a line of its own.
const POSTPONED: u64 = 50;

/// How far a client with a rate may be behind.
const CATCH_UP: Duration = Duration::from_millis(500);

/// How messages are sent, except calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// To one server each
    Cast,
    /// To all servers each
    Fanout,
    /// To one listener of every pool each
    Notify,
}

/// Sends to a topic until it has sent `--count` messages or gets SIGTERM, then waits for every
/// outcome.
#[derive(Debug, Parser)]
struct Arguments {
    /// The topic
    topic: String,
    /// The name of this client: with a number, it is the identity of a message
    #[arg(long)]
    client: String,
    /// Directory of the journals
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
    /// How its messages are sent
    #[arg(long, default_value = "cast")]
    how: How,
    /// How many messages a second at most
    #[arg(long)]
    rate: Option<u32>,
    /// Send only to this server of the topic
    #[arg(long)]
    server: Option<String>,
    /// How many messages; without it, until SIGTERM
    #[arg(long)]
    count: Option<u64>,
    /// Every how many-th message is a call; 0: none
    #[arg(long, default_value_t = 0)]
    calls: u64,
    /// How often a message that may have been lost is sent again
    #[arg(long, default_value_t = 0)]
    retry: u32,
    /// Every how many-th call loses its handle at once, which cancels it; 0: none
    #[arg(long, default_value_t = 0)]
    drop: u64,
    /// Seconds between two children that are forked; 0: none
    #[arg(long, default_value_t = 0.0)]
    fork: f64,
    /// Waits for a server instead of being refused
    #[arg(long)]
    wait_for_ready: bool,
    /// Bound of the client, in messages
    #[arg(long, default_value_t = 10_000)]
    max_outstanding: usize,
    /// Bound of the client, in bytes
    #[arg(long, default_value_t = 64 << 20)]
    max_outstanding_bytes: usize,
    /// Above its bounds, the client refuses instead of waiting
    #[arg(long)]
    refuse: bool,
    /// How many handles are kept at most, with or without outcome
    #[arg(long, default_value_t = 20_000)]
    window: usize,
    /// Seconds until a message is given up
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Bytes of padding in every message
    #[arg(long, default_value_t = 0)]
    padding: usize,
    #[command(flatten)]
    common: CommonFlags,
}

/// The result of a call: client and number of its request.
type Identity = (String, u64);

/// A message whose outcome is open.
enum Pending {
    Cast { number: u64, at: u64, handle: CastHandle },
    Fanout { number: u64, at: u64, handle: FanoutHandle },
    Notify { number: u64, at: u64, handle: NotifyHandle },
    Call { number: u64, handle: CallHandle<Identity> },
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let setup = arguments.common.setup(log::LevelFilter::Error)?;
    let timeout = Duration::try_from_secs_f64(arguments.timeout)?;
    let observed: Arc<[AtomicU64; 3]> = Arc::default();
    let seen = Arc::clone(&observed);
    let mut target = Target::topic(&arguments.topic)?;
    if let Some(server) = &arguments.server {
        target = target.with_server(server)?;
    }
    let client = RpcClient::builder(target)
        .matchmaker(setup.directory()?)
        .ipc_dir(find_ipc_dir(&setup.config)?)
        .config(setup.config)
        .timeout(timeout)
        .cast_timeout(timeout)
        .retry(arguments.retry)
        .wait_for_ready(arguments.wait_for_ready)
        .max_outstanding(arguments.max_outstanding)
        .max_outstanding_bytes(arguments.max_outstanding_bytes)
        .when_full(if arguments.refuse { WhenFull::Refuse } else { WhenFull::Wait })
        .observer(move |_, outcome| {
            let column = match outcome {
                outcome if outcome.is_taken_over() => 0,
                zmqv2_client::Outcome::Refused { .. } => 1,
                _ => 2,
            };
            seen[column].fetch_add(1, Ordering::Relaxed);
        })
        .build()?;
    let notifier = client.notifier(&arguments.client).topics([&arguments.topic])?.timeout(timeout);
    let notifier = notifier.retry(arguments.retry);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    on_stop_signal(move || stopping.store(true, Ordering::Relaxed))?;
    let first = Record::Client { client: arguments.client.as_str(), retries: arguments.retry };
    let journal = JournalWriter::create(&arguments.journal, &format!("client-{}", arguments.client), &first)?;
    eprintln!("ready");

    let pending = VecDeque::new();
    let mut sender =
        JournaledClient { journal, client, notifier, pending, answered: false, timeout, slowed: 0, full: 0 };
    let idle_kib = kernel::peak_memory_kib(std::process::id());
    let started = now();
    let mut number = 0;
    // When the next message is due.
    let mut due = started;
    let mut forks = Forks::new(arguments.fork)?;
    while !stop.load(Ordering::Relaxed) && arguments.count.is_none_or(|count| number < count) {
        if let Some(rate) = arguments.rate {
            // Somebody who was stopped does not send at once what would have been sent meanwhile.
            due = due.max(now() - CATCH_UP) + Duration::from_secs_f64(1.0 / f64::from(rate));
            wait_until(due);
        }
        sender.send(number, arguments);
        number += 1;
        if forks.is_child() {
            forks.run_child(sender);
        }
    }
    let forked = forks.finish();
    while sender.settle_first() {}
    let seconds = started.elapsed().as_secs_f64();
    let closed = sender.client.close(PATIENCE);
    sender.journal.write(&Record::Observed([0, 1, 2].map(|column| observed[column].load(Ordering::Relaxed))));
    sender.journal.write(&Record::End);
    let counters = sender.client.counters();
    let summary = json!({
        "sent": number,
        "seconds": seconds,
        "idle_kib": idle_kib,
        "peak_kib": kernel::peak_memory_kib(std::process::id()),
        "slowed": sender.slowed,
        "full": sender.full,
        "open": closed.open,
        "resent": counters.resent,
        "late": counters.late,
        "ignored": counters.ignored,
        "forked": forked,
    });
    eprintln!("summary {summary}");
    Ok(())
}

/// The client, its journal and its open messages.
struct JournaledClient {
    journal: JournalWriter,
    client: RpcClient,
    notifier: Notifier,
    /// In the order of sending.
    pending: VecDeque<Pending>,
    /// Whether any message was accepted yet.
    answered: bool,
    timeout: Duration,
    slowed: u64,
    full: u64,
}

impl JournaledClient {
    /// Sends one message, then takes the outcomes that are known.
    fn send(&mut self, number: u64, arguments: &Arguments) {
        let context = RequestContext::new();
        let payload = (&arguments.client, number, "x".repeat(arguments.padding));
        let call = arguments.calls > 0 && number.is_multiple_of(arguments.calls);
        let verb = match arguments.how {
            _ if call => Verb::Call,
            How::Cast => Verb::Cast,
            How::Fanout => Verb::Fanout,
            How::Notify => Verb::Notify,
        };
        // A notification may wait at a broker for longer than until its sender gives up.
        let expires = if verb == Verb::Notify { 0 } else { Ttl::monotonic_millis() + self.timeout.as_millis() as u64 };
        self.journal.write(&Record::Sent(verb, number, expires));
        let dropped = call && arguments.drop > 0 && (number / arguments.calls).is_multiple_of(arguments.drop);
        let Self { client, notifier, .. } = &self;
        let (at, started) = (Ttl::monotonic_millis(), now());
        let taken = match verb {
            Verb::Call => client.call_async(&context, "run", &payload).map(|handle| Pending::Call { number, handle }),
            Verb::Cast => client.cast(&context, "run", &payload).map(|handle| Pending::Cast { number, at, handle }),
            Verb::Fanout => {
                client.fanout(&context, "run", &payload).map(|handle| Pending::Fanout { number, at, handle })
            }
            Verb::Notify => {
                notifier.info(&context, "run", &payload).map(|handle| Pending::Notify { number, at, handle })
            }
        };
        // The client counts the timeout from a moment between the line above and now. A process that is
        // stopped in between sends later than the line says.
        let expires_by = Ttl::monotonic_millis() + self.timeout.as_millis() as u64;
        if expires > 0 && expires_by > expires + POSTPONED {
            self.journal.write(&Record::Postponed(number, expires_by));
        }
        self.slowed += u64::from(started.elapsed() > SLOWED);
        match taken {
            Ok(_) if dropped => self.ended(number, Ttl::monotonic_millis(), Outcome::Dropped),
            Ok(pending) => self.pending.push_back(pending),
            Err(error) => {
                self.ended(number, Ttl::monotonic_millis(), Outcome::NotTaken(&variant_name(&error)));
                if matches!(error, SendError::Full { .. }) {
                    // There is room again when a message has ended.
                    self.full += 1;
                    self.settle_first();
                }
            }
        }
        while self.pending.len() >= arguments.window || self.pending.front().is_some_and(Pending::is_done) {
            self.settle_first();
        }
    }

    /// Waits for the outcome of the oldest message and writes it down. Returns false if there is
    /// none.
    fn settle_first(&mut self) -> bool {
        match self.pending.pop_front() {
            None => return false,
            Some(Pending::Cast { number, at, handle }) => {
                // The outcome is known by the timeout. If it is not, the journal lacks it, and the
                // checker reports that.
                if let Some(outcome) = handle.wait(self.timeout + PATIENCE) {
                    self.ended_after(number, at, convert::cast_outcome(&outcome));
                }
            }
            Some(Pending::Fanout { number, at, handle }) => {
                if let Some(report) = handle.wait(self.timeout + PATIENCE) {
                    self.ended_after(number, at, convert::fanout_outcome(&report));
                }
            }
            Some(Pending::Notify { number, at, handle }) => {
                if let Some(report) = handle.wait(self.timeout + PATIENCE) {
                    self.ended_after(number, at, convert::notify_outcome(&report));
                }
            }
            Some(Pending::Call { number, handle }) => {
                let result = handle.wait_detailed();
                let at = Ttl::monotonic_millis();
                match &result {
                    Ok(answered) => {
                        let (server, node) = (answered.server.as_str(), answered.node.as_str());
                        let (client, of) = &answered.value;
                        self.ended(number, at, Outcome::Replied { server, node, client, number: *of });
                    }
                    Err(error) => {
                        let may_have_run = error.may_have_run();
                        self.ended(number, at, Outcome::Failed { may_have_run, error: &call_error_name(error) });
                    }
                }
            }
        }
        true
    }

    fn ended_after(&mut self, number: u64, sent_at: u64, (after, outcome): (Duration, Outcome<&str>)) {
        self.ended(number, sent_at + after.as_millis() as u64, outcome);
    }

    fn ended(&mut self, number: u64, at: u64, outcome: Outcome<&str>) {
        let accepted = match &outcome {
            Outcome::Acked { .. } | Outcome::Replied { .. } => true,
            Outcome::Report(parts) => parts.iter().any(|part| matches!(part, Part::Acked(..) | Part::Stored(..))),
            _ => false,
        };
        if accepted && !self.answered {
            self.answered = true;
            eprintln!("answered");
        }
        self.journal.write(&Record::Ended(number, at, outcome));
    }
}

/// Children that are forked while the client works. Each does another thing with what it inherited.
struct Forks {
    every: Option<Duration>,
    next: Instant,
    count: u64,
    child: Option<Child>,
}

impl Forks {
    fn new(seconds: f64) -> Result<Self, Failure> {
        let every = (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds)).transpose()?;
        Ok(Self { every, next: now() + every.unwrap_or_default(), count: 0, child: None })
    }

    /// Forks if it is time to. Returns true in the child.
    fn is_child(&mut self) -> bool {
        let Some(every) = self.every.filter(|_| now() >= self.next) else { return false };
        if self.child.take_if(|child| !child.is_running()).is_none() && self.child.is_some() {
            return false;
        }
        self.next = now() + every;
        self.count += 1;
        self.child = fork_process();
        self.child.is_none()
    }

    /// Uses, drops or ignores the client, and ends this process.
    fn run_child(&self, sender: JournaledClient) -> ! {
        match self.count % 3 {
            0 => {
                let prepared = sender.client.prepare().timeout(Duration::from_secs(2));
                // It may work, or say why it does not. It must end.
                let _ = prepared.call::<String>(&RequestContext::new(), "text", &3);
                std::mem::forget(sender);
            }
            1 => drop(sender),
            _ => std::mem::forget(sender),
        }
        std::process::exit(0)
    }

    /// Waits for the last child. Returns the number of children.
    fn finish(self) -> u64 {
        let Self { count, child, .. } = self;
        if let Some(child) = child {
            child.wait();
        }
        count
    }
}

impl Pending {
    fn is_done(&self) -> bool {
        match self {
            Self::Cast { handle, .. } => handle.outcome().is_some(),
            Self::Fanout { handle, .. } => handle.report().is_some(),
            Self::Notify { handle, .. } => handle.report().is_some(),
            Self::Call { handle, .. } => handle.is_done(),
        }
    }
}
