//! Proves that an impossible request is refused at once with its reason, and that a request for one
//! server goes to no other.

use std::time::Duration;

use serde_json::{Value, json};
use zmqv2_client::{CallError, RpcClient, SendError};
use zmqv2_proto::{Reason, RequestContext, Target};
use zmqv2_tests::{CallRecord, Cluster, Node, echo, eventually, spread};

/// The longest time for a refusal "at once".
const AT_ONCE: Duration = Duration::from_millis(50);
const TRIES: usize = 11;

/// Tries several times, because the machine may be busy. Each try ends with `reason`, and the
/// median comes at once.
fn refused(what: &str, reason: Reason, call: impl Fn() -> Result<String, CallError>) {
    let times = (0..TRIES).map(|_| {
        let record = CallRecord::of(&call);
        let error = record.outcome.as_ref().expect_err("a refusal");
        assert_eq!(error.reason(), Some(reason), "{what}: {error}");
        record.took()
    });
    let [min, median, max] = spread(times);
    println!("{what}: {reason} after min {min:?}, median {median:?}, max {max:?}");
    assert!(median < AT_ONCE, "{what}: {median:?}");
}

fn client(node: &Node, topic: &str) -> RpcClient {
    node.client(Target::topic(topic).unwrap())
}

/// Occupies one worker of the topic for this long.
fn occupy(client: &RpcClient, seconds: f64) -> Result<Value, CallError> {
    client.call(&RequestContext::new(), "sleep", &json!({ "seconds": seconds }))
}

#[test]
fn no_route_comes_at_once() {
    let cluster = Cluster::new(2, &["t", "empty"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _server = cluster.node(0).serve("t", "s", &["--workers", "1"]);
    // Over TCP and over the local socket; with a topic that no server has, and with one that the
    // directory does not list.
    for topic in ["empty", "unknown"] {
        let client = client(cluster.node(0), topic);
        refused(topic, Reason::NoRoute, || echo(&client, "x"));
    }
    // A new client each time: connecting is part of it.
    refused("empty, new client", Reason::NoRoute, || echo(&client(cluster.node(1), "empty"), "x"));
}

#[test]
fn rg02_an_unknown_server_of_a_known_topic_never_falls_back_to_another() {
    let cluster = Cluster::new(2, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _servers = [0, 1].map(|n| cluster.node(n).serve("t", &format!("s{n}"), &["--workers", "2"]));
    let client = client(cluster.node(0), "t").prepare().server("s2").unwrap();
    let ask = || client.call_detailed::<Value>(&RequestContext::new(), "echo", "x").map(|a| a.server.to_string());
    refused("unknown server", Reason::NoRoute, ask);
    for node in cluster.nodes() {
        assert_eq!(node.status().counters["delivered"], 0);
    }
}

#[test]
fn rg01_topic_and_server_means_only_that_server() {
    let cluster = Cluster::new(2, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    // Names as in practice, where one is a prefix of another.
    let names = ["host@lvm", "host@lvm.1", "host"];
    let _servers = [0, 1, 2].map(|n| cluster.node(n % 2).serve("t", names[n], &["--workers", "1"]));
    let client = client(cluster.node(0), "t");
    for n in 0..30 {
        let asked = names[n % 3];
        let at = client.prepare().server(asked).unwrap();
        let answered = at.call_detailed::<Value>(&RequestContext::new(), "echo", &n).unwrap();
        assert_eq!((answered.server.as_str(), answered.value), (asked, json!(n)));
    }
}

#[test]
fn one_topic_in_two_exchanges_is_two_topics() {
    let cluster = Cluster::new(1, &["t", "a/t", "b/t", "c/t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _servers = ["a", "b"].map(|name| node.serve("t", name, &["--exchange", name, "--workers", "2"]));
    let at = |exchange: &str| node.client(Target::topic("t").unwrap().with_exchange(exchange).unwrap());
    let (a, b, none) = (at("a"), at("b"), at("c"));
    for n in 0..20 {
        assert_eq!(echo(&a, &n.to_string()).unwrap(), "a");
        assert_eq!(echo(&b, &n.to_string()).unwrap(), "b");
    }
    refused("another exchange", Reason::NoRoute, || echo(&none, "x"));
}

#[test]
fn a_full_backlog_is_busy_at_once() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker_with(&["--set", "rpc_zmq_topic_backlog=5"]);
    let _server = node.serve("t", "s", &["--workers", "1"]);
    let client = client(node, "t");
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| occupy(&client, 6.0));
        eventually("the worker is busy", || node.status().in_flight == 1);
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(|| echo(&client, "waits"))).collect();
        eventually("the backlog is full", || node.status().queued == 5);
        refused("a full backlog", Reason::Busy, || echo(&client, "one more"));
        assert_eq!(node.status().queued, 5);
        // The accepted calls are served.
        busy.join().unwrap().unwrap();
        for call in waiting {
            assert_eq!(call.join().unwrap().unwrap(), "s");
        }
    });
    assert_eq!(echo(&client, "there is room again").unwrap(), "s");
    assert_eq!(node.status().counters["refused_busy"], TRIES as u64);
}

#[test]
fn over_the_byte_budget_is_busy_at_once() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let limits = ["--set", "rpc_zmq_max_message_bytes=4096", "--set", "rpc_zmq_backlog_bytes=5120"];
    let _broker = node.broker_with(&limits);
    let _server = node.serve("t", "s", &["--workers", "1"]);
    let client = client(node, "t");
    let large = "x".repeat(2500);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| occupy(&client, 6.0));
        eventually("the worker is busy", || node.status().in_flight == 1);
        let waiting = scope.spawn(|| echo(&client, &large));
        eventually("one waits", || node.status().queued == 1);
        refused("the byte budget", Reason::Busy, || echo(&client, &large));
        // A small one still fits.
        let small = scope.spawn(|| echo(&client, "small"));
        eventually("two wait", || node.status().queued == 2);
        assert!(node.status().held_bytes <= 5120);
        busy.join().unwrap().unwrap();
        assert_eq!([waiting.join().unwrap().unwrap(), small.join().unwrap().unwrap()], ["s", "s"]);
    });
}

#[test]
fn a_message_that_is_too_large_is_refused_with_both_sizes() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let small = ["--set", "rpc_zmq_max_message_bytes=2048"];
    let _broker = node.broker_with(&small);
    let _server = node.serve("t", "s", &["--workers", "1", "--set", "rpc_zmq_max_message_bytes=1024"]);
    let payload = "x".repeat(3000);

    // The sender refuses it, and nothing leaves the client.
    let limited = node.client_with(Target::topic("t").unwrap(), |config| config.max_message_bytes = 2048);
    let before = node.status().counters["requests"];
    let error = echo(&limited, &payload).unwrap_err();
    let CallError::NotSent(SendError::TooLarge { size, limit, .. }) = error else { panic!("{error:?}") };
    assert!(limit == 2048 && (3000..4000).contains(&size), "{size} and {limit}");
    let told = error_text(&limited, &payload);
    assert!(told.contains(&size.to_string()) && told.contains("2048"), "{told}");
    assert_eq!(node.status().counters["requests"], before);
    // The tool prints the same.
    let called = node.tool(&[&small[..], &["call", "t", "echo", &json!(payload).to_string()]].concat());
    assert_eq!(called.code(), 4, "{}", called.stderr);
    assert!(called.stderr.starts_with("TooLarge") && called.stderr.contains("2048"), "{}", called.stderr);

    // The broker refuses it, if the sender has a larger limit.
    let client = client(node, "t");
    let refusal = error_text(&client, &payload);
    assert!(refusal.contains("TooLarge") && refusal.contains("2048"), "{refusal}");
    assert!(refusal.contains(&size.to_string()), "{refusal}, sent {size}");
    assert_eq!(node.status().counters["delivered"], 0);

    // A reply that is too large: the method ran, and its only worker goes on.
    for n in 1..4 {
        let error = echo(&client, &payload[..1500]).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::TooLarge), "{error}");
        assert!(error.may_have_run() && error.to_string().contains("1024"), "{error}");
        assert_eq!(echo(&client, "small").unwrap(), "s");
        assert_eq!(node.status().counters["delivered"], 2 * n);
    }
}

fn error_text(client: &RpcClient, payload: &str) -> String {
    echo(client, payload).expect_err("too large").to_string()
}

#[test]
fn a_request_that_expires_in_the_queue_never_runs() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let runs = node.file("runs");
    // Every execution writes a line. The first one then keeps the only worker busy until a file
    // appears.
    let script = format!("echo run >> {0}; until [ -e {0}.go ]; do sleep 0.05; done; echo null", runs.display());
    let _server = node.serve("t", "s", &["--workers", "1", "--exec", &script]);
    let count = || std::fs::read_to_string(&runs).map_or(0, |lines| lines.lines().count());
    let client = client(node, "t");
    let call = |timeout: Duration| client.prepare().timeout(timeout).call::<()>(&RequestContext::new(), "m", &());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| call(zmqv2_tests::PATIENCE));
        eventually("the first runs", || count() == 1);
        let expired: Vec<_> = (0..5).map(|_| scope.spawn(|| call(Duration::from_millis(300)))).collect();
        for call in expired {
            let error = call.join().unwrap().unwrap_err();
            // The broker's refusal and the client's own timeout may come in either order.
            let told = error.reason() == Some(Reason::Expired) || matches!(error, CallError::Timeout { .. });
            assert!(told, "{error:?}");
        }
        eventually("all are counted", || node.status().counters["expired"] == 5);
        assert_eq!((node.status().queued, node.status().held_bytes), (0, 0));
        std::fs::write(runs.with_extension("go"), "").unwrap();
        first.join().unwrap().unwrap();
    });
    call(zmqv2_tests::PATIENCE).unwrap();
    assert_eq!(count(), 2, "only the first and the last run");
}
