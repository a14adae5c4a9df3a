//! Proves that the checker finds errors: each load goes through a proxy that makes one kind of
//! error.

use zmqv2_tests::checker::{Expected, Report, Rule};
use zmqv2_tests::{Cluster, JournaledRun, Node, PATIENCE, Process, Summary, binary, eventually, stop_all};

use std::time::Duration;

/// Longer than any message may take and a few processes need to end.
const END: Duration = Duration::from_secs(90);

/// A checked load to one server, through a proxy with this error.
fn checked_run(mode: &str, flags: &[&str], expected: &Expected) -> Report {
    checked_run_with(mode, flags, expected, |journaled, node| vec![journaled.server(node, "s", 1)])
}

/// The same to the servers that `start` starts.
fn checked_run_with(
    mode: &str,
    flags: &[&str],
    expected: &Expected,
    start: impl FnOnce(&JournaledRun, &Node) -> Vec<Process>,
) -> Report {
    let cluster = Cluster::new(2, &[]);
    let (real, between) = (cluster.node(0), cluster.node(1));
    cluster.write_ring(
        [("t".to_owned(), serde_json::json!([between.host])), ("t.info".to_owned(), serde_json::json!([between.host]))]
            .into_iter()
            .collect(),
    );
    let _broker = real.broker();
    let journaled = JournaledRun::new();
    let mut servers = start(&journaled, real);
    let mut command = std::process::Command::new(binary("faulty-proxy"));
    command.args([
        "--mode",
        mode,
        "--server",
        "s",
        "--node",
        &real.host,
        "--listen",
        &format!("{}:9501", between.host),
    ]);
    let proxy = Process::start("proxy", command.arg("--broker").arg(&real.ipc_dir)).ready();
    // Not a multiple of ten, because the proxy may hold back every tenth message.
    let mut all = vec!["--count", "1005", "--max-outstanding", "100"];
    all.extend(flags);
    // The client is at the broker's node, and reaches the proxy over TCP.
    let mut client = journaled.client(real, "c", &all);
    let summary = Summary::of(&mut client, END);
    eventually("every notification is handled", || real.status().notifications == 0);
    stop_all(&mut servers, PATIENCE);
    drop(proxy);
    let (_, report) = journaled.check(expected);
    println!("{mode}: {summary:?}\n{report}");
    report
}

/// Everything must be accepted.
fn all() -> Expected {
    Expected::nothing().all_accepted("c")
}

#[track_caller]
fn finds(report: &Report, rule: Rule) {
    let rules = report.rules();
    assert_eq!(rules.keys().collect::<Vec<_>>(), [&rule], "{report}");
    assert!(rules[&rule] >= 50, "it is done to every tenth message: {report}");
}

#[test]
fn a_proxy_without_a_fault_breaks_no_rule() {
    for flags in [&["--calls", "2"][..], &["--calls", "2", "--retry", "2"]] {
        let report = checked_run("none", flags, &all());
        report.assert_clean();
        let replied = report.counts.outcome("replied");
        assert_eq!((report.counts.sent, replied, report.counts.outcome("acked")), (1_005, 503, 502));
    }
}

#[test]
fn an_acknowledgement_before_a_server_has_the_cast_is_found() {
    finds(&checked_run("early-ack", &[], &all()), Rule::AckedRuns);
}

#[test]
fn a_repeat_that_is_run_again_is_found() {
    finds(&checked_run("no-dedup", &["--retry", "2"], &all()), Rule::RunsOnce);
}

#[test]
fn replies_that_are_swapped_are_found() {
    finds(&checked_run("swap-replies", &["--calls", "1"], &all()), Rule::OwnReply);
}

#[test]
fn lost_acknowledgements_are_found_and_retries_make_up_for_them() {
    let report = checked_run("drop-acks", &["--timeout", "3"], &all());
    finds(&report, Rule::Accepted);
    assert_eq!(report.counts.outcome("unacknowledged sent"), 100, "{report}");
    // A repeat is acknowledged again, and does not run again.
    checked_run("drop-acks", &["--retry", "5", "--timeout", "6"], &all()).assert_clean();
}

#[test]
fn casts_that_overtake_each_other_are_found() {
    finds(&checked_run("reorder", &[], &all()), Rule::Order);
}

#[test]
fn a_refusal_of_what_runs_is_found() {
    finds(&checked_run("false-refusal", &[], &Expected::nothing()), Rule::RefusedNeverRuns);
}

#[test]
fn an_execution_of_what_nobody_sent_is_found() {
    finds(&checked_run("forge", &[], &all()), Rule::Sent);
}

/// A load of fanouts to two servers.
fn fanouts(mode: &str, flags: &[&str], expected: &Expected) -> Report {
    let flags = [&["--how", "fanout"], flags].concat();
    checked_run_with(mode, &flags, expected, |journaled, node| {
        vec![journaled.server(node, "s", 1), journaled.server(node, "other", 1)]
    })
}

#[test]
fn fanouts_are_checked() {
    let report = fanouts("none", &[], &all());
    report.assert_clean();
    assert_eq!((report.counts.outcome("reported acked+acked"), report.counts.executions), (1_005, 2_010), "{report}");
}

#[test]
fn a_fanout_whose_copy_was_lost_and_acknowledged_is_found() {
    finds(&fanouts("lose-copy", &[], &all()), Rule::AckedRuns);
}

#[test]
fn a_fanout_that_comes_twice_is_found() {
    finds(&fanouts("renumber", &[], &all()), Rule::RunsOnce);
}

#[test]
fn a_refusal_of_a_fanout_that_runs_is_found() {
    finds(&fanouts("false-refusal", &[], &Expected::nothing()), Rule::RefusedNeverRuns);
}

/// A load of notifications to a pool of two listeners. Every seventh is requeued.
fn notifications(mode: &str, expected: &Expected) -> Report {
    checked_run_with(mode, &["--how", "notify"], expected, |journaled, node| {
        vec![journaled.listener(node, "s", &["--requeue", "7"]), journaled.listener(node, "s", &["--requeue", "7"])]
    })
}

#[test]
fn notifications_are_checked() {
    let report = notifications("none", &all());
    report.assert_clean();
    let counts = &report.counts;
    assert_eq!((counts.deliveries, counts.repeated), (1_005 + 144, 0), "{report}");
    let taken_over = counts.outcome("reported acked") + counts.outcome("reported stored");
    assert_eq!(taken_over, 1_005, "{report}");
}

#[test]
fn a_notification_that_is_reported_as_stored_and_lost_is_found() {
    finds(&notifications("early-stored", &all()), Rule::Handled);
}

#[test]
fn a_refusal_of_a_notification_that_is_delivered_is_found() {
    finds(&notifications("false-refusal", &Expected::nothing()), Rule::RefusedNeverRuns);
}
