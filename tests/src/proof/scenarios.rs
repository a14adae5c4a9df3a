//! Runs that check the promises for casts and notifications: short in every build, full-size on
//! demand.

use std::fmt;
use std::time::{Duration, Instant};

use zmqv2_proto::Ttl;
use zmqv2_proto::config::DEFAULT_TOPIC_BACKLOG;

use crate::checker::{Expected, Report};
use crate::journal::Journals;
use crate::{
    Cluster, JournaledRun, Node, PATIENCE, Process, Summary, TOPIC, acceptance_times, now, spread, stop_all, wait_until,
};

#[derive(Debug)]
pub struct ScenarioResult {
    /// The journals, which are removed unless the test fails.
    pub journaled: JournaledRun,
    /// The findings of the checker.
    pub report: Report,
    /// The summaries of the clients, in the order of their start.
    pub clients: Vec<(String, Summary)>,
    pub took: Duration,
    /// For each restart of a broker, the time until every client was answered again.
    pub recoveries: Vec<Recovery>,
}

/// The time until traffic was back after the end of a broker.
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// Since the end of the old broker.
    pub after_kill: Duration,
    /// Since the new broker printed that it is ready.
    pub after_ready: Duration,
}

/// How often a process is stopped, and how many times.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The time between two stops.
    pub every: Duration,
    pub kills: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// `kill -9`.
    Killed,
    /// SIGTERM: the process finishes what it has begun.
    Orderly,
}

impl StopMode {
    fn stop(self, process: &mut Process) {
        match self {
            Self::Killed => process.kill9(),
            Self::Orderly => stop_all(std::slice::from_mut(process), PATIENCE),
        }
    }
}

/// Longer than any message may take (30 s) and a few processes need to end on a busy machine.
const END: Duration = Duration::from_secs(120);

/// Casts of four clients to three nodes, each with a server that has one worker.
///
/// All clients together may have as many messages outstanding as one topic may have in the backlog
/// of one broker. Up to that number every cast must be accepted, in order. Above it, a broker may
/// be busy: then another broker takes the cast later, or it is refused.
pub fn casts(count: u64, max_outstanding: usize, limit: Duration) -> ScenarioResult {
    let cluster = Cluster::new(3, &[TOPIC]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let journaled = JournaledRun::new();
    let servers = cluster.nodes().iter().enumerate();
    let mut servers: Vec<_> = servers.map(|(n, node)| journaled.server(node, &format!("s{n}"), 1)).collect();
    let (count, bound) = ((count / 4).to_string(), max_outstanding.to_string());
    // Longer than the whole run may take: a message that waits for its turn is not lost.
    let timeout = limit.as_secs().to_string();
    let flags = ["--count", &count, "--max-outstanding", &bound, "--timeout", &timeout];
    let started = now();
    let names = (0..4).map(|n| format!("c{n}"));
    let clients = names.enumerate().map(|(n, name)| (journaled.client(cluster.node(n % 3), &name, &flags), name));
    let mut clients: Vec<_> = clients.collect();
    let summaries = clients.iter_mut().map(|(client, name)| (name.clone(), Summary::of(client, limit))).collect();
    stop_all(&mut servers, PATIENCE);
    let took = started.elapsed();
    let fits = 4 * max_outstanding <= DEFAULT_TOPIC_BACKLOG;
    let expect = |expected: Expected, name| if fits { expected.all_accepted(name) } else { expected.may_move(name) };
    let expected = clients.iter().map(|(_, name)| name.as_str()).fold(Expected::nothing(), expect);
    let (_, report) = journaled.check(&expected);
    ScenarioResult { journaled, report, clients: summaries, took, recoveries: Vec::new() }
}

/// Casts and calls to two nodes. One server stays; the others are stopped and started again.
///
/// Messages with retries must be accepted. When servers stop in order, all messages must be
/// accepted.
pub fn servers_stop(mode: StopMode, schedule: Schedule) -> ScenarioResult {
    let cluster = Cluster::new(2, &[TOPIC]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let journaled = JournaledRun::new();
    let mut servers = vec![journaled.server(cluster.node(0), "survivor", 1)];
    let victim = |n: u32| journaled.server(cluster.node(n as usize % 2), &format!("victim-{n}"), 1 + n as usize % 3);
    let mut victims = std::collections::VecDeque::from([victim(0), victim(1)]);
    // This ring has only the node of the server that stays, so a message for that server never goes
    // to the other node.
    let ring = cluster.node(0).file("ring-of-one.json");
    std::fs::write(&ring, serde_json::json!({ TOPIC: [cluster.node(0).host] }).to_string()).expect("a file");
    let ring = format!("ringfile={}", ring.display());
    let load = Clients::start(
        &journaled,
        &cluster,
        &[
            ("plain", &["--calls", "4"]),
            ("ordered", &["--server", "survivor", "--set", &ring]),
            ("retrying", &["--retry", "10"]),
            ("retrying-calls", &["--retry", "10", "--calls", "2"]),
        ],
    );
    schedule.run(|n| {
        let mut leaving = victims.pop_front().expect("two victims");
        mode.stop(&mut leaving);
        victims.push_back(victim(n + 2));
    });
    let (clients, took) = load.stop();
    servers.extend(victims);
    stop_all(&mut servers, PATIENCE);
    let accepted = ["ordered", "retrying", "retrying-calls"].iter();
    let expected = accepted.fold(Expected::nothing(), |expected, client| expected.all_accepted(*client));
    let expected = expected.may_move("plain");
    let expected = if mode == StopMode::Orderly { expected.all_accepted("plain") } else { expected };
    let (_, report) = journaled.check(&expected);
    ScenarioResult { journaled, report, clients, took, recoveries: Vec::new() }
}

/// Casts, calls and notifications to a node whose broker is stopped and started again. The broker
/// keeps notifications in a file.
///
/// Two clients send `rate` notifications a second each. Listeners must be able to keep up with
/// them.
pub fn broker_stops(mode: StopMode, schedule: Schedule, rate: u32) -> ScenarioResult {
    let rate = rate.to_string();
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    write_ring(&cluster, &["audit", "billing"]);
    let store = format!("rpc_zmq_notification_store={}", node.file("notifications.redb").display());
    let start = || node.broker_with(&["--set", &store]);
    let mut broker = start();
    let journaled = JournaledRun::new();
    let mut servers = vec![journaled.server(node, "one", 1), journaled.server(node, "many", 4)];
    // Listeners requeue some notifications, which must not be lost either.
    for (pool, flags) in
        [("audit", ["--requeue", "50"]), ("audit", ["--requeue", "50"]), ("billing", ["--workers", "3"])]
    {
        servers.push(journaled.listener(node, pool, &flags));
    }
    let load = Clients::start(
        &journaled,
        &cluster,
        &[
            ("plain", &["--calls", "4"]),
            ("retrying", &["--retry", "10"]),
            ("waiting", &["--retry", "10", "--wait-for-ready"]),
            ("notify", &["--how", "notify", "--rate", &rate]),
            ("notify-retrying", &["--how", "notify", "--rate", &rate, "--retry", "10"]),
        ],
    );
    let mut restarts = Vec::new();
    schedule.run(|_| {
        let killed = Ttl::monotonic_millis();
        mode.stop(&mut broker);
        broker = start();
        restarts.push((killed, Ttl::monotonic_millis()));
    });
    let (clients, took) = load.stop();
    // The test runner shows this only if the test fails.
    println!("the last broker printed: {}", broker.stderr());
    node.wait_all_handled();
    stop_all(&mut servers, PATIENCE);
    let expected = Expected::nothing().all_accepted("waiting");
    // While a broker stops in order, it may refuse messages.
    let expected = if mode == StopMode::Killed { expected.all_accepted("notify-retrying") } else { expected };
    let (journals, report) = journaled.check(&expected);
    let recoveries = restarts.into_iter().map(|(killed, ready)| recovery(&journals, killed, ready)).collect();
    ScenarioResult { journaled, report, clients, took, recoveries }
}

/// Notifications to two pools of a node whose listeners are stopped and started again. One listener
/// of one pool stays.
///
/// Nothing is lost, and requeued notifications come again. When listeners stop in order, nothing is
/// repeated.
pub fn listeners_stop(mode: StopMode, schedule: Schedule) -> ScenarioResult {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    write_ring(&cluster, &["left", "kept"]);
    // Each listener that dies may have had the same notification, so its deliveries add up.
    let _broker = node.broker_with(&["--set", "rpc_zmq_max_deliveries=1000"]);
    let journaled = JournaledRun::new();
    let start = |pool| journaled.listener(node, pool, &["--work", "5", "--workers", "8", "--requeue", "50"]);
    let mut listeners = vec![start("kept")];
    let mut victims = std::collections::VecDeque::from(["kept", "left"].map(|pool| (pool, start(pool))));
    let rate = ["--how", "notify", "--rate", "500"];
    let retrying = [&rate[..], &["--retry", "3"]].concat();
    let load = Clients::start(&journaled, &cluster, &[("plain", &rate), ("retrying", &retrying)]);
    schedule.run(|_| {
        let (pool, mut leaving) = victims.pop_front().expect("two victims");
        mode.stop(&mut leaving);
        victims.push_back((pool, start(pool)));
    });
    let (clients, took) = load.stop();
    node.wait_all_handled();
    listeners.extend(victims.into_iter().map(|(_, listener)| listener));
    stop_all(&mut listeners, PATIENCE);
    let expected = Expected::nothing().all_accepted("plain").all_accepted("retrying");
    let (_, report) = journaled.check(&expected);
    ScenarioResult { journaled, report, clients, took, recoveries: Vec::new() }
}

/// A ring of one node, with these pools of listeners.
fn write_ring(cluster: &Cluster, pools: &[&str]) {
    let host = &cluster.node(0).host;
    let listed = serde_json::json!([{"node": host, "address": format!("{host}:9501"), "servers": pools}]);
    cluster.write_ring_text(&serde_json::json!({TOPIC: [host], format!("{TOPIC}.info"): listed}).to_string());
}

/// The time until every client was answered again.
fn recovery(journals: &Journals, killed: u64, ready: u64) -> Recovery {
    let first_of = |client| acceptance_times(client).into_iter().find(|at| *at >= ready).unwrap_or(u64::MAX);
    let back = journals.clients.iter().map(first_of).max().unwrap_or(u64::MAX);
    Recovery { after_kill: Duration::from_millis(back - killed), after_ready: Duration::from_millis(back - ready) }
}

impl Schedule {
    /// Calls `kill` with 0, 1, 2, ..., one period apart, and waits one more period at the end.
    fn run(self, mut kill: impl FnMut(u32)) {
        let started = now();
        for n in 0..self.kills {
            wait_until(started + self.every * (n + 1));
            kill(n);
        }
        wait_until(started + self.every * (self.kills + 1));
    }
}

/// Clients that go on until they are stopped.
struct Clients {
    started: Instant,
    clients: Vec<(String, Process)>,
}

impl Clients {
    /// Starts a client for each name and flags, and waits until each has had an answer.
    fn start(journaled: &JournaledRun, cluster: &Cluster, who: &[(&str, &[&str])]) -> Self {
        let started = now();
        let nodes = cluster.nodes().iter().cycle();
        let start = |((name, flags), node): (&(&str, &[&str]), &Node)| {
            let flags: Vec<_> = ["--max-outstanding", "500"].iter().chain(*flags).copied().collect();
            ((*name).to_owned(), journaled.client(node, name, &flags))
        };
        let clients: Vec<_> = who.iter().zip(nodes).map(start).collect();
        for (_, client) in &clients {
            client.wait_for_line("answered");
        }
        Self { started, clients }
    }

    fn stop(mut self) -> (Vec<(String, Summary)>, Duration) {
        let stop = |(name, client): &mut (String, Process)| (name.clone(), Summary::stop(client, END));
        let summaries = self.clients.iter_mut().map(stop).collect();
        (summaries, self.started.elapsed())
    }
}

impl ScenarioResult {
    /// Prints the result, and fails the test if a rule was broken.
    pub fn assert_clean(&self) {
        println!("{self}");
        self.report.assert_clean();
    }

    /// The smallest, the median and the largest time from a broker's readiness until every client
    /// was answered again.
    pub fn recovery(&self) -> [Duration; 3] {
        spread(self.recoveries.iter().map(|recovery| recovery.after_ready))
    }
}

impl fmt::Display for ScenarioResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "took {:?}; {}", self.took, self.report)?;
        for (name, summary) in &self.clients {
            let Summary { sent, seconds, idle_kib, peak_kib, slowed, full, resent, late, ignored, open, forked } =
                summary;
            let rate = *sent as f64 / seconds;
            writeln!(
                f,
                "{name}: {sent} in {seconds:.1} s ({rate:.0}/s), memory {idle_kib} KiB idle, {peak_kib} KiB at most, \
                 {slowed} waited for room, {full} refused for it, {resent} sent again, {late} late answers, \
                 {ignored} ignored, {open} open at the close, {forked} forked"
            )?;
        }
        if !self.recoveries.is_empty() {
            let [min, median, max] = self.recovery();
            write!(f, "answered again after ready: min {min:?}, median {median:?}, max {max:?}; ")?;
            let [min, median, max] = spread(self.recoveries.iter().map(|recovery| recovery.after_kill));
            writeln!(f, "after the kill: min {min:?}, median {median:?}, max {max:?}")?;
        }
        Ok(())
    }
}
