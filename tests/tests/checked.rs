//! Loads whose journals are checked: quick versions of the long runs, and planted bugs that the checker has to see.

use std::time::Duration;

use zmqv2_tests::checker::{Expected, Report, Rule};
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, Summary, Trial, binary, stop_servers};

/// Longer than any message may take, and the ends of a few processes.
const END: Duration = Duration::from_secs(90);

#[test]
fn casts_of_four_processes_to_three_nodes_keep_every_promise() {
    const CASTS: u64 = 3_000;
    let cluster = Cluster::new(3, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let trial = Trial::new();
    let mut servers: Vec<_> =
        cluster.nodes().iter().enumerate().map(|(n, node)| trial.executor(node, &format!("s{n}"), 1)).collect();
    // Small bounds, so that senders meet them: one client is refused, the others wait.
    let flags = ["--count", &CASTS.to_string(), "--max-outstanding", "200"];
    let mut casters: Vec<_> = (0..4)
        .map(|n| {
            let mut flags = flags.to_vec();
            flags.extend((n == 3).then_some("--refuse"));
            trial.caster(cluster.node(n % 3), &format!("c{n}"), &flags)
        })
        .collect();
    let summaries: Vec<_> = casters.iter_mut().map(|caster| Summary::of(caster, END)).collect();
    stop_servers(&mut servers, PATIENCE);
    let (_, report) = trial.check(&[0, 1, 2].iter().fold(Expected::nothing(), |e, n| e.all_accepted(format!("c{n}"))));
    println!("{report}");
    report.assert_clean();
    assert_eq!(report.counts.sent, 4 * CASTS);
    let full = report.counts.outcome("not taken Full");
    assert_eq!((report.counts.outcome("acked") + full, report.counts.killed), (4 * CASTS, 0));
    assert_eq!((summaries[3].full, summaries[0].full), (full, 0));
    assert!(full > 0 && summaries[..3].iter().all(|summary| summary.slowed > 0), "no bound was met: {summaries:?}");
}

/// A load through a saboteur in this mode.
fn sabotaged(mode: &str, flags: &[&str], expected: &Expected) -> Report {
    let cluster = Cluster::new(2, &[]);
    let (real, between) = (cluster.node(0), cluster.node(1));
    cluster.write_ring([("t".to_owned(), serde_json::json!([between.host]))].into_iter().collect());
    let _broker = real.broker();
    let trial = Trial::new();
    let mut server = [trial.executor(real, "s", 1)];
    let mut command = std::process::Command::new(binary("saboteur"));
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
    let saboteur = Process::start("saboteur", command.arg("--broker").arg(&real.ipc_dir)).ready();
    // Not a multiple of what it does something to: it may hold the last one for ever.
    let mut all = vec!["--count", "1005", "--max-outstanding", "100"];
    all.extend(flags);
    // The client is at the broker's node, and asks the saboteur over TCP.
    let mut caster = trial.caster(real, "c", &all);
    let summary = Summary::of(&mut caster, END);
    stop_servers(&mut server, PATIENCE);
    drop(saboteur);
    let (_, report) = trial.check(expected);
    println!("{mode}: {summary:?}\n{report}");
    report
}

/// Everything has to be accepted.
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
fn a_saboteur_that_does_nothing_is_not_noticed() {
    for flags in [&["--calls", "2"][..], &["--calls", "2", "--retry", "2"]] {
        let report = sabotaged("none", flags, &all());
        report.assert_clean();
        let replied = report.counts.outcome("replied");
        assert_eq!((report.counts.sent, replied, report.counts.outcome("acked")), (1_005, 503, 502));
    }
}

#[test]
fn an_acknowledgement_before_a_server_has_the_cast_is_found() {
    finds(&sabotaged("early-ack", &[], &all()), Rule::AckedRuns);
}

#[test]
fn a_repeat_that_is_run_again_is_found() {
    finds(&sabotaged("no-dedup", &["--retry", "2"], &all()), Rule::RunsOnce);
}

#[test]
fn replies_that_are_swapped_are_found() {
    finds(&sabotaged("swap-replies", &["--calls", "1"], &all()), Rule::OwnReply);
}

#[test]
fn acknowledgements_that_are_lost_are_found_and_made_up_for_by_retries() {
    let report = sabotaged("drop-acks", &["--timeout", "3"], &all());
    finds(&report, Rule::Accepted);
    assert_eq!(report.counts.outcome("unacknowledged sent"), 100, "{report}");
    // Sent again, it is acknowledged again, and not run again.
    sabotaged("drop-acks", &["--retry", "5", "--timeout", "30"], &all()).assert_clean();
}

#[test]
fn casts_that_overtake_each_other_are_found() {
    finds(&sabotaged("reorder", &[], &all()), Rule::Order);
}

#[test]
fn a_refusal_of_what_runs_is_found() {
    finds(&sabotaged("false-refusal", &[], &Expected::nothing()), Rule::RefusedNeverRuns);
}

#[test]
fn an_execution_of_what_nobody_sent_is_found() {
    finds(&sabotaged("forge", &[], &all()), Rule::Sent);
}
