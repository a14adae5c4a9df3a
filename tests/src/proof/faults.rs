//! A run under faults of every kind, one after the other: processes that stop, die or fork, a
//! network that is cut, peers that do not read, and brokers without free descriptors.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use zmqv2_proto::{Header, Kind, MessageId, MethodName, RequestContext, RequestRef, Target, Ttl};

use crate::checker::{Expected, Report};
use crate::journal::Journals;
use crate::zmtp::Zmtp;
use crate::{
    Cluster, JournaledRun, Node, PATIENCE, PrivateNetwork, Process, Summary, TOPIC, acceptance_times, now, spread,
    stop_all, wait_until,
};

/// The most descriptors of a broker.
const BROKER_DESCRIPTORS: usize = 400;
/// Connections that use them up.
const CONNECTIONS: usize = 500;
/// Calls whose answers nobody reads, and the length of each answer.
const UNREAD: (usize, usize) = (40, 1 << 20);
/// The pools of listeners, one at each of two nodes.
const POOLS: [&str; 2] = ["audit", "billing"];
/// Longer than any message may take (60 s) and a few processes need to end on a busy machine.
const END: Duration = Duration::from_secs(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGSTOP for a while.
    StopBroker,
    StopServer,
    StopListener,
    StopClient,
    /// `kill -9`, and another process takes its place.
    KillBroker,
    KillServer,
    KillListener,
    /// All packets are dropped for a while.
    Cut,
    /// A peer asks for large answers and does not read them.
    UnreadAnswers,
    /// More connections than the broker has descriptors.
    Descriptors,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::StopBroker,
        Self::KillServer,
        Self::StopClient,
        Self::Cut,
        Self::StopServer,
        Self::KillListener,
        Self::UnreadAnswers,
        Self::KillBroker,
        Self::StopListener,
        Self::Descriptors,
    ];
}

/// Numbers that look random, the same for the same seed.
#[derive(Debug)]
struct Choice(u64);

impl Choice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Between `shortest` and three times that.
    fn span(&mut self, shortest: Duration) -> Duration {
        shortest * (100 + self.below(200) as u32) / 100
    }
}

/// The processes of a run.
struct World<'a> {
    network: &'a PrivateNetwork,
    cluster: Cluster,
    journaled: JournaledRun,
    brokers: Vec<Process>,
    servers: Vec<(String, usize, Process)>,
    listeners: Vec<(usize, Process)>,
    clients: Vec<(String, Process)>,
    started_servers: usize,
    expected: Expected,
    choice: Choice,
    /// Each fault, and when it was over, in milliseconds of the machine's monotonic clock.
    ended: Vec<(Fault, u64)>,
}

/// What a run under faults has shown.
#[derive(Debug)]
pub struct FaultRun {
    /// The journals, which are removed unless the test fails.
    pub journaled: JournaledRun,
    pub report: Report,
    pub took: Duration,
    /// For each kind of fault, the times from its end until every client was answered again.
    pub recoveries: BTreeMap<Fault, Vec<Duration>>,
    /// Children that clients have forked.
    pub forked: u64,
}

/// Casts, calls, fanouts and notifications of seven clients on three nodes, with `rounds` of all
/// faults. Each fault takes `shortest` to three times that, and as long a pause follows.
pub fn faults(network: &PrivateNetwork, rounds: usize, shortest: Duration, seed: u64) -> FaultRun {
    raise_own_limit();
    let started = now();
    let mut world = World::start(network, seed);
    for round in 0..rounds {
        for at in 0..Fault::ALL.len() {
            // Another order in each round.
            let fault = Fault::ALL[(at * [1, 3, 7, 9][round % 4] + round) % Fault::ALL.len()];
            world.inject(fault, shortest);
            let pause = world.choice.span(shortest);
            wait_until(now() + pause);
        }
    }
    world.finish(started.elapsed())
}

impl<'a> World<'a> {
    fn start(network: &'a PrivateNetwork, seed: u64) -> Self {
        let cluster = Cluster::new(3, &[]);
        let hosts = [0, 1].map(|node: usize| cluster.node(node).host.clone());
        let pools: [_; 2] = std::array::from_fn(|node| {
            let host = &hosts[node];
            serde_json::json!({"node": host, "address": format!("{host}:9501"), "servers": [POOLS[node]]})
        });
        cluster.write_ring_text(&serde_json::json!({TOPIC: hosts, format!("{TOPIC}.info"): pools}).to_string());
        let brokers = cluster.nodes().iter().map(start_broker).collect();
        let (servers, listeners, clients, ended) = Default::default();
        let expected = ["plain", "hasty", "fanout", "forking", "ordered"].into_iter();
        let expected = expected.fold(Expected::nothing(), Expected::may_move);
        let mut world = Self {
            network,
            cluster,
            journaled: JournaledRun::new(),
            brokers,
            servers,
            listeners,
            clients,
            started_servers: 0,
            expected: expected.all_accepted("waiting").max_deliveries(1_000),
            choice: Choice::new(seed),
            ended,
        };
        for node in [0, 0, 1, 1] {
            world.start_server(node);
        }
        for node in [0, 1] {
            world.start_listener(node);
        }
        let clients: [(&str, &[&str]); 7] = [
            ("plain", &["--rate", "200", "--calls", "4", "--timeout", "5"]),
            // Some calls are cancelled, and all time out soon.
            ("hasty", &["--rate", "200", "--calls", "1", "--timeout", "1", "--drop", "5"]),
            ("waiting", &["--rate", "100", "--calls", "3", "--timeout", "60", "--retry", "1000", "--wait-for-ready"]),
            ("retrying", &["--rate", "100", "--calls", "2", "--timeout", "10", "--retry", "5"]),
            ("fanout", &["--rate", "50", "--how", "fanout", "--timeout", "5"]),
            ("notify", &["--rate", "50", "--how", "notify", "--timeout", "20", "--retry", "5"]),
            ("forking", &["--rate", "100", "--calls", "2", "--timeout", "5", "--fork", "1.5"]),
        ];
        for (at, (name, flags)) in clients.into_iter().enumerate() {
            let client = world.journaled.client(world.cluster.node(at % 3), name, flags);
            world.clients.push((name.to_owned(), client));
        }
        for (_, client) in &world.clients {
            client.wait_for_line("answered");
        }
        world
    }

    fn start_server(&mut self, node: usize) {
        let (name, workers) = (format!("s{}", self.started_servers), 1 + self.started_servers % 3);
        self.started_servers += 1;
        let server = self.journaled.server(self.cluster.node(node), &name, workers);
        self.servers.push((name, node, server));
    }

    fn start_listener(&mut self, node: usize) {
        let flags = ["--requeue", "50", "--workers", "3"];
        self.listeners.push((node, self.journaled.listener(self.cluster.node(node), POOLS[node], &flags)));
    }

    fn inject(&mut self, fault: Fault, shortest: Duration) {
        let span = self.choice.span(shortest);
        let over = now() + span;
        match fault {
            Fault::StopBroker => {
                let at = self.choice.below(self.brokers.len());
                frozen(&self.brokers[at], span);
            }
            Fault::StopServer => {
                let at = self.choice.below(self.servers.len());
                let (name, _, process) = &self.servers[at];
                let (from, until) = frozen(process, span);
                self.expected = std::mem::take(&mut self.expected).frozen(name.as_str(), from, until);
            }
            Fault::StopListener => {
                let at = self.choice.below(self.listeners.len());
                let (node, process) = &self.listeners[at];
                let (from, until) = frozen(process, span);
                self.expected = std::mem::take(&mut self.expected).frozen(POOLS[*node], from, until);
            }
            Fault::StopClient => {
                let at = self.choice.below(self.clients.len());
                frozen(&self.clients[at].1, span);
            }
            Fault::KillServer => {
                let at = self.choice.below(self.servers.len());
                let (_, node, mut process) = self.servers.remove(at);
                process.kill9();
                self.start_server(node);
            }
            Fault::KillListener => {
                let at = self.choice.below(self.listeners.len());
                let (node, mut process) = self.listeners.remove(at);
                process.kill9();
                self.start_listener(node);
            }
            Fault::KillBroker => {
                let at = self.choice.below(self.brokers.len());
                self.brokers[at].kill9();
                self.brokers[at] = start_broker(self.cluster.node(at));
            }
            Fault::Cut => {
                self.network.cut();
                wait_until(over);
                self.network.heal();
            }
            Fault::UnreadAnswers => {
                let peer = ask_and_never_read(&self.cluster.node(self.choice.below(2)).host);
                wait_until(over);
                drop(peer);
            }
            Fault::Descriptors => {
                let address = format!("{}:9501", self.cluster.node(self.choice.below(3)).host);
                let address: SocketAddr = address.parse().expect("an address");
                let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok();
                let connections: Vec<_> = (0..CONNECTIONS).map_while(connect).collect();
                wait_until(over);
                drop(connections);
            }
        }
        self.ended.push((fault, Ttl::monotonic_millis()));
    }

    fn finish(mut self, took: Duration) -> FaultRun {
        let stop = |(_, client): &mut (String, Process)| Summary::stop(client, END);
        let summaries: Vec<Summary> = self.clients.iter_mut().map(stop).collect();
        for node in 0..2 {
            self.cluster.node(node).wait_all_handled();
        }
        let mut servers: Vec<Process> = self.servers.into_iter().map(|(_, _, process)| process).collect();
        servers.extend(self.listeners.into_iter().map(|(_, process)| process));
        stop_all(&mut servers, PATIENCE);
        stop_all(&mut self.brokers, PATIENCE);
        let (journals, report) = self.journaled.check(&self.expected);
        let mut recoveries: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for (fault, at) in self.ended {
            recoveries.entry(fault).or_default().push(recovery(&journals, at));
        }
        let forked = summaries.iter().map(|summary| summary.forked).sum();
        FaultRun { journaled: self.journaled, report, took, recoveries, forked }
    }
}

/// Starts a broker that keeps notifications in a file and has few descriptors.
fn start_broker(node: &Node) -> Process {
    let store = format!("rpc_zmq_notification_store={}", node.file("notifications.redb").display());
    let flags = ["--set", &store, "--set", "rpc_zmq_max_deliveries=1000"];
    let broker = node.command("zmqv2-broker", &flags);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {BROKER_DESCRIPTORS}; exec \"$@\"")).arg("sh");
    limited.arg(broker.get_program()).args(broker.get_args());
    for (name, _) in broker.get_envs() {
        limited.env_remove(name);
    }
    Process::start(&format!("broker of {}", node.host), &mut limited).ready()
}

/// Stops a process for this long. Returns when, in milliseconds of the machine's monotonic clock.
fn frozen(process: &Process, span: Duration) -> (u64, u64) {
    let from = Ttl::monotonic_millis();
    process.signal(Signal::STOP);
    wait_until(now() + span);
    process.signal(Signal::CONT);
    (from, Ttl::monotonic_millis())
}

/// Sends calls with large answers to the broker at `host`, and reads none of them.
fn ask_and_never_read(host: &str) -> Zmtp {
    let (count, length) = UNREAD;
    let mut peer = Zmtp::tcp((host, 9501), "DEALER").expect("a broker");
    let method: MethodName = "text".parse().expect("a name");
    let body = RequestRef::new(&method, &length, &RequestContext::new()).encode().expect("a body");
    for _ in 0..count {
        let mut header = Header::new(Kind::Call, MessageId::random());
        header.key = Some(Target::topic(TOPIC).expect("a topic").key());
        header.ttl = Ttl::from_millis(5_000);
        // A broker that takes nothing more from this peer has cut it.
        if peer.send(&[b"", &header.encode(), &body]).is_err() {
            break;
        }
    }
    peer
}

/// The connections of this process count, too.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised");
}

/// The time from `since` until every client that was still running was answered.
fn recovery(journals: &Journals, since: u64) -> Duration {
    let first = |client| acceptance_times(client).into_iter().find(|at| *at >= since).unwrap_or(u64::MAX);
    let last = journals.clients.iter().map(first).max().unwrap_or(u64::MAX);
    Duration::from_millis(last - since)
}

impl FaultRun {
    /// Prints the result, and fails the test if a rule was broken.
    pub fn assert_clean(&self) {
        println!("{self}");
        self.report.assert_clean();
    }

    /// The number of faults.
    pub fn faults(&self) -> usize {
        self.recoveries.values().map(Vec::len).sum()
    }

    /// The longest time from the end of a fault until every client was answered again.
    pub fn longest_stall(&self) -> Duration {
        self.recoveries.values().flatten().copied().max().unwrap_or_default()
    }
}

impl fmt::Display for FaultRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, took, forked, .. } = self;
        writeln!(f, "{} faults and {forked} forks in {took:?}; {report}", self.faults())?;
        for (fault, times) in &self.recoveries {
            let [min, median, max] = spread(times.iter().copied());
            writeln!(
                f,
                "{fault:?}: {}; answered again after min {min:?}, median {median:?}, max {max:?}",
                times.len()
            )?;
        }
        Ok(())
    }
}
