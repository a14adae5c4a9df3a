//! Proves the promises for casts, calls and notifications under load, with journals that a checker
//! compares. The long runs are in `long.rs`, and `planted.rs` shows that the checker finds errors.

use std::time::Duration;

use rustix::process::Signal;
use zmqv2_tests::checker::Expected;
use zmqv2_tests::scenarios::{self, Schedule, StopMode};
use zmqv2_tests::{Cluster, JournaledRun, Node, PATIENCE, PrivateNetwork, Summary, eventually, faults, stop_all};

/// Longer than any message may take and a few processes need to end.
const END: Duration = Duration::from_secs(90);

/// The short form of `a_million_casts_of_four_processes_to_three_nodes`.
#[test]
fn casts_of_four_processes_to_three_nodes_keep_every_promise() {
    let run = scenarios::casts(12_000, 200, END);
    run.assert_clean();
    assert_eq!((run.report.counts.outcome("acked"), run.report.counts.executions), (12_000, 12_000));
    assert!(run.clients.iter().all(|(_, summary)| summary.slowed > 0), "no bound was met");
}

/// The short form of `a_server_is_killed_every_two_seconds_for_a_minute`.
#[test]
fn servers_that_are_killed_under_load_break_no_promise() {
    let run = scenarios::servers_stop(StopMode::Killed, Schedule { every: Duration::from_millis(700), kills: 4 });
    run.assert_clean();
    assert_eq!(run.report.counts.killed, 4);
}

#[test]
fn servers_that_are_restarted_in_order_under_load_lose_nothing() {
    let run = scenarios::servers_stop(StopMode::Orderly, Schedule { every: Duration::from_millis(700), kills: 4 });
    run.assert_clean();
    assert_eq!((run.report.counts.runs, run.report.counts.killed), (7, 0));
}

/// The short form of `the_broker_is_killed_every_five_seconds_for_a_minute`.
#[test]
fn a_broker_that_is_killed_under_load_breaks_no_promise() {
    let run = scenarios::broker_stops(StopMode::Killed, Schedule { every: Duration::from_secs(2), kills: 2 }, 100);
    run.assert_clean();
    assert_eq!(run.report.counts.killed, 0);
    // Other tests use the machine as well. The long run checks the promised time.
    assert!(run.recovery()[2] < Duration::from_secs(10), "{:?}", run.recoveries);
}

#[test]
fn listeners_that_are_killed_under_load_lose_no_notification() {
    let run = scenarios::listeners_stop(StopMode::Killed, Schedule { every: Duration::from_millis(700), kills: 4 });
    run.assert_clean();
    assert_eq!(run.report.counts.killed, 4);
    // A listener had a notification when it was killed.
    assert!(run.report.counts.repeated > 0, "{run}");
}

#[test]
fn listeners_that_are_restarted_in_order_under_load_repeat_no_notification() {
    let run = scenarios::listeners_stop(StopMode::Orderly, Schedule { every: Duration::from_millis(700), kills: 4 });
    run.assert_clean();
    assert_eq!((run.report.counts.killed, run.report.counts.repeated), (0, 0));
}

#[test]
fn a_broker_that_is_restarted_in_order_under_load_answers_for_all_that_ran() {
    let run = scenarios::broker_stops(StopMode::Orderly, Schedule { every: Duration::from_secs(2), kills: 2 }, 100);
    run.assert_clean();
    // A message that arrives while the broker closes its sockets gets no answer, but it does not
    // run either.
    let counts = &run.report.counts;
    let answered = counts.outcome("acked") + counts.outcome("replied");
    assert_eq!(answered + counts.ran_elsewhere, counts.executions, "{run}");
    assert_eq!(counts.repeated, 0, "{run}");
}

/// The ring file does not say which node has the server, so the client must search for it.
#[test]
fn casts_to_one_server_keep_their_order_while_its_node_is_not_known() {
    let cluster = Cluster::new(2, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let journaled = JournaledRun::new();
    let mut servers = [0, 1].map(|n| journaled.server(cluster.node(n), &format!("s{n}"), 1));
    let mut client = journaled.client(cluster.node(0), "c", &["--count", "1000", "--server", "s1"]);
    let summary = Summary::of(&mut client, END);
    stop_all(&mut servers, PATIENCE);
    let (_, report) = journaled.check(&Expected::nothing().all_accepted("c"));
    println!("{summary:?}\n{report}");
    report.assert_clean();
}

/// A cast tries eight nodes in a round. With more nodes, the server must still be found.
#[test]
fn a_cast_to_one_server_finds_it_among_ten_nodes() {
    let cluster = Cluster::new(10, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let journaled = JournaledRun::new();
    let mut server = [journaled.server(cluster.node(9), "s", 1)];
    let mut client =
        journaled.client(cluster.node(0), "c", &["--count", "100", "--server", "s", "--max-outstanding", "1"]);
    let summary = Summary::of(&mut client, END);
    stop_all(&mut server, PATIENCE);
    let (_, report) = journaled.check(&Expected::nothing().all_accepted("c"));
    println!("{summary:?}\n{report}");
    report.assert_clean();
}

#[test]
fn the_memory_of_a_client_stays_within_its_bounds_while_nobody_takes_its_casts() {
    const BOUND: u64 = 4 << 20;
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let journaled = JournaledRun::new();
    let mut server = [journaled.server(node, "s", 1)];
    server[0].signal(Signal::STOP);
    // Ten times as much as the client may keep.
    let flags = ["--count", "4000", "--padding", "10000", "--max-outstanding-bytes", &BOUND.to_string()];
    let mut waiting = journaled.client(node, "waiting", &flags);
    eventually("the broker has what the client may have outstanding", || node.status().held_bytes > BOUND * 95 / 100);
    let mut refused = journaled.client(node, "refused", &[&flags[..], &["--refuse"]].concat());
    eventually("the broker has that of both", || node.status().held_bytes > 2 * BOUND * 95 / 100);
    server[0].signal(Signal::CONT);
    for (name, client) in [("waiting", &mut waiting), ("refused", &mut refused)] {
        let summary = Summary::of(client, END);
        println!("{name}: {summary:?}");
        assert!(if name == "refused" { summary.full > 0 } else { summary.slowed > 0 }, "{summary:?}");
        // The same amount again in libzmq, and some for handles and heap.
        let (grown, allowed) = (summary.peak_kib - summary.idle_kib, (2 * BOUND + (8 << 20)) >> 10);
        assert!(grown < allowed, "{name} has grown by {grown} KiB, allowed are {allowed}");
    }
    stop_all(&mut server, PATIENCE);
    let (_, report) = journaled.check(&Expected::nothing().all_accepted("waiting"));
    println!("{report}");
    report.assert_clean();
}

/// The short form of `faults_of_every_kind_for_ten_minutes`.
#[test]
fn faults_of_every_kind_break_no_promise() {
    PrivateNetwork::run("faults_of_every_kind_break_no_promise", |network| {
        let run = faults::faults(network, 1, Duration::from_millis(500), 1);
        run.assert_clean();
        assert!(run.faults() == 10 && run.forked > 3, "{run}");
        // Other tests use the machine as well. The long run measures the time.
        assert!(run.longest_stall() < Duration::from_secs(20), "{run}");
    });
}
