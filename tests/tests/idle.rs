//! Proves that an idle broker costs almost nothing, that clients leave nothing open, and that a
//! slow handler delays nobody.

use std::time::Duration;

use serde_json::{Value, json};
use zmqv2_proto::{RequestContext, Target};
use zmqv2_tests::{CallRecord, Cluster, Process, assert_undelayed, echo, eventually, now};

/// Entries of `/proc/PID/KIND`: open descriptors (`fd`) or threads (`task`).
fn count(process: &Process, kind: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{kind}", process.id())).expect("a living process").count()
}

#[test]
fn an_idle_broker_uses_less_than_half_a_percent_of_a_core() {
    let cluster = Cluster::new(2, &["t"]);
    let node = cluster.node(0);
    let broker = node.broker();
    let server = node.serve("t", "s", &["--workers", "8"]);
    // Clients over TCP and the local socket, which are then silent.
    let clients = [node, cluster.node(1)].map(|node| node.client(Target::topic("t").unwrap()));
    for client in &clients {
        assert_eq!(echo(client, "x").unwrap(), "s");
    }
    let (start, used) = (now(), [broker.cpu_seconds(), server.cpu_seconds()]);
    // The kernel counts processor time in steps of 10 ms, so 0.5 % needs some seconds to be
    // visible.
    let span = Duration::from_secs(6);
    eventually("some seconds have passed", || now() >= start + span);
    let share = |process: &Process, before: f64| (process.cpu_seconds() - before) / start.elapsed().as_secs_f64();
    let shares = [share(&broker, used[0]), share(&server, used[1])];
    println!("idle over {:?}: broker {:.3} %, server {:.3} %", start.elapsed(), shares[0] * 100.0, shares[1] * 100.0);
    assert!(shares.iter().all(|share| *share < 0.005), "{shares:?}");
    // The broker still works.
    assert!(clients.iter().all(|client| echo(client, "y").is_ok()));
}

#[test]
fn clients_and_servers_that_left_leave_nothing_open() {
    let cluster = Cluster::new(2, &[]);
    let (node, outside) = (cluster.node(0), cluster.node(1));
    cluster.write_ring([("t".to_owned(), json!([node.host]))].into_iter().collect());
    let broker = node.broker();
    let server = node.serve("t", "s", &["--workers", "4"]);
    let visit = |n: usize| {
        let at = if n.is_multiple_of(2) { node } else { outside };
        assert_eq!(echo(&at.client(Target::topic("t").unwrap()), "x").unwrap(), "s");
    };
    // Before the first client.
    let threads = [count(&broker, "task"), count(&server, "task")];
    let before = count(&broker, "fd");
    let server_fds = count(&server, "fd");
    (0..60).for_each(visit);
    for n in 0..3 {
        let mut passing = node.serve("t", &format!("passing{n}"), &["--workers", "8"]);
        passing.kill9();
    }
    eventually("descriptors are as before", || count(&broker, "fd") <= before && count(&server, "fd") <= server_fds);
    // The thread that printed `ready` has ended.
    eventually(&format!("no more threads than {threads:?}"), || {
        count(&broker, "task") <= threads[0] && count(&server, "task") <= threads[1]
    });
    println!("broker: {before} descriptors; server: {server_fds}; threads of both: {threads:?}");
}

#[test]
fn one_slow_handler_delays_nobody() {
    const CALLS: usize = 100;
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _server = node.serve("t", "s", &["--workers", "2"]);
    let client = node.client(Target::topic("t").unwrap());
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| client.call::<Value>(&RequestContext::new(), "sleep", &json!({ "seconds": 8.0 })));
        eventually("a worker is busy", || node.status().in_flight == 1);
        let took = (0..CALLS).map(|n| {
            let record = CallRecord::of(|| echo(&client, &n.to_string()));
            assert_eq!(record.outcome.as_ref().expect("an answer"), "s");
            record.took()
        });
        let took = took.collect();
        assert!(!slow.is_finished(), "the slow one was there all the time");
        assert_undelayed(took);
        slow.join().unwrap().expect("the slow one is answered, too");
    });
}
