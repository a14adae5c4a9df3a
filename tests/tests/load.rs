//! Proves for many calling processes, over TCP between nodes: every call gets its own answer, all
//! servers take turns, and connections are reused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use zmqv2_tests::{Cluster, Node, Process, within};

const PROCESSES: usize = 8;
const THREADS: usize = 2;
const CALLS: usize = 10_000;
const SERVERS: usize = 3;
/// The calls take seconds, and minutes on a very busy machine.
const END: Duration = Duration::from_secs(240);

/// The summary that a caller prints.
#[derive(Debug, Deserialize)]
struct Summary {
    answered: BTreeMap<String, usize>,
    crossed: usize,
    failed: BTreeMap<String, usize>,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

#[test]
fn ten_thousand_calls_of_eight_processes_reach_three_servers_on_three_nodes() {
    let cluster = Cluster::new(4, &[]);
    let (services, outside) = cluster.nodes().split_at(SERVERS);
    let hosts: Vec<_> = services.iter().map(|node| Value::from(node.host.as_str())).collect();
    cluster.write_ring(Map::from_iter([("load".to_owned(), Value::from(hosts))]));
    let _brokers: Vec<_> = services.iter().map(Node::broker).collect();
    let serve = |(n, node): (usize, &Node)| node.serve("load", &format!("s{n}"), &["--workers", "4"]);
    let _servers: Vec<_> = services.iter().enumerate().map(serve).collect();

    // The callers have their own node, so that every call goes over TCP.
    let count = (CALLS / PROCESSES / THREADS).to_string();
    let arguments = ["load", "--count", &count, "--threads", &THREADS.to_string(), "--padding", "100"];
    let callers: Vec<_> = (0..PROCESSES)
        .map(|n| Process::start(&format!("caller {n}"), &mut outside[0].command("caller", &arguments)))
        .collect();
    let subnet = services[0].host.rsplit_once('.').expect("an address").0;
    let mut connections = BTreeSet::new();
    let ended = |caller: &Process| caller.stderr().lines().any(|line| line.starts_with("summary"));
    let all_ended = within(END, || {
        connections.extend(tcp_connections(subnet));
        callers.iter().all(ended)
    });
    assert!(all_ended, "the callers have not made their calls within {END:?}");

    let summaries: Vec<Summary> = callers.iter().map(summary).collect();
    for summary in &summaries {
        assert!(summary.failed.is_empty(), "lost: {summary:?}");
        assert_eq!(summary.crossed, 0, "{summary:?}");
        assert_eq!(summary.answered.values().sum::<usize>(), CALLS / PROCESSES, "{summary:?}");
    }
    let mut by_server: BTreeMap<&str, usize> = BTreeMap::new();
    for (server, count) in summaries.iter().flat_map(|summary| &summary.answered) {
        *by_server.entry(server).or_default() += count;
    }
    assert_eq!(by_server.len(), SERVERS, "{by_server:?}");
    assert!(by_server.values().all(|count| *count >= CALLS / SERVERS / 2), "uneven: {by_server:?}");

    // Each call ran once, and the brokers hold nothing any more.
    let reports: Vec<_> = services.iter().map(Node::status).collect();
    let total = |counter: &str| reports.iter().map(|report| report.counters[counter]).sum::<u64>();
    // A request that a server could not begin soon was handed back, and delivered again.
    let delivered = total("delivered") - total("handed_back");
    assert_eq!((total("requests"), delivered, total("answered")), (10_000, 10_000, 10_000));
    assert!(reports.iter().all(|report| (report.in_flight, report.queued, report.held_bytes) == (0, 0, 0)));

    // RG09: one connection for each thread and node during the whole run, and not one for each call. On
    // a busy machine a broker may need seconds to answer a new connection. Then each process gives its
    // first one up, and probes the node with another one.
    let bound = PROCESSES * THREADS * SERVERS + PROCESSES * SERVERS;
    assert!((PROCESSES..=bound).contains(&connections.len()), "{} connections, bound {bound}", connections.len());

    let show = |pick: fn(&Summary) -> u64| summaries.iter().map(pick).max();
    let (p50, p99, max) = (show(|s| s.p50_us), show(|s| s.p99_us), show(|s| s.max_us));
    println!("{by_server:?}; {} connections; worst of a process, us: {p50:?} {p99:?} {max:?}", connections.len());
}

fn summary(caller: &Process) -> Summary {
    let line = caller.wait_for_line("summary");
    serde_json::from_str(line.trim_start_matches("summary")).expect("a summary")
}

/// The client ends of all TCP connections, in any state, to the brokers of a subnet.
fn tcp_connections(subnet: &str) -> BTreeSet<String> {
    let octets: Vec<u8> = subnet.split('.').map(|octet| octet.parse().expect("an octet")).collect();
    // The kernel prints the address bytes in memory order.
    let network = u32::from_le_bytes([octets[0], octets[1], octets[2], 0]);
    let ours = |end: &str| {
        let (address, port) = end.split_once(':').expect("an address and a port");
        port == "251D" && u32::from_str_radix(address, 16).expect("hex") & 0x00ff_ffff == network
    };
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    let mut clients = BTreeSet::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next().expect("local end"), fields.next().expect("remote end"));
        if ours(remote) {
            clients.insert(local.to_owned());
        } else if ours(local) && !remote.ends_with(":0000") {
            clients.insert(remote.to_owned());
        }
    }
    clients
}
