//! Proves that clients and servers survive a broker that dies, hangs, comes back or stops in order,
//! under load. Nothing else is restarted.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::{Reason, RequestContext, Target};
use zmqv2_tests::{CallRecord, Cluster, Load, Node, PATIENCE, Process, echo, eventually, now, spread};

/// How long after a deadline a call may end (P1).
const GRACE: Duration = Duration::from_millis(50);
/// How much longer a busy machine may take for a single call.
const STALL: Duration = Duration::from_secs(2);
/// How soon after its return a broker has its servers again: a second, and the rest is for a busy
/// machine.
const BACK: Duration = Duration::from_secs(3);

fn client(node: &Node, timeout: Duration) -> RpcClient {
    node.client_with(Target::topic("t").unwrap(), |config| config.response_timeout = timeout)
}

/// Every call ended by its deadline, with an answer or with a reason that `allowed` accepts. That a
/// call ends within [`GRACE`] is measured in `a_broker_that_hangs_is_a_timeout_by_the_deadline`: here
/// the callers themselves keep the machine busy.
fn all_ended(records: &[CallRecord], timeout: Duration, allowed: impl Fn(&CallError) -> bool) {
    for record in records {
        assert!(record.took() <= timeout + STALL, "{:?}: {record:?}", record.took());
        if let Err(error) = &record.outcome {
            assert!(allowed(error), "{error:?}");
        }
    }
}

/// The allowed errors of a call while the only broker is down.
fn broker_is_gone(error: &CallError) -> bool {
    match error {
        CallError::ConnectionLost { .. } | CallError::Unreachable { .. } | CallError::Timeout { .. } => true,
        // The broker is back, but its servers are not.
        _ => error.reason() == Some(Reason::NoRoute),
    }
}

#[test]
fn kill_9_of_a_broker_under_load_and_its_return() {
    let timeout = Duration::from_secs(3);
    let cluster = Cluster::new(2, &[]);
    let (node, outside) = (cluster.node(0), cluster.node(1));
    cluster.write_ring([("t".to_owned(), json!([node.host]))].into_iter().collect());
    let mut broker = node.broker();
    let servers = ["s0", "s1"].map(|name| node.serve("t", name, &["--workers", "4"]));
    // Over TCP, and over the local socket.
    let mut load = Load::start(&client(outside, timeout), 3);
    load.add(&client(node, timeout), 2);
    let mut returns = Vec::new();
    for _ in 0..3 {
        load.wait_answered(100);
        let killed = now();
        broker.kill9();
        load.wait("callers notice", |records| records.iter().any(|r| r.ended > killed && r.outcome.is_err()));
        broker = node.broker();
        returns.push((killed, now()));
        load.wait_answered(100);
        let long_after = now() + BACK;
        load.wait("enough time has passed", |records| records.iter().any(|r| r.started > long_after));
    }
    let records = load.stop();
    drop(servers);
    all_ended(&records, timeout, broker_is_gone);
    let mut noticed = Vec::new();
    let mut back = Vec::new();
    for (n, (killed, ready)) in returns.iter().enumerate() {
        let until = returns.get(n + 1).map_or_else(now, |(killed, _)| *killed);
        let ends = |ok: bool, after| {
            let ends = records.iter().filter(move |r| r.outcome.is_ok() == ok && r.ended > after).map(|r| r.ended);
            ends.min().expect("one of each")
        };
        noticed.push(ends(false, *killed) - *killed);
        back.push(ends(true, *ready) - *ready);
        let late: Vec<_> =
            records.iter().filter(|r| r.started > *ready + BACK && r.ended < until && r.outcome.is_err()).collect();
        assert!(late.is_empty(), "more than {BACK:?} after its return: {late:?}");
    }
    println!("{} calls, slowest {:?}", records.len(), records.iter().map(CallRecord::took).max());
    println!("noticed after {:?}, answered again after {:?} (min, median, max)", spread(noticed), spread(back.clone()));
    assert!(back.iter().all(|back| *back < BACK), "{back:?}");
}

#[test]
fn a_broker_that_hangs_is_a_timeout_by_the_deadline() {
    const CALLERS: usize = 7;
    let timeout = Duration::from_millis(500);
    let cluster = Cluster::new(2, &[]);
    let (node, outside) = (cluster.node(0), cluster.node(1));
    cluster.write_ring([("t".to_owned(), json!([node.host]))].into_iter().collect());
    let broker = node.broker();
    let _server = node.serve("t", "s", &["--workers", &CALLERS.to_string()]);
    let client = client(outside, timeout);
    let all = |method: &'static str| -> Vec<CallRecord> {
        let call = || client.call::<Value>(&RequestContext::new(), method, &0.2).map(|_| String::new());
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| CallRecord::of(call))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    // All at the same time, so that each has its own connection.
    assert!(all("sleep").iter().all(|record| record.outcome.is_ok()));
    broker.signal(Signal::STOP);
    let connected = all("echo");
    let unconnected = all("echo");
    broker.signal(Signal::CONT);
    for record in &connected {
        assert!(matches!(record.outcome, Err(CallError::Timeout { .. })), "{record:?}");
        assert!(record.took() >= timeout, "{record:?}");
    }
    // These had to connect again, to a broker that does not answer: with or without a handshake,
    // they end by the deadline.
    for record in &unconnected {
        assert!(broker_is_gone(record.outcome.as_ref().unwrap_err()), "{record:?}");
    }
    let late = |record: &CallRecord| record.took().saturating_sub(timeout);
    let [min, median, max] = spread(connected.iter().chain(&unconnected).map(late));
    println!("after the deadline: min {min:?}, median {median:?}, max {max:?}");
    assert!(median <= GRACE, "{median:?}");
    // When it goes on, it serves the same client at once.
    let woken = now();
    eventually("calls are answered again", || echo(&client, "x").is_ok());
    println!("answered {:?} after SIGCONT", woken.elapsed());
    assert!(woken.elapsed() < BACK, "{:?}", woken.elapsed());
}

/// Two nodes with a broker and a server each, and a client elsewhere.
struct Pair {
    cluster: Cluster,
    brokers: [Process; 2],
    servers: [Process; 2],
}

impl Pair {
    fn start() -> Self {
        let cluster = Cluster::new(3, &[]);
        let hosts = json!([cluster.node(0).host, cluster.node(1).host]);
        cluster.write_ring([("t".to_owned(), hosts)].into_iter().collect());
        let brokers = [0, 1].map(|n| cluster.node(n).broker());
        let servers = [0, 1].map(|n| cluster.node(n).serve("t", &format!("s{n}"), &["--workers", "6"]));
        Self { cluster, brokers, servers }
    }
}

#[test]
fn sigterm_of_a_broker_under_load_finishes_what_is_in_flight() {
    let timeout = Duration::from_secs(10);
    let Pair { cluster, mut brokers, servers: _servers } = Pair::start();
    let client = client(cluster.node(2), timeout);
    // A client that knows no other node.
    let ring = cluster.node(0).file("ring-of-one.json");
    std::fs::write(&ring, json!({ "t": [cluster.node(0).host] }).to_string()).unwrap();
    let at_first = cluster.node(2).client_with(Target::topic("t").unwrap(), |config| config.ring_file = ring);
    // Long enough that they are still in flight when the broker is told to stop.
    let sleep = || at_first.call::<Value>(&RequestContext::new(), "sleep", &5.0);
    let mut load = Load::default();
    std::thread::scope(|scope| {
        let in_flight: Vec<_> = (0..3).map(|_| scope.spawn(sleep)).collect();
        eventually("they are in flight", || cluster.node(0).status().in_flight == 3);
        load.add(&client, 3);
        load.wait_answered(100);
        let signalled = now();
        brokers[0].signal(Signal::TERM);
        eventually("it is stopping", || brokers[0].stderr().contains("stopping"));
        let refused = CallRecord::of(|| echo(&at_first, "x"));
        let reason = refused.outcome.as_ref().expect_err("it takes nothing new").reason();
        assert_eq!(reason, Some(Reason::ShuttingDown), "{refused:?}");
        println!("ShuttingDown after {:?}", refused.took());
        let ends: Vec<_> = in_flight.into_iter().map(|call| call.join().unwrap()).collect();
        assert!(ends.iter().all(Result::is_ok), "they were in flight: {ends:?}");
        let status = brokers[0].wait_end(PATIENCE);
        assert_eq!(status.code(), Some(0));
        println!("ended {:?} after SIGTERM", signalled.elapsed());
    });
    load.wait_answered(100);
    let records = load.stop();
    // The other node took every call that this one did not.
    let failed: Vec<_> = records.iter().filter_map(|record| record.outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {:?}", failed.len(), records.len(), failed[0]);
    all_ended(&records, timeout, |_| false);
    println!("{} calls under load, slowest {:?}", records.len(), records.iter().map(CallRecord::took).max());
}

#[test]
fn sigterm_of_a_broker_with_only_short_calls_loses_none() {
    let Pair { cluster, mut brokers, servers: _servers } = Pair::start();
    let load = Load::start(&client(cluster.node(2), Duration::from_secs(10)), 4);
    load.wait_answered(100);
    brokers[0].signal(Signal::TERM);
    assert_eq!(brokers[0].wait_end(PATIENCE).code(), Some(0));
    load.wait_answered(100);
    let records = load.stop();
    let failed: Vec<_> = records.iter().filter_map(|record| record.outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {:?}", failed.len(), records.len(), failed[0]);
}

#[test]
fn rg17_sigterm_of_a_server_under_load_loses_no_call_and_it_is_gone_at_once() {
    let timeout = Duration::from_secs(10);
    let cluster = Cluster::new(2, &[]);
    let (node, outside) = (cluster.node(0), cluster.node(1));
    cluster.write_ring([("t".to_owned(), json!([node.host]))].into_iter().collect());
    let _broker = node.broker();
    let mut leaving = node.serve("t", "leaving", &["--workers", "4"]);
    let _staying = node.serve("t", "staying", &["--workers", "4"]);
    let client = client(outside, timeout);
    let at_leaving = client.prepare().server("leaving").unwrap();
    let sleep = || at_leaving.call::<Value>(&RequestContext::new(), "sleep", &2.0);
    let mut load = Load::default();
    std::thread::scope(|scope| {
        let in_flight: Vec<_> = (0..2).map(|_| scope.spawn(sleep)).collect();
        eventually("they are in flight", || node.status().in_flight == 2);
        // More callers than workers, so that there is always something waiting.
        load.add(&client, 10);
        load.wait_answered(100);
        let signalled = now();
        leaving.signal(Signal::TERM);
        for call in in_flight {
            assert!(call.join().unwrap().is_ok());
        }
        assert_eq!(leaving.wait_end(PATIENCE).code(), Some(0));
        println!("ended {:?} after SIGTERM", signalled.elapsed());
        let names: Vec<_> = node.status().topics[0].servers.iter().map(|s| s.server.to_string()).collect();
        assert_eq!(names, ["staying"], "gone from the status as soon as the process is");
    });
    load.wait_answered(100);
    let records = load.stop();
    let failed: Vec<_> = records.iter().filter_map(|record| record.outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {:?}", failed.len(), records.len(), failed[0]);
    println!("{} calls under load, slowest {:?}", records.len(), records.iter().map(CallRecord::took).max());
}

#[test]
fn rg36_sigint_stops_broker_and_server_in_order() {
    let Pair { cluster, mut brokers, mut servers } = Pair::start();
    let signalled = now();
    servers[0].signal(Signal::INT);
    assert_eq!(servers[0].wait_end(PATIENCE).code(), Some(0));
    assert!(cluster.node(0).status().topics.is_empty());
    brokers[0].signal(Signal::INT);
    assert_eq!(brokers[0].wait_end(PATIENCE).code(), Some(0));
    println!("both ended {:?} after SIGINT", signalled.elapsed());
    // Nothing was in flight, so the server stopped at once and left no socket behind.
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
    let left =
        |node: &Node| std::fs::read_dir(&node.ipc_dir).unwrap().flatten().map(|f| f.file_name()).collect::<Vec<_>>();
    assert!(left(cluster.node(0)).iter().all(|name| name == "zmqv2-broker.lock"), "{:?}", left(cluster.node(0)));
    // A broker without servers, and a server without broker, stop as well.
    brokers[1].kill9();
    servers[1].signal(Signal::INT);
    assert_eq!(servers[1].wait_end(PATIENCE).code(), Some(0));
}
