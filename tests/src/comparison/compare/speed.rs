//! Measures the speed of calls, casts and fanouts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::testbed::{TOPIC, Testbed, Variant, results_of, start};
use super::{CallResults, CastResults, Plan};
use crate::measure::{Contender, Measured, Progress, Sample, alternate};
use crate::messaging::Driver;
use crate::within;

/// Workers of the server that is called.
const WORKERS: usize = 8;
/// How much longer than requested a process may take.
const GRACE: Duration = Duration::from_secs(60);
/// If nothing has run for this time, nothing will any more.
const QUIET: Duration = Duration::from_millis(1_500);

/// The pause in milliseconds in which a SUB socket joins, for a number of callers: as short as
/// loses almost nothing.
pub(super) fn pause(callers: usize) -> u64 {
    match callers {
        0..=1 => 2,
        2..=8 => 3,
        _ => 15,
    }
}

pub(super) fn call_name(callers: usize, what: &str) -> String {
    format!("CALL, {}, {what}", callers_of(callers))
}

/// The name of the share of calls without an answer.
pub(super) const LOST: &str = "without answer";

/// The number of callers, in words.
pub(super) fn callers_of(callers: usize) -> String {
    format!("{callers} {}", if callers == 1 { "caller" } else { "callers" })
}

/// Calls over TCP between two nodes, by blocking threads, to a server with several workers.
pub(super) fn calls(plan: &Plan, progress: &mut Progress) -> Result<Measured> {
    // A lost reply costs the legacy driver its timeout, so a short one favours it.
    let testbed = |driver| -> Result<Testbed> {
        let mut testbed = Testbed::start(driver, 2, &["rpc_response_timeout=1", "rpc_thread_pool_size=8"])?;
        let host = testbed.nodes.host(1).to_owned();
        testbed.serve(1, &host, WORKERS, Duration::ZERO);
        Ok(testbed)
    };
    let (legacy, zmqv2) = (testbed(Driver::Legacy)?, testbed(Driver::Zmqv2)?);
    let mut all = Measured::default();
    for &callers in &plan.callers {
        let contender = |variant: Variant| {
            let testbed = if variant.driver() == Driver::Legacy { &legacy } else { &zmqv2 };
            Contender::new(variant.name(), move || calls_of(testbed, variant, callers, plan))
        };
        let variants = [Variant::Legacy, Variant::LegacyHelped(pause(callers)), Variant::Zmqv2];
        let what = format!("CALL, {}", callers_of(callers));
        let measured = alternate(plan.rounds, &what, &mut variants.map(contender), progress)?;
        all.merge(measured);
    }
    Ok(all)
}

fn calls_of(testbed: &Testbed, variant: Variant, callers: usize, plan: &Plan) -> Result<Vec<Sample>> {
    let mut command = testbed.process(variant, 0);
    command.args(["call", TOPIC, "--server", testbed.nodes.host(1), "--threads", &callers.to_string()]);
    command.args(["--seconds", &plan.calling.as_secs_f64().to_string()]);
    let called: CallResults = results_of(&mut start(command), plan.calling + GRACE)?;
    let made = called.answered + called.unanswered.len();
    ensure!(made > 0, "no call was made");
    let lost = called.unanswered.len() as f64 / made as f64 * 100.0;
    let name = |what: &str| call_name(callers, what);
    let mut samples = vec![
        Sample::new(name("rate"), "answers/s", called.answered as f64 / called.seconds),
        Sample::new(name(LOST), "%", lost),
    ];
    for (what, value) in [("p50", called.p50_us), ("p99", called.p99_us)] {
        samples.push(Sample::new(name(what), "us", value.unwrap_or(f64::NAN)));
    }
    Ok(samples)
}

pub(super) const CAST: &str = "CAST, until all have run, rate";
/// The name of casts that nobody ran.
pub(super) const CAST_LOST: &str = "CAST, never ran";
/// The name of casts whose sender was told that a server has them.
pub(super) const CAST_ACKED: &str = "CAST, acknowledged";

/// Casts by one thread, until all have run.
pub(super) fn casts(plan: &Plan, progress: &mut Progress) -> Result<Measured> {
    let testbed = |driver| -> Result<Testbed> {
        let mut testbed = Testbed::start(driver, 2, &["rpc_thread_pool_size=8"])?;
        let host = testbed.nodes.host(1).to_owned();
        testbed.nodes.place(TOPIC, &[1]);
        testbed.serve(1, &host, WORKERS, Duration::ZERO);
        warm_up(&testbed, false)?;
        Ok(testbed)
    };
    let (legacy, zmqv2) = (testbed(Driver::Legacy)?, testbed(Driver::Zmqv2)?);
    let run = |testbed: &Testbed, variant: Variant| -> Result<Vec<Sample>> {
        let Sent { rate, lost, acked } = send(testbed, variant, plan.casts, plan.casts, false)?;
        let share = [Sample::new(CAST_LOST, "%", lost), Sample::new(CAST_ACKED, "%", acked)];
        Ok([vec![Sample::new(CAST, "casts/s", rate)], share.to_vec()].concat())
    };
    let mut contenders = [
        Contender::new(Variant::Legacy.name(), || run(&legacy, Variant::Legacy)),
        Contender::new(Variant::Zmqv2.name(), || run(&zmqv2, Variant::Zmqv2)),
    ];
    alternate(plan.rounds, "CAST", &mut contenders, progress)
}

/// A message to warm up has run by then, or is lost.
const WARM_BY: Duration = Duration::from_secs(2);

pub(super) fn fanout_name(servers: usize, what: &str) -> String {
    format!("FANOUT to {servers}, {what}")
}

/// Fanouts by one thread to servers of one node, until all copies have run.
pub(super) fn fanouts(plan: &Plan, progress: &mut Progress) -> Result<Measured> {
    let mut all = Measured::default();
    for &servers in &plan.fanout_servers {
        let testbed = |driver| -> Result<Testbed> {
            let mut testbed = Testbed::start(driver, 2, &["rpc_thread_pool_size=1"])?;
            testbed.nodes.place(TOPIC, &[1]);
            for n in 0..servers {
                testbed.serve(1, &format!("s{n}"), 1, Duration::ZERO);
            }
            warm_up(&testbed, true)?;
            Ok(testbed)
        };
        let (legacy, zmqv2) = (testbed(Driver::Legacy)?, testbed(Driver::Zmqv2)?);
        let run = |testbed: &Testbed, variant: Variant| -> Result<Vec<Sample>> {
            let Sent { rate, lost, .. } = send(testbed, variant, plan.fanouts, plan.fanouts * servers as u64, true)?;
            let name = |what: &str| fanout_name(servers, what);
            Ok(vec![Sample::new(name("rate"), "copies/s", rate), Sample::new(name("never ran"), "%", lost)])
        };
        let mut contenders = [
            Contender::new(Variant::Legacy.name(), || run(&legacy, Variant::Legacy)),
            Contender::new(Variant::Zmqv2.name(), || run(&zmqv2, Variant::Zmqv2)),
        ];
        all.merge(alternate(plan.rounds, &format!("FANOUT to {servers}"), &mut contenders, progress)?);
    }
    Ok(all)
}

/// Sends one fanout or cast after the other until all servers have had one. PUB drops messages that
/// come before its subscribers have joined, and PUSH queues messages elsewhere before it has a
/// connection.
pub(super) fn warm_up(testbed: &Testbed, to_all: bool) -> Result<()> {
    let variant = if testbed.nodes.driver() == Driver::Legacy { Variant::Legacy } else { Variant::Zmqv2 };
    for _ in 0..20 {
        let mut command = testbed.process(variant, 0);
        command.args(["cast", TOPIC, "--count", "1"]);
        if to_all {
            command.arg("--all");
        }
        let _: CastResults = results_of(&mut start(command), GRACE)?;
        if within(WARM_BY, || testbed.servers.iter().all(|server| server.ran().0 > 0)) {
            return Ok(());
        }
    }
    anyhow::bail!("a server never got its messages to warm up")
}

/// The result of sending: executions a second, the percentage that never ran, and the percentage
/// that was accepted.
struct Sent {
    rate: f64,
    lost: f64,
    acked: f64,
}

/// Sends messages and waits until they have run.
fn send(testbed: &Testbed, variant: Variant, count: u64, expected: u64, to_all: bool) -> Result<Sent> {
    let (before, _) = testbed.ran();
    let mut command = testbed.process(variant, 0);
    command.args(["cast", TOPIC, "--count", &count.to_string()]);
    if to_all {
        // As many copies as a backlog holds. A broker would refuse more, and refused copies are not
        // measured.
        command.args(["--all", "--window", "200"]);
    }
    let cast: CastResults = results_of(&mut start(command), GRACE)?;
    let (ran, last) =
        testbed.settle(before + expected, QUIET).with_context(|| format!("outcomes: {:?}", cast.outcomes))?;
    let ran = ran - before;
    let seconds = last.saturating_sub(cast.begun) as f64 / 1e9;
    let percent = |part: u64| part as f64 / expected as f64 * 100.0;
    let acked = cast.outcomes.get("ok").copied().unwrap_or(0);
    Ok(Sent { rate: ran as f64 / seconds, lost: percent(expected.saturating_sub(ran)), acked: percent(acked) })
}
