//! Proves for fanouts through real processes: one message goes to each node and one copy to each
//! server process, each copy has an outcome, and nobody waits for a silent node or server.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};
use zmqv2_client::{FanoutReport, RequestContext};
use zmqv2_proto::Target;
use zmqv2_tests::{Cluster, PATIENCE, Process, now};

const NODES: usize = 6;
const SERVERS: usize = 10;
const TOPIC: &str = "fleet";

/// Nodes, each with a broker and servers. The ring file lists the servers.
struct Fleet {
    cluster: Cluster,
    brokers: Vec<Process>,
    servers: Vec<Vec<Process>>,
}

impl Fleet {
    fn start(nodes: usize, servers: usize) -> Self {
        let cluster = Cluster::new(nodes.try_into().expect("a few nodes"), &[]);
        let names = |n: usize| (0..servers).map(|s| format!("s{n}-{s}")).collect::<Vec<_>>();
        list(&cluster, 0..nodes, names);
        let brokers: Vec<_> = cluster.nodes().iter().map(zmqv2_tests::Node::broker).collect();
        let start = |n: usize, name: &String| {
            let mut command = cluster.node(n).command("zmqv2", &["serve", TOPIC, "--workers", "1", "--server", name]);
            Process::start(name, &mut command)
        };
        // Starts all of them, then waits for each.
        let started: Vec<Vec<_>> = (0..nodes).map(|n| names(n).iter().map(|name| start(n, name)).collect()).collect();
        let servers = started.into_iter().map(|node| node.into_iter().map(Process::ready).collect()).collect();
        Self { cluster, brokers, servers }
    }

    /// Stops all processes of a node, like a machine that hangs.
    fn signal_node(&self, n: usize, signal: Signal) {
        self.brokers[n].signal(signal);
        self.servers[n].iter().for_each(|server| server.signal(signal));
    }

    fn counter(&self, n: usize, name: &str) -> u64 {
        self.cluster.node(n).status().counters[name]
    }
}

/// Writes a ring file with these nodes and their servers.
fn list(cluster: &Cluster, nodes: impl IntoIterator<Item = usize>, servers: impl Fn(usize) -> Vec<String>) {
    let entry = |n: usize| {
        let host = &cluster.node(n).host;
        json!({"node": host, "address": format!("{host}:9501"), "servers": servers(n)})
    };
    let entries: Vec<Value> = nodes.into_iter().map(entry).collect();
    cluster.write_ring(Map::from_iter([(TOPIC.to_owned(), Value::from(entries))]));
}

fn target() -> Target {
    Target::topic(TOPIC).expect("a topic")
}

/// The number of results for each server, which must be one.
fn once_each(report: &FanoutReport) -> usize {
    let mut by_server: BTreeMap<_, usize> = BTreeMap::new();
    for result in &report.results {
        *by_server.entry(result.server.clone().expect("a listed server")).or_default() += 1;
    }
    assert!(by_server.values().all(|count| *count == 1), "{by_server:?}");
    by_server.len()
}

#[test]
fn sixty_servers_on_six_nodes_and_a_node_that_hangs_rg03_rg04_rg05_rg23() {
    let fleet = Fleet::start(NODES, SERVERS);
    let timeout = Duration::from_secs(5);
    let client = fleet.cluster.node(0).client_with(target(), |config| config.cast_timeout = timeout);

    let context = RequestContext::new();
    let report = client.fanout(&context, "echo", &"all").expect("it is sent").wait(PATIENCE).expect("a report");
    assert!(report.all_acked(), "{report}");
    assert_eq!((once_each(&report), report.acked()), (60, 60));
    for n in 0..NODES {
        let counts = ["requests", "fanout_copies", "delivered"].map(|name| fleet.counter(n, name));
        assert_eq!(counts, [1, 10, 10], "messages that came to node {n}, copies of them, and copies delivered");
    }

    fleet.signal_node(3, Signal::STOP);
    let started = now();
    let handle = client.fanout(&context, "echo", &"all").expect("it is sent");
    zmqv2_tests::eventually("the servers of the other nodes accept it", || handle.so_far().acked() == 50);
    assert!(started.elapsed() < timeout / 2, "a node that hangs delays the others: {:?}", started.elapsed());
    assert!(handle.report().is_none(), "the node that hangs has not answered yet");
    let report = handle.wait(PATIENCE).expect("a report");
    assert!(started.elapsed() >= timeout && started.elapsed() < timeout + Duration::from_secs(1));
    assert_eq!((once_each(&report), report.acked(), report.unacknowledged()), (60, 50, 10), "{report}");
    let silent = report.results.iter().filter(|result| !result.outcome.is_acked());
    let host = fleet.cluster.node(3).host.as_str();
    assert!(silent.into_iter().all(|result| result.node.as_ref().is_some_and(|node| node.as_str() == host)));

    fleet.signal_node(3, Signal::CONT);
    let report = client.fanout(&context, "echo", &"all").expect("it is sent").wait(PATIENCE).expect("a report");
    assert!(report.all_acked() && report.acked() == 60, "{report}");
}

#[test]
fn a_server_that_hangs_delays_no_other_of_its_node_and_a_dead_one_is_reported() {
    let mut fleet = Fleet::start(1, 3);
    let timeout = Duration::from_secs(3);
    let client = fleet.cluster.node(0).client_with(target(), |config| config.cast_timeout = timeout);
    let context = RequestContext::new();

    fleet.servers[0][0].signal(Signal::STOP);
    let started = now();
    let handle = client.fanout(&context, "echo", &1).expect("it is sent");
    zmqv2_tests::eventually("the others accept it", || handle.so_far().acked() == 2);
    assert!(started.elapsed() < timeout / 2, "{:?}", started.elapsed());
    let report = handle.wait(PATIENCE).expect("a report");
    assert_eq!((once_each(&report), report.acked(), report.unacknowledged()), (3, 2, 1), "{report}");

    // It dies with a copy that it has not accepted, which is known at once.
    let started = now();
    let handle = client.fanout(&context, "echo", &2).expect("it is sent");
    zmqv2_tests::eventually("the others accept it", || handle.so_far().acked() == 2);
    fleet.servers[0][0].kill9();
    let report = handle.wait(PATIENCE).expect("a report");
    assert!(started.elapsed() < timeout, "{:?}", started.elapsed());
    assert_eq!((once_each(&report), report.acked(), report.refused()), (3, 2, 1), "{report}");

    // The ring file still lists it, but its broker knows that it is gone, and does not report it.
    let report = client.fanout(&context, "echo", &3).expect("it is sent").wait(PATIENCE).expect("a report");
    assert_eq!(report.acked(), 2, "{report}");
}

/// For a while the directory does not list its node, as during a restart.
#[test]
fn the_part_for_a_node_that_is_down_waits_for_that_node_and_goes_to_no_other() {
    let mut fleet = Fleet::start(2, 1);
    let client = fleet.cluster.node(0).client_with(target(), |config| config.cast_timeout = PATIENCE);
    let names = |n: usize| vec![format!("s{n}-0")];
    // The broker stops, and its server stays.
    fleet.brokers[1].kill9();
    let waits = client.prepare().wait_for_ready(true);
    let handle = waits.fanout(&RequestContext::new(), "echo", &"all").expect("it is sent");
    zmqv2_tests::eventually("the other node accepts it", || handle.so_far().acked() == 1);
    list(&fleet.cluster, [0], names);
    // Long enough for several reads of the directory.
    let until = now() + Duration::from_millis(1500);
    while now() < until {
        assert_eq!(fleet.counter(0, "requests"), 1, "the node that is there got the other one's part");
    }
    list(&fleet.cluster, [0, 1], names);
    fleet.brokers[1] = fleet.cluster.node(1).broker();
    let report = handle.wait(PATIENCE).expect("a report");
    assert!(report.all_acked() && report.acked() == 2, "{report}");
    assert_eq!((fleet.counter(0, "requests"), fleet.counter(1, "delivered")), (1, 1));
}
