//! Measures what each driver loses under the same faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::speed::warm_up;
use super::testbed::{TOPIC, Testbed, Variant, results_of, start};
use super::{CallResults, CastResults, Plan};
use crate::Process;
use crate::measure::{Progress, Spread, turns};
use crate::{now, wait_until, within};

/// If nothing has run for this time, nothing will any more. It is longer than any timeout of a
/// fault.
const QUIET: Duration = Duration::from_millis(1_500);
const PATIENCE: Duration = Duration::from_secs(90);
/// If a fault has not happened by then, it never does. It is longer than any timeout of a message.
const FIFTH_BY: Duration = Duration::from_secs(60);

pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    run: fn(Variant, u64) -> Result<MessageCounts>,
}

pub(super) const FAULTS: [Fault; 6] = [
    Fault {
        name: "server killed",
        what: "casts to one server, which is killed (`kill -9`) when a fifth has run, and started again",
        run: server_killed,
    },
    Fault {
        name: "daemon killed",
        what: "casts to one server; the daemon of its node is killed (`kill -9`) when a fifth has run, and started again",
        run: daemon_killed,
    },
    Fault {
        name: "slow consumer",
        what: "fanouts to three servers of a node, one of which takes 2 ms for each",
        run: slow_consumer,
    },
    Fault {
        name: "cold start",
        what: "calls of 8 threads, which begin half a second before their server starts",
        run: cold_start,
    },
    Fault {
        name: "full backlog",
        what: "at least 6,000 casts, faster than their server runs them, with rpc_zmq_topic_backlog=100",
        run: full_backlog,
    },
    Fault {
        name: "calls, server killed",
        what: "calls of 8 threads to one of two servers, one of which is killed",
        run: calls_server_killed,
    },
];

/// Counts the messages of one run by how they ended.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct MessageCounts {
    /// Messages sent. A fanout counts once for each server.
    pub(super) sent: u64,
    /// Messages that ran at least once; calls that were answered.
    pub(super) done: u64,
    /// Messages that did not run, and whose sender was told in time that they did not, or perhaps
    /// not.
    pub(super) reported: u64,
    /// Messages that did not run although a server had accepted them, because it was killed before
    /// its worker began. At most one for each worker.
    pub(super) lost_with_server: u64,
    /// Messages that did not run, and whose sender learnt nothing or the opposite, or (a call)
    /// noticed it only by its timeout.
    pub(super) lost_silently: u64,
    /// Additional executions of messages that ran more than once.
    pub(super) ran_again: u64,
    /// Calls that ran, but whose caller got no answer.
    pub(super) answer_unused: u64,
    /// The longest that a caller waited without an answer.
    pub(super) worst_wait_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct FaultResult {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) variants: Vec<(String, Vec<MessageCounts>)>,
}

impl FaultResult {
    /// The smallest, the median and the largest value of a column for a variant.
    pub(super) fn spread(&self, variant: usize, column: fn(&MessageCounts) -> f64) -> Option<Spread> {
        let values: Vec<f64> = self.variants.get(variant)?.1.iter().map(column).collect();
        Spread::of(&values)
    }
}

pub(super) fn measure(plan: &Plan, progress: &mut Progress) -> Result<Vec<FaultResult>> {
    let mut all = Vec::new();
    for Fault { name, what, run } in &FAULTS {
        let mut variants: Vec<_> =
            plan.fault_variants.iter().map(|variant| (variant.to_string(), Vec::new())).collect();
        for round in 0..plan.fault_rounds {
            for index in turns(round, variants.len()) {
                let variant = plan.fault_variants[index];
                progress.step(&format!("{name}: {variant}, round {} of {}", round + 1, plan.fault_rounds));
                variants[index].1.push(run(variant, plan.fault_messages)?);
            }
        }
        all.push(FaultResult { name, what, variants });
    }
    Ok(all)
}

fn two_nodes(variant: Variant, set: &[&str]) -> Result<Testbed> {
    let mut testbed = Testbed::start(variant.driver(), 2, set)?;
    testbed.nodes.place(TOPIC, &[1]);
    Ok(testbed)
}

fn server(testbed: &mut Testbed, workers: usize, takes: Duration) {
    let host = testbed.nodes.host(1).to_owned();
    testbed.serve(1, &host, workers, takes);
}

/// Starts to cast. The outcome of each message goes to a file.
fn casting(testbed: &Testbed, variant: Variant, count: u64, all: bool) -> Process {
    let mut command = testbed.process(variant, 0);
    command.args(["cast", TOPIC, "--count", &count.to_string()]).arg("--outcomes").arg(testbed.file("outcomes"));
    if all {
        command.arg("--all");
    }
    start(command)
}

/// Compares, message by message, the executions with the outcomes. Each of the `killed_workers` of
/// a killed server may have acknowledged one message that it had not begun.
fn count_casts(
    testbed: &Testbed,
    mut sender: Process,
    count: u64,
    copies: u64,
    killed_workers: u64,
) -> Result<MessageCounts> {
    let cast: CastResults = results_of(&mut sender, PATIENCE)?;
    // A retried message can run twice, so this waits until nothing runs, and not for a number.
    settle(testbed, count * copies, || format!("{:?}", cast.outcomes))?;
    let mut ran: BTreeMap<u64, u64> = BTreeMap::new();
    for number in testbed.journal()? {
        *ran.entry(number).or_default() += 1;
    }
    let (mut refused, mut acked) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
    for line in std::fs::read_to_string(testbed.file("outcomes"))?.lines() {
        if let Some((number, word)) = line.split_once(' ') {
            let of = if word == "ok" { &mut acked } else { &mut refused };
            *of.entry(number.parse()?).or_default() += 1;
        }
    }
    let mut counts = MessageCounts { sent: count * copies, ..MessageCounts::default() };
    for number in 0..count {
        let of = |all: &BTreeMap<u64, u64>| all.get(&number).copied().unwrap_or(0);
        let (ran, reported) = (of(&ran), of(&refused));
        let missing = copies.saturating_sub(ran);
        let unreported = missing.saturating_sub(reported);
        let lost_with_server =
            unreported.min(of(&acked).saturating_sub(ran)).min(killed_workers - counts.lost_with_server);
        counts.done += ran.min(copies);
        counts.ran_again += ran.saturating_sub(copies);
        counts.reported += missing.min(reported);
        counts.lost_with_server += lost_with_server;
        counts.lost_silently += unreported - lost_with_server;
    }
    Ok(counts)
}

/// Waits until nothing runs any more. An error shows what was sent, and its outcomes.
fn settle(testbed: &Testbed, sent: u64, outcomes: impl Fn() -> String) -> Result<()> {
    let settled = testbed.settle(u64::MAX, QUIET);
    settled.map(drop).with_context(|| format!("{sent} were sent, with these outcomes: {}", outcomes()))
}

/// The number of calls for each outcome, as text.
fn outcome_counts(called: &CallResults) -> String {
    let mut words = BTreeMap::<&str, usize>::from([("answered", called.answered)]);
    for (_, word) in &called.unanswered {
        *words.entry(word.as_str()).or_default() += 1;
    }
    format!("{words:?}")
}

/// Waits until a fifth has run, the moment of the fault. An error shows how many have run, and the
/// outcomes.
fn a_fifth_has_run(
    testbed: &Testbed,
    count: u64,
    sender: &mut Process,
    outcomes: fn(&mut Process) -> Result<String>,
) -> Result<()> {
    if within(FIFTH_BY, || testbed.ran().0 >= count / 5) {
        return Ok(());
    }
    let ran = testbed.ran().0;
    let words = outcomes(sender).unwrap_or_else(|error| format!("{error:#}"));
    bail!("{ran} of {count} have run within {FIFTH_BY:?}, too few for the fault to come; their outcomes: {words}")
}

fn outcomes_of_casts(sender: &mut Process) -> Result<String> {
    Ok(format!("{:?}", results_of::<CastResults>(sender, PATIENCE)?.outcomes))
}

fn outcomes_of_calls(caller: &mut Process) -> Result<String> {
    Ok(outcome_counts(&results_of::<CallResults>(caller, PATIENCE)?))
}

/// Workers of the server that is killed.
const CAST_WORKERS: usize = 4;
const CAST_SET: [&str; 2] = ["rpc_cast_timeout=10", "rpc_thread_pool_size=4"];

fn server_killed(variant: Variant, count: u64) -> Result<MessageCounts> {
    let mut testbed = two_nodes(variant, &CAST_SET)?;
    server(&mut testbed, CAST_WORKERS, Duration::from_millis(1));
    let mut sender = casting(&testbed, variant, count, false);
    a_fifth_has_run(&testbed, count, &mut sender, outcomes_of_casts)?;
    testbed.servers[0].process.kill9();
    server(&mut testbed, CAST_WORKERS, Duration::from_millis(1));
    count_casts(&testbed, sender, count, 1, CAST_WORKERS as u64)
}

fn daemon_killed(variant: Variant, count: u64) -> Result<MessageCounts> {
    let mut testbed = two_nodes(variant, &CAST_SET)?;
    server(&mut testbed, CAST_WORKERS, Duration::from_millis(1));
    let mut sender = casting(&testbed, variant, count, false);
    a_fifth_has_run(&testbed, count, &mut sender, outcomes_of_casts)?;
    testbed.nodes.restart_daemon(1);
    count_casts(&testbed, sender, count, 1, 0)
}

/// Warms up, and empties the journals after that.
fn warmed_up(testbed: &Testbed, to_all: bool) -> Result<()> {
    warm_up(testbed, to_all)?;
    for server in &testbed.servers {
        std::fs::write(&server.journal, "")?;
    }
    Ok(())
}

fn slow_consumer(variant: Variant, count: u64) -> Result<MessageCounts> {
    let mut testbed = two_nodes(variant, &["rpc_cast_timeout=5", "rpc_thread_pool_size=1"])?;
    for (name, takes) in [("s0", 0), ("s1", 0), ("slow", 2)] {
        testbed.serve(1, name, 1, Duration::from_millis(takes));
    }
    warmed_up(&testbed, true)?;
    let sender = casting(&testbed, variant, count, true);
    count_casts(&testbed, sender, count, 3, 0)
}

/// The backlog, which this fault fills.
const BACKLOG: u64 = 100;
/// libzmq's default bound of a socket's queue. A local connection has one at each end.
const HIGH_WATER: u64 = 1_000;
/// More messages than the kernel's buffers of a local connection hold: two of 208 KiB, at 300 bytes
/// a message.
const IN_THE_KERNEL: u64 = 1_500;
/// More messages than run during the sending.
const MEANWHILE: u64 = 2_400;

fn full_backlog(variant: Variant, count: u64) -> Result<MessageCounts> {
    // So many that all queues between the sender and the handler are full; the backlog is only one
    // of them.
    let count = count.max(BACKLOG + 2 * HIGH_WATER + IN_THE_KERNEL + MEANWHILE);
    let backlog = format!("rpc_zmq_topic_backlog={BACKLOG}");
    let mut testbed = two_nodes(variant, &["rpc_cast_timeout=5", "rpc_thread_pool_size=1", &backlog])?;
    server(&mut testbed, 1, Duration::from_millis(1));
    warmed_up(&testbed, false)?;
    let sender = casting(&testbed, variant, count, false);
    count_casts(&testbed, sender, count, 1, 0)
}

/// Compares the answers of callers with the executions.
fn count_calls(testbed: &Testbed, mut caller: Process) -> Result<MessageCounts> {
    let called: CallResults = results_of(&mut caller, PATIENCE)?;
    let made = called.answered as u64 + called.unanswered.len() as u64;
    settle(testbed, made, || outcome_counts(&called))?;
    let ran = testbed.journal()?;
    let distinct: BTreeSet<u64> = ran.iter().copied().collect();
    let silent = called.unanswered.iter().filter(|(_, word)| word == "Timeout").count() as u64;
    let unanswered = called.unanswered.len() as u64;
    Ok(MessageCounts {
        sent: called.answered as u64 + unanswered,
        done: called.answered as u64,
        reported: unanswered - silent,
        lost_with_server: 0,
        lost_silently: silent,
        ran_again: (ran.len() - distinct.len()) as u64,
        answer_unused: called.unanswered.iter().filter(|(number, _)| distinct.contains(number)).count() as u64,
        worst_wait_ms: called.worst_wait_ms,
    })
}

fn calling(testbed: &Testbed, variant: Variant, count: u64) -> Process {
    let mut command = testbed.process(variant, 0);
    command.args(["call", TOPIC, "--threads", "8", "--count", &count.to_string()]);
    start(command)
}

fn cold_start(variant: Variant, count: u64) -> Result<MessageCounts> {
    let mut testbed = two_nodes(variant, &["rpc_response_timeout=1", "rpc_thread_pool_size=8"])?;
    let caller = calling(&testbed, variant, count / 400).ready();
    wait_until(now() + Duration::from_millis(500));
    server(&mut testbed, 8, Duration::ZERO);
    count_calls(&testbed, caller)
}

fn calls_server_killed(variant: Variant, count: u64) -> Result<MessageCounts> {
    let mut testbed = two_nodes(variant, &["rpc_response_timeout=2", "rpc_thread_pool_size=4"])?;
    server(&mut testbed, 4, Duration::from_millis(10));
    testbed.serve(1, "other", 4, Duration::from_millis(10));
    // Enough calls that some are in flight at the kill. The legacy driver is helped, because this
    // fault is not about replies that arrive too early.
    let caller_variant = if variant == Variant::Legacy { Variant::LegacyHelped(5) } else { variant };
    let mut caller = calling(&testbed, caller_variant, count / 50);
    a_fifth_has_run(&testbed, count / 50 * 8, &mut caller, outcomes_of_calls)?;
    testbed.servers[0].process.kill9();
    count_calls(&testbed, caller)
}
