//! Proves for casts through real processes: each has one outcome, an acked one runs once, and none
//! waits behind a slow one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use zmqv2_client::{Outcome, RpcClient};
use zmqv2_proto::{Reason, RequestContext, Target};
use zmqv2_server::{Methods, RpcServer, RpcServerBuilder};
use zmqv2_tests::gate::Gate;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, assert_undelayed, eventually, now};

/// The messages that a server ran, in order.
type Executions = Arc<Mutex<Vec<u64>>>;

/// A server in the test's process that logs its messages.
fn logging(node: &Node, topic: &str, server: &str) -> (RpcServerBuilder, Executions) {
    let ran = Executions::default();
    let note = Arc::clone(&ran);
    let methods = Methods::new().method("note", move |number: u64| {
        note.lock().unwrap().push(number);
        Ok(())
    });
    let target = Target::topic(topic).unwrap().with_server(server).unwrap();
    (RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods.unwrap()), ran)
}

/// A server in the test's process whose method `block` ends when the gate opens.
fn blocking(node: &Node, topic: &str, server: &str) -> (RpcServerBuilder, Arc<Gate>) {
    let gate = Gate::new(false);
    let theirs = Arc::clone(&gate);
    let methods = Methods::new()
        .method("note", |_: u64| Ok(()))
        .and_then(|methods| {
            methods.method("block", move |(): ()| {
                theirs.pass();
                Ok(())
            })
        })
        .unwrap();
    let target = Target::topic(topic).unwrap().with_server(server).unwrap();
    (RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods), gate)
}

fn start(builder: RpcServerBuilder) -> RpcServer {
    let server = builder.start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    server
}

fn client(node: &Node, topic: &str) -> RpcClient {
    node.client(Target::topic(topic).unwrap())
}

fn context() -> RequestContext {
    RequestContext::new()
}

#[test]
fn casts_of_several_clients_to_several_nodes_are_acked_once_run_once_and_in_order() {
    const CASTS: u64 = 5_000;
    let cluster = Cluster::new(3, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let servers: Vec<_> = cluster
        .nodes()
        .iter()
        .enumerate()
        .map(|(number, node)| {
            let (builder, ran) = logging(node, "t", &format!("s{number}"));
            (start(builder.workers(1)), ran)
        })
        .collect();
    // Each client's numbers are its own: who * CASTS + 0, 1, 2, ...
    let acked: Vec<BTreeMap<String, Vec<u64>>> = std::thread::scope(|scope| {
        let cast_all = |number: u64| {
            let client = client(cluster.node(number as usize % 3), "t");
            let numbers = number * CASTS..(number + 1) * CASTS;
            let handles: Vec<_> =
                numbers.map(|number| (number, client.cast(&context(), "note", &number).unwrap())).collect();
            let mut acked: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            for (number, handle) in handles {
                match handle.wait(PATIENCE) {
                    Some(Outcome::Acked { server, .. }) => acked.entry(server.to_string()).or_default().push(number),
                    other => panic!("{number}: {other:?}"),
                }
            }
            assert_eq!(client.close(PATIENCE).open, 0);
            acked
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || cast_all(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, (server, ran)) in servers.iter().enumerate() {
        // An acked cast was accepted, and has run when the server has stopped.
        server.stop().unwrap();
        let ran = ran.lock().unwrap();
        let name = format!("s{number}");
        for (number, acked) in acked.iter().enumerate() {
            let of_client: Vec<u64> = ran.iter().copied().filter(|n| n / CASTS == number as u64).collect();
            // The server ran exactly the acked casts, each once, in the order of sending.
            assert_eq!(of_client, acked[&name], "{name} and client {number}");
        }
    }
}

#[test]
fn one_busy_worker_delays_no_call_that_the_other_can_take_p10() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (builder, gate) = blocking(node, "t", "s");
    let server = start(builder.workers(2));
    let client = client(node, "t");
    let outcome = client.cast(&context(), "block", &()).unwrap().wait(PATIENCE).unwrap();
    assert!(outcome.is_acked(), "{outcome}");
    eventually("a worker is busy", || gate.waiting() == 1);
    let took: Vec<_> = (0..300_u64)
        .map(|number| {
            let call = now();
            client.call::<()>(&context(), "note", &number).unwrap();
            call.elapsed()
        })
        .collect();
    assert_eq!(gate.waiting(), 1, "the ack waited for the handler, or the handler has ended: nothing was shown");
    assert_undelayed(took);
    gate.open();
    server.stop().unwrap();
}

#[test]
fn servers_that_are_killed_lose_no_cast_that_may_be_retried() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    // One server stays; others are started and killed. Each server process writes its messages to
    // its own file.
    let dir = tempfile::tempdir().unwrap();
    let log = |name: &str| dir.path().join(name);
    let serve = |name: &str| {
        let path = log(name);
        // One write for the whole line: two workers append to the file.
        let exec = format!("line=$(cat); printf '%s\\n' \"$line\" >> {}; echo 1", path.display());
        node.serve("t", name, &["--workers", "2", "--exec", &exec])
    };
    let _survivor = serve("survivor");
    let client = client(node, "t");
    let casts = 400_u64;
    let mut handles = Vec::new();
    let mut victim: Option<Process> = None;
    for number in 0..casts {
        if number % 100 == 0 {
            victim = Some(serve(&format!("victim-{number}")));
        }
        handles.push((number, client.prepare().retry(3).cast(&context(), "note", &number).unwrap()));
        if number % 100 == 60 {
            let name = format!("victim-{}", number - 60);
            eventually("the victim has begun", || !numbers(&log(&name)).is_empty());
            victim.as_mut().unwrap().kill9();
        }
    }
    let mut acked = BTreeMap::new();
    for (number, handle) in handles {
        match handle.wait(PATIENCE) {
            Some(Outcome::Acked { server, .. }) => acked.insert(number, server.to_string()),
            other => panic!("{number}: {other:?}"),
        };
    }
    // The server that stays runs everything that it acked, and nothing twice. A killed server runs
    // nothing twice either.
    let by_survivor: BTreeSet<u64> = acked.iter().filter(|(_, s)| *s == "survivor").map(|(n, _)| *n).collect();
    assert!(!by_survivor.is_empty() && by_survivor.len() < casts as usize, "{}", by_survivor.len());
    eventually("the survivor has run all that it acked", || {
        let ran: BTreeSet<u64> = numbers(&log("survivor")).into_iter().collect();
        by_survivor.is_subset(&ran)
    });
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let ran = numbers(&entry.unwrap().path());
        let distinct: BTreeSet<_> = ran.iter().collect();
        assert_eq!(distinct.len(), ran.len(), "one server ran something twice");
    }
}

/// The arguments in a log of `--exec`. A line that was cut off by a kill does not count.
fn numbers(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let requests = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    requests.filter_map(|request| request["args"].as_u64()).collect()
}

#[test]
fn a_broker_that_is_killed_leaves_no_cast_without_outcome_and_traffic_comes_back() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let mut broker = node.broker();
    let (builder, ran) = logging(node, "t", "s");
    let server = start(builder.workers(2));
    let client = client(node, "t");
    let mut acked = Vec::new();
    let mut outcomes = 0;
    for round in 0..3_u64 {
        let numbers = round * 1_000..(round + 1) * 1_000;
        let cast =
            |number| (number, client.prepare().timeout(Duration::from_secs(5)).cast(&context(), "note", &number));
        let mut handles = Vec::new();
        for number in numbers {
            handles.push(cast(number));
            if number % 1_000 == 500 {
                broker.kill9();
                broker = node.broker();
            }
        }
        for (number, handle) in handles {
            let outcome = handle.unwrap().wait(PATIENCE).expect("an outcome");
            outcomes += 1;
            acked.extend(outcome.is_acked().then_some(number));
        }
        eventually("casts are acked again", || {
            client.cast(&context(), "note", &u64::MAX).unwrap().wait(PATIENCE).is_some_and(|outcome| outcome.is_acked())
        });
    }
    assert_eq!(outcomes, 3_000);
    server.stop().unwrap();
    let ran = ran.lock().unwrap();
    let lost: Vec<_> = acked.iter().filter(|number| !ran.contains(number)).collect();
    assert!(lost.is_empty(), "acked and never run: {lost:?}");
    let mut once: Vec<_> = ran.iter().filter(|number| **number != u64::MAX).collect();
    let all = once.len();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), all, "something ran twice");
}

#[test]
fn cold_start_waits_if_asked_to_and_is_refused_at_once_if_not_rg06() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let client = client(node, "t");
    let impatient = client.cast(&context(), "note", &1_u64).unwrap().wait(PATIENCE).unwrap();
    assert!(matches!(&impatient, Outcome::Refused { refusal, .. } if refusal.reason == Reason::NoRoute), "{impatient}");
    let patient = client.prepare().wait_for_ready(true);
    let waiting = patient.cast(&context(), "note", &2_u64).unwrap();
    let too_short = patient.clone().timeout(Duration::from_millis(300)).cast(&context(), "note", &3_u64).unwrap();
    let expired = too_short.wait(PATIENCE).unwrap();
    assert!(matches!(&expired, Outcome::Refused { refusal, .. } if refusal.reason == Reason::Expired), "{expired}");
    assert_eq!(waiting.outcome(), None);
    let (builder, ran) = logging(node, "t", "s");
    let server = start(builder.workers(1));
    assert!(waiting.wait(PATIENCE).unwrap().is_acked());
    // A call as well.
    client.call::<()>(&context(), "note", &4_u64).unwrap();
    server.stop().unwrap();
    assert_eq!(*ran.lock().unwrap(), [2, 4], "what expired never runs");
}

#[test]
fn the_tool_prints_the_outcome_of_a_cast() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let broker = node.broker();
    let refused = node.tool(&["cast", "t", "echo"]);
    assert_eq!(refused.code(), 4, "{refused:?}");
    assert!(refused.stderr.starts_with("NoRoute"), "{refused:?}");
    let _server = node.serve("t", "s", &["--workers", "1"]);
    let acked = node.tool(&["cast", "t", "echo", "{\"x\": 1}"]);
    assert_eq!(acked.code(), 0, "{acked:?}");
    assert!(acked.stdout.starts_with("acked by s at node"), "{acked:?}");
    assert_eq!(node.tool(&["cast", "t", "echo", "{"]).code(), 2);
    broker.signal(Signal::STOP);
    let unacknowledged = node.tool(&["cast", "t", "echo", "--timeout", "0.5"]);
    assert_eq!(unacknowledged.code(), 5, "{unacknowledged:?}");
    assert!(unacknowledged.stderr.starts_with("Unacknowledged"), "{unacknowledged:?}");
}
