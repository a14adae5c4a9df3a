//! Proves that a monitored call may take long, and that its loss is noticed early.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::{Reason, RequestContext, Target};
use zmqv2_tests::{Cluster, PATIENCE, now};

/// Long enough that a broker on a busy machine does not look silent.
const MONITOR: Duration = Duration::from_secs(1);

fn client(cluster: &Cluster) -> RpcClient {
    let client = cluster.node(0).client(Target::topic("t").expect("a topic"));
    // Longer than any test.
    client.prepare().timeout(Duration::from_secs(3600)).call_monitor_timeout(MONITOR)
}

#[test]
fn a_long_call_is_asked_about_and_comes_to_its_end() {
    let cluster = Cluster::new(1, &["t"]);
    let _broker = cluster.node(0).broker();
    let _server = cluster.node(0).serve("t", "s1", &[]);
    let client = client(&cluster);
    let context = RequestContext::new();
    let handle = client.call_async::<Value>(&context, "sleep", &3.5).expect("it is sent");
    client.call::<Value>(&context, "sleep", &3.5).expect("it has slept");
    handle.wait().expect("it has slept");
    // Each asks every 500 ms for 3.5 s, and less often on a busy machine.
    let asked = cluster.node(0).status().counters["inquiries"];
    assert!((4..=16).contains(&asked), "asked {asked} times");
}

#[test]
fn a_broker_that_hangs_is_noticed_long_before_the_timeout() {
    let cluster = Cluster::new(1, &["t"]);
    let broker = cluster.node(0).broker();
    let _server = cluster.node(0).serve("t", "s1", &[]);
    let client = client(&cluster);
    let context = RequestContext::new();
    let started = now();
    let handle = client.call_async::<Value>(&context, "sleep", &60.0).expect("it is sent");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call::<Value>(&context, "sleep", &60.0));
        zmqv2_tests::eventually("both are in flight", || cluster.node(0).status().in_flight == 2);
        broker.signal(Signal::STOP);
        for error in [call.join().expect("no panic").unwrap_err(), handle.wait().unwrap_err()] {
            assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
            assert!(error.may_have_run());
        }
    });
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    broker.signal(Signal::CONT);
}

#[test]
fn a_call_whose_server_dies_is_lost_at_once_monitored_or_not() {
    let cluster = Cluster::new(1, &["t"]);
    let _broker = cluster.node(0).broker();
    let mut server = cluster.node(0).serve("t", "s1", &[]);
    let client = client(&cluster);
    let context = RequestContext::new();
    let handle = client.call_async::<Value>(&context, "sleep", &60.0).expect("it is sent");
    zmqv2_tests::eventually("it is in flight", || cluster.node(0).status().in_flight == 1);
    server.kill9();
    let error = handle.wait().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ServerLost), "{error}");
}

/// The watch of a test that stops a server: a server that lives may be late on a busy machine.
const SERVER_MONITOR: Duration = Duration::from_secs(3);

#[test]
fn a_server_that_hangs_is_noticed_long_before_the_timeout() {
    let cluster = Cluster::new(1, &["t"]);
    let _broker = cluster.node(0).broker();
    let server = cluster.node(0).serve("t", "s1", &[]);
    let client = client(&cluster).prepare().call_monitor_timeout(SERVER_MONITOR);
    let context = RequestContext::new();
    // A living server may take longer.
    let started = now();
    let handle = client.call_async::<Value>(&context, "sleep", &5.0).expect("it is sent");
    client.call::<Value>(&context, "sleep", &5.0).expect("it has slept");
    handle.wait().expect("it has slept");
    assert!(started.elapsed() > SERVER_MONITOR);

    let handle = client.call_async::<Value>(&context, "sleep", &600.0).expect("it is sent");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call::<Value>(&context, "sleep", &600.0));
        zmqv2_tests::eventually("both are in flight", || cluster.node(0).status().in_flight == 2);
        let stopped = now();
        server.signal(Signal::STOP);
        for error in [call.join().expect("no panic").unwrap_err(), handle.wait().unwrap_err()] {
            assert_eq!(error.reason(), Some(Reason::ServerLost), "{error}");
            assert!(error.to_string().contains("no sign of life") && error.may_have_run(), "{error}");
        }
        let took = stopped.elapsed();
        // The last sign of life, from which its silence counts, came before it was stopped: half a second
        // on an idle machine, and more on a busy one.
        assert!(took >= SERVER_MONITOR / 2 && took < PATIENCE / 2, "{took:?}");
    });
    server.signal(Signal::CONT);
    assert_eq!(client.call::<Value>(&context, "echo", &7).expect("it lives again"), 7);
}

#[test]
fn a_server_that_hangs_gets_no_new_requests_while_another_lives() {
    let cluster = Cluster::new(1, &["t"]);
    let _broker = cluster.node(0).broker();
    let hung = cluster.node(0).serve("t", "hung", &["--workers", "32"]);
    let _other = cluster.node(0).serve("t", "other", &["--workers", "1"]);
    let client = client(&cluster);
    let context = RequestContext::new();
    let echo = |client: &RpcClient| {
        client.call_detailed::<Value>(&context, "echo", &7).map(|answered| answered.server.to_string())
    };
    zmqv2_tests::eventually("both get calls", || echo(&client).expect("an answer") == "hung");
    hung.signal(Signal::STOP);
    // Calls that it gets before its silence is noticed are lost.
    let brief = client.prepare().timeout(Duration::from_millis(300));
    let (mut row, mut lost) = (0, 0);
    zmqv2_tests::eventually("all calls go to the other one", || {
        let answered = echo(&brief);
        lost += usize::from(answered.is_err());
        row = if answered.is_ok_and(|server| server == "other") { row + 1 } else { 0 };
        row == 40
    });
    // Without its silence, it would get calls until each of its 32 workers has one.
    assert!(lost < 25, "{lost} calls were lost");
    hung.signal(Signal::CONT);
    zmqv2_tests::eventually("it gets calls again", || echo(&client).expect("an answer") == "hung");
}
