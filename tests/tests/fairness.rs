//! Proves that requests go to the servers of a topic in turn.

use std::collections::{BTreeMap, BTreeSet};

use zmqv2_client::RpcClient;
use zmqv2_proto::Target;
use zmqv2_tests::{Cluster, Node, echo};

const NAMES: [&str; 3] = ["s0", "s1", "s2"];

#[test]
fn three_servers_on_one_node() {
    let cluster = Cluster::new(1, &["fair"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    // Servers take turns, not workers.
    let workers = ["1", "8", "3"];
    let _servers = [0, 1, 2].map(|n| node.serve("fair", NAMES[n], &["--workers", workers[n]]));
    is_fair(&node.client(Target::topic("fair").unwrap()));
    // This also holds for clients that do not know each other.
    let servers: BTreeSet<String> = (0..3)
        .map(|_| {
            let called = node.tool(&["call", "fair", "echo", "--verbose"]);
            assert_eq!(called.code(), 0, "{}", called.stderr);
            called.stderr
        })
        .collect();
    for name in NAMES {
        assert!(
            servers.iter().any(|line| line.contains(name)),
            "three calls in a row did not reach {name}: {servers:?}"
        );
    }
}

#[test]
fn three_servers_on_three_nodes() {
    let cluster = Cluster::new(3, &["fair"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _servers = [0, 1, 2].map(|n| cluster.node(n).serve("fair", NAMES[n], &["--workers", "2"]));
    is_fair(&cluster.node(0).client(Target::topic("fair").unwrap()));
}

fn is_fair(client: &RpcClient) {
    let order: Vec<String> = (0..14).map(|n| echo(client, &n.to_string()).expect("an answer")).collect();
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for server in &order {
        *shares.entry(server).or_default() += 1;
    }
    assert_eq!(shares.len(), 3, "a server got nothing of 14 calls: {order:?}");
    assert!(shares.values().all(|share| (4..=5).contains(share)), "{shares:?}");
    for three in order.windows(3) {
        assert_eq!(three.iter().collect::<BTreeSet<_>>().len(), 3, "3 calls in a row reach 3 servers: {order:?}");
    }
}
