//! Proves that a node that hangs costs each client one attempt, and gets messages again when it
//! goes on.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use zmqv2_client::RpcClient;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, echo, eventually, now, wait_until};

/// The longest time of an attempt. A busy machine delays no message for so long.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Long enough for several probes of the node that hangs.
const WATCH_FOR: Duration = Duration::from_secs(8);
/// A load that leaves time for other tests.
const PACE: Duration = Duration::from_millis(10);

/// Three nodes with a server each, and one more server, of one name, on the last two.
struct ThreeNodes {
    cluster: Cluster,
    brokers: Vec<Process>,
    _servers: Vec<Process>,
}

impl ThreeNodes {
    fn start() -> Self {
        let cluster = Cluster::new(3, &["t"]);
        let twins: Vec<_> = cluster.nodes()[1..].iter().map(|node| node.host.as_str()).collect();
        let all: Vec<_> = cluster.nodes().iter().map(|node| node.host.as_str()).collect();
        cluster.write_ring([("t".to_owned(), json!(all)), ("twins".to_owned(), json!(twins))].into_iter().collect());
        let brokers = cluster.nodes().iter().map(Node::broker).collect();
        let mut servers: Vec<_> =
            cluster.nodes().iter().zip(["s0", "s1", "s2"]).map(|(node, name)| node.serve("t", name, &[])).collect();
        servers.extend(cluster.nodes()[1..].iter().map(|node| node.serve("twins", "twin", &[])));
        Self { cluster, brokers, _servers: servers }
    }

    /// Clients of a topic on the nodes that do not hang.
    fn clients(&self, topic: &str, count: usize) -> Vec<RpcClient> {
        let client = |n: usize| {
            self.cluster.node(n % 2).client_with(Target::topic(topic).unwrap(), |config| {
                (config.response_timeout, config.cast_timeout) = (TIMEOUT, TIMEOUT);
            })
        };
        (0..count).map(client).collect()
    }

    /// Stops the last broker, and lets each client send for a time, in which it may lose one
    /// message at most. Then the broker goes on, and `is_back` must become true for each client.
    fn hang(
        &self,
        clients: &[RpcClient],
        send: impl Fn(&RpcClient) -> bool + Sync,
        is_back: impl Fn(&RpcClient) -> bool,
    ) {
        for client in clients {
            // All nodes are known and connected.
            (0..9).for_each(|_| assert!(send(client)));
        }
        self.brokers[2].signal(Signal::STOP);
        let stopped = now();
        let costs: Vec<_> = std::thread::scope(|scope| {
            let send = &send;
            let work = |client| {
                let (mut lost, mut count) = (0, 0);
                while stopped.elapsed() < WATCH_FOR || (count <= 100 && stopped.elapsed() < PATIENCE) {
                    lost += usize::from(!send(client));
                    count += 1;
                    wait_until(now() + PACE);
                }
                (lost, count)
            };
            let clients: Vec<_> = clients.iter().map(|client| scope.spawn(move || work(client))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        self.brokers[2].signal(Signal::CONT);
        println!("lost and all messages of each client: {costs:?}");
        for (lost, count) in costs {
            assert!(lost <= 1 && count > 100, "{lost} of {count} were lost");
        }
        for client in clients {
            eventually("the node gets messages again", || is_back(client));
        }
    }
}

fn call(client: &RpcClient) -> bool {
    echo(client, "call").is_ok()
}

fn cast(client: &RpcClient) -> bool {
    let cast = client.cast(&RequestContext::new(), "echo", &"cast").unwrap();
    cast.wait(PATIENCE).unwrap().is_acked()
}

#[test]
fn a_broker_that_hangs_costs_each_client_one_call_or_one_cast() {
    let nodes = ThreeNodes::start();
    let answered_by = |client: &RpcClient| echo(client, "again").is_ok_and(|server| server == "s2");
    nodes.hang(&nodes.clients("t", 3), call, answered_by);
    nodes.hang(&nodes.clients("t", 3), cast, answered_by);
}

#[test]
fn a_server_that_is_on_two_nodes_is_found_on_the_one_that_does_not_hang() {
    let nodes = ThreeNodes::start();
    // Each client finds it at one of both nodes, at random, and stays there.
    let [callers, casters] = [(); 2].map(|()| nodes.clients("twins", 8));
    let named = |client: &RpcClient| {
        let call = client.prepare().server("twin").unwrap();
        call.call::<serde_json::Value>(&RequestContext::new(), "echo", &1).is_ok()
    };
    nodes.hang(&callers, named, named);
    let cast_to = |client: &RpcClient| {
        let cast = client.prepare().server("twin").unwrap().cast(&RequestContext::new(), "echo", &1).unwrap();
        cast.wait(PATIENCE).unwrap().is_acked()
    };
    nodes.hang(&casters, cast_to, cast_to);
}
