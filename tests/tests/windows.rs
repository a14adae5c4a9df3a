//! Proves for servers with more requests than workers: requests that a slow server has not begun
//! run elsewhere (P10), and everything runs once (decision 0021).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zmqv2_client::{CallHandle, RpcClient};
use zmqv2_proto::{Config, RequestContext, Target};
use zmqv2_server::{Methods, RpcServer};
use zmqv2_tests::gate::Gate;
use zmqv2_tests::{Cluster, Node, PATIENCE, eventually, now};

/// A server that counts its executions.
struct GatedServer {
    rpc: RpcServer,
    workers: usize,
    gate: Arc<Gate>,
    second_gate: Arc<Gate>,
    ran: Arc<AtomicUsize>,
}

impl GatedServer {
    fn start(node: &Node, name: &str, workers: usize) -> Self {
        Self::start_with(node, name, workers, node.config())
    }

    fn start_with(node: &Node, name: &str, workers: usize, config: Config) -> Self {
        let [gate, second_gate] = [(); 2].map(|()| Gate::new(true));
        let ran = Arc::new(AtomicUsize::new(0));
        let (passed, gone, counted) = (Arc::clone(&gate), Arc::clone(&second_gate), Arc::clone(&ran));
        let methods = Methods::new()
            .method("pass", move |(): ()| {
                passed.pass();
                Ok(())
            })
            .unwrap()
            .method("go", move |(): ()| {
                gone.pass();
                Ok(())
            })
            .unwrap()
            .method("nap", move |(): ()| {
                // Too short to be seen as stuck, and three times the limit for a quick handler.
                std::thread::park_timeout(Duration::from_micros(300));
                Ok(())
            })
            .unwrap()
            .method("length", move |text: String| {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(text.len())
            })
            .unwrap();
        let target = Target::topic("t").unwrap().with_server(name).unwrap();
        let builder = RpcServer::builder(target).config(config).ipc_dir(&node.ipc_dir);
        let server = builder.endpoint(methods).workers(workers).start().unwrap();
        server.wait_ready(PATIENCE).unwrap();
        Self { rpc: server, workers, gate, second_gate, ran }
    }

    /// Calls that keep all workers busy until the gate opens.
    fn hold(&self, client: &RpcClient) -> Vec<CallHandle<()>> {
        self.gate.close();
        let pass = |_| client.call_async(&RequestContext::new(), "pass", &()).unwrap();
        let held = (0..self.workers).map(pass).collect();
        eventually("all workers wait", || self.gate.waiting() == self.workers);
        held
    }

    fn release(&self, held: Vec<CallHandle<()>>) {
        self.gate.open();
        assert!(held.into_iter().all(|call| call.wait().is_ok()));
    }
}

/// Calls with texts of these lengths.
fn lengths(client: &RpcClient, lengths: impl IntoIterator<Item = usize>) -> Vec<(usize, CallHandle<usize>)> {
    let call = |length| {
        let call = client.call_async(&RequestContext::new(), "length", &"x".repeat(length));
        (length, call.unwrap())
    };
    lengths.into_iter().map(call).collect()
}

/// Quick calls, and some that are too large for a bundle.
fn mixed() -> impl Iterator<Item = usize> {
    (0..200).map(|number| if number % 20 == 7 { 10_000 + number } else { number })
}

/// After this many quick calls the window is wide.
fn quick() -> impl Iterator<Item = usize> {
    (0..200).map(|number| number % 10)
}

/// One test at a time, because other work can make a quick handler slow.
fn alone() -> impl Drop {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(calls: Vec<(usize, CallHandle<usize>)>) {
    for (length, call) in calls {
        assert_eq!(call.wait().unwrap(), length);
    }
}

fn handed_back(node: &Node) -> u64 {
    node.status().counters["handed_back"]
}

/// All workers of one server wait. The other server runs the requests that the first had not begun.
fn a_stuck_server_keeps_no_more_than_its_workers_can_run(workers: usize) {
    let _turn = alone();
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (stuck, other) = (GatedServer::start(node, "stuck", workers), GatedServer::start(node, "other", workers));
    let [any, only] = [None, Some("stuck")].map(|name| {
        let target = Target::topic("t").unwrap();
        node.client(name.map_or(target.clone(), |name| target.with_server(name).unwrap()))
    });
    let mut sent = 0;
    let give_up = now() + PATIENCE;
    // Its window is wide after quick handlers. A busy machine may prevent that.
    while handed_back(node) == 0 {
        assert!(now() < give_up, "nothing is ever handed back");
        check(lengths(&only, quick()));
        let held = stuck.hold(&only);
        check(lengths(&any, mixed()));
        assert_eq!(stuck.gate.waiting(), workers);
        stuck.release(held);
        sent += 400;
    }
    assert_eq!(stuck.ran.load(Ordering::SeqCst) + other.ran.load(Ordering::SeqCst), sent, "each runs once");
    stuck.rpc.stop().unwrap();
    other.rpc.stop().unwrap();
}

#[test]
fn requests_that_two_stuck_workers_have_not_begun_run_elsewhere_p10() {
    a_stuck_server_keeps_no_more_than_its_workers_can_run(2);
}

#[test]
fn requests_that_sixteen_stuck_workers_have_not_begun_run_elsewhere_p10() {
    a_stuck_server_keeps_no_more_than_its_workers_can_run(16);
}

/// Its requests are short and begin all the time. Still, waiting requests could run elsewhere.
#[test]
fn a_server_that_becomes_slow_keeps_only_what_its_workers_can_run_p10() {
    let _turn = alone();
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (first, other) = (GatedServer::start(node, "first", 2), GatedServer::start(node, "other", 2));
    let any = node.client(Target::topic("t").unwrap());
    let only = node.client(Target::topic("t").unwrap().with_server("first").unwrap());
    // A busy machine may spoil a few rounds, and make one of very many handlers look stuck.
    let mut rounds = 0..50;
    while handed_back(node) == 0 {
        assert!(rounds.next().is_some(), "nothing is ever handed back");
        check(lengths(&only, quick()));
        let nap = |_| any.call_async::<()>(&RequestContext::new(), "nap", &()).unwrap();
        let naps: Vec<_> = (0..300).map(nap).collect();
        assert!(naps.into_iter().all(|nap| nap.wait().is_ok()));
    }
    first.rpc.stop().unwrap();
    other.rpc.stop().unwrap();
}

/// There is no other server: a request that was handed back waits at the broker, and comes when the
/// server is free again.
#[test]
fn a_server_gets_a_handed_back_request_again_when_it_can_run_it() {
    let _turn = alone();
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let server = GatedServer::start(node, "s", 3);
    let client = node.client(Target::topic("t").unwrap());
    let (mut sent, give_up) = (0, now() + PATIENCE);
    while handed_back(node) == 0 {
        assert!(now() < give_up, "nothing is ever handed back");
        check(lengths(&client, quick()));
        let held = server.hold(&client);
        let calls = lengths(&client, mixed());
        eventually("most wait at the broker", || node.status().queued >= 200);
        server.release(held);
        check(calls);
        sent += 400;
    }
    assert_eq!(server.ran.load(Ordering::SeqCst), sent, "each runs once");
    server.rpc.stop().unwrap();
}

/// With a window of the smallest value, or one that the workers fill, a server never gets more than
/// it can run.
#[test]
fn without_a_window_nothing_is_handed_back() {
    let _turn = alone();
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let mut config = node.config();
    config.window = 0;
    let server = GatedServer::start_with(node, "s", 2, config);
    let client = node.client(Target::topic("t").unwrap());
    check(lengths(&client, (0..500).map(|_| 1)));
    let held = server.hold(&client);
    let calls = lengths(&client, mixed());
    eventually("all of them wait at the broker", || node.status().queued == 200);
    server.release(held);
    check(calls);
    assert_eq!(handed_back(node), 0);
    server.rpc.stop().unwrap();
}

/// Requests of an earlier broker give a server no place at the next one. Otherwise it would get
/// more than it can run, and hand it back again and again.
#[test]
fn requests_of_an_earlier_broker_give_no_places_at_the_next_one() {
    let _turn = alone();
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let mut broker = node.broker();
    let server = GatedServer::start(node, "s", 2);
    let client = node.client(Target::topic("t").unwrap());
    let cast = |method| client.cast(&RequestContext::new(), method, &()).unwrap();
    server.gate.close();
    server.second_gate.close();
    let before: Vec<_> = (0..2).map(|_| cast("pass")).collect();
    assert!(before.iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
    eventually("both run", || server.gate.waiting() == 2);
    broker.kill9();
    broker = node.broker();
    eventually("it is registered again", || node.status().topics.iter().any(|topic| !topic.servers.is_empty()));
    let after: Vec<_> = (0..10).map(|_| cast("go")).collect();
    eventually("two are given", || (node.status().queued, node.status().counters["delivered"]) == (8, 2));
    server.gate.open();
    eventually("they run", || server.second_gate.waiting() == 2);
    assert!(after[..2].iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
    let status = node.status();
    assert_eq!((status.queued, status.counters["delivered"], status.counters["handed_back"]), (8, 2, 0));
    server.second_gate.open();
    assert!(after.iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
    server.rpc.stop().unwrap();
    drop(broker);
}
