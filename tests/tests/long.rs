//! The runs of `checked.rs` in full size. They take minutes each, so they run only on demand.
//!
//! `cargo test --release -p zmqv2-tests --test long -- --ignored --nocapture --test-threads 1`

use std::time::Duration;

use zmqv2_tests::redis_cluster::redis_hangs;
use zmqv2_tests::redis_server::installed;
use zmqv2_tests::scenarios::{self, Schedule, StopMode};
use zmqv2_tests::{PrivateNetwork, faults};

#[test]
#[ignore = "takes minutes"]
fn a_million_casts_of_four_processes_to_three_nodes() {
    const CASTS: u64 = 1_000_000;
    // Together they stay below the backlog of one topic at one broker (10,000).
    let run = scenarios::casts(CASTS, 2_500, Duration::from_secs(1_200));
    run.assert_clean();
    let counts = &run.report.counts;
    assert_eq!((counts.outcome("acked"), counts.executions, counts.killed), (CASTS, CASTS, 0));
    for (name, summary) in &run.clients {
        assert!(summary.slowed > 0, "{name} has never met its bound");
        assert!(summary.peak_kib - summary.idle_kib < 32 << 10, "{name}: {summary:?}");
    }
}

#[test]
#[ignore = "takes a minute"]
fn casts_above_what_brokers_keep_are_refused_or_taken_by_another_node() {
    const CASTS: u64 = 200_000;
    let run = scenarios::casts(CASTS, 10_000, Duration::from_secs(600));
    run.assert_clean();
    let counts = &run.report.counts;
    assert_eq!(counts.outcome("acked") + counts.outcome("refused Busy"), CASTS);
    assert_eq!(counts.outcome("acked"), counts.executions);
}

#[test]
#[ignore = "takes more than a minute"]
fn a_server_is_killed_every_two_seconds_for_a_minute() {
    let run = scenarios::servers_stop(StopMode::Killed, Schedule { every: Duration::from_secs(2), kills: 30 });
    run.assert_clean();
    assert_eq!(run.report.counts.killed, 30);
}

#[test]
#[ignore = "takes more than a minute"]
fn a_server_is_restarted_in_order_every_two_seconds_for_a_minute() {
    let run = scenarios::servers_stop(StopMode::Orderly, Schedule { every: Duration::from_secs(2), kills: 30 });
    run.assert_clean();
    assert_eq!((run.report.counts.runs, run.report.counts.killed), (33, 0));
}

#[test]
#[ignore = "takes half a minute"]
fn a_listener_is_killed_every_two_seconds_for_twenty() {
    let run = scenarios::listeners_stop(StopMode::Killed, Schedule { every: Duration::from_secs(2), kills: 10 });
    run.assert_clean();
    assert_eq!(run.report.counts.killed, 10);
}

#[test]
#[ignore = "takes half a minute"]
fn a_listener_is_restarted_in_order_every_two_seconds_for_twenty() {
    let run = scenarios::listeners_stop(StopMode::Orderly, Schedule { every: Duration::from_secs(2), kills: 10 });
    run.assert_clean();
    assert_eq!((run.report.counts.killed, run.report.counts.repeated), (0, 0));
}

#[test]
#[ignore = "takes more than a minute"]
fn the_broker_is_killed_every_five_seconds_for_a_minute() {
    let run = scenarios::broker_stops(StopMode::Killed, Schedule { every: Duration::from_secs(5), kills: 12 }, 300);
    run.assert_clean();
    assert_eq!(run.report.counts.killed, 0);
    assert!(run.recovery()[2] < Duration::from_secs(1), "{:?}", run.recoveries);
}

#[test]
#[ignore = "takes more than a minute"]
fn redis_hangs_for_a_minute() {
    if installed("redis_hangs_for_a_minute") {
        redis_hangs(Duration::from_secs(60));
    }
}

/// Its figures are in `docs/reliability.md`. `ZMQV2_SEED` chooses other victims and times.
#[test]
#[ignore = "takes ten minutes"]
fn faults_of_every_kind_for_ten_minutes() {
    let seed = std::env::var("ZMQV2_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    PrivateNetwork::run("faults_of_every_kind_for_ten_minutes", |network| {
        let run = faults::faults(network, 8, Duration::from_secs(2), seed);
        run.assert_clean();
        assert_eq!(run.faults(), 80);
    });
}
