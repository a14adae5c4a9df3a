//! Proves what new processes are told while Redis does not know all servers: nothing that is only
//! part of the truth counts as the whole.

use std::time::Duration;

use zmqv2_tests::redis_cluster::{SERVERS, directory_of, registered};
use zmqv2_tests::redis_newcomers::{Told, directory_line, three_nodes};
use zmqv2_tests::redis_server::{Redis, Sentinels, installed};
use zmqv2_tests::{Cluster, PATIENCE, eventually, now, wait_until, within};

/// How soon everything is registered again after the return of Redis.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
/// How soon the status and the log say what is wrong.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than promised a busy machine may take.
const SLACK: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

/// Redis is killed, comes back empty, and is asked by new processes every second from then on.
fn comes_back_empty(renew_every: u64, lease: u64) {
    let mut redis = Redis::start();
    let (cluster, _processes) = three_nodes(&redis.settings(), renew_every, lease);
    redis.kill9();
    let killed = now();
    let mut told = Told::default();
    told.ask(cluster.node(0));
    let is_shown = || directory_line(cluster.node(2)).contains("refused");
    assert!(
        within((SHOWN_WITHIN + SLACK).saturating_sub(killed.elapsed()), is_shown),
        "{}",
        directory_line(cluster.node(2))
    );
    redis.restart();
    let back = now();
    std::thread::scope(|scope| {
        let newcomers = scope.spawn(|| {
            for turn in 0..8 {
                told.ask(cluster.node(turn % 3));
                wait_until(back + SECOND * (turn as u32 + 1));
            }
        });
        let directory = directory_of(&cluster);
        eventually("all are registered again", || registered(&directory).is_ok_and(|names| names == SERVERS));
        let took = back.elapsed();
        println!("all were registered again {took:?} after the return");
        assert!(took < REGISTERED_WITHIN + SLACK, "{took:?}");
        newcomers.join().unwrap();
    });
    told.assert_true();
    // Each server is found now, whether or not the list is known to be complete.
    for name in SERVERS {
        let call = cluster.node(0).tool(&["call", "t", "echo", "1", "--server", name]);
        assert_eq!(call.code(), 0, "{call:?}");
    }
}

#[test]
fn an_empty_redis_misleads_no_new_process_at_the_default_frequency_rg13() {
    if installed("an_empty_redis_misleads_no_new_process_at_the_default_frequency_rg13") {
        comes_back_empty(300, 600);
    }
}

#[test]
fn an_empty_redis_misleads_no_new_process_at_a_frequency_of_5_rg13() {
    if installed("an_empty_redis_misleads_no_new_process_at_a_frequency_of_5_rg13") {
        comes_back_empty(5, 10);
    }
}

#[test]
fn a_failover_to_an_empty_replica_misleads_no_new_process_rg14() {
    if !installed("a_failover_to_an_empty_replica_misleads_no_new_process_rg14") {
        return;
    }
    let mut sentinels = Sentinels::start();
    let (cluster, _processes) = three_nodes(&sentinels.settings(), 300, 600);
    sentinels.servers[0].kill9();
    sentinels.wait_primary(1);
    // As if it had received nothing.
    let () = sentinels.servers[1].run(&["FLUSHALL"]);
    let back = now();
    let mut told = Told::default();
    for turn in 0..6 {
        told.ask(cluster.node(turn % 3));
        wait_until(back + SECOND * (turn as u32 + 1));
    }
    let directory = directory_of(&cluster);
    eventually("all are registered again", || registered(&directory).is_ok_and(|names| names == SERVERS));
    println!("all were registered again {:?} after the failover, at the latest", back.elapsed());
    told.assert_true();
}

#[test]
fn two_deployments_in_one_database_are_noticed() {
    if !installed("two_deployments_in_one_database_are_noticed") {
        return;
    }
    // The directory has names and ports. Both brokers have the same name, because their machines have:
    // with the same port, nothing that they register differs.
    for other_port in ["9502", "9501"] {
        let redis = Redis::start();
        let [one, other] = [(); 2].map(|()| Cluster::with_directory(1, &redis.settings()));
        let flags = |port| ["--set", "rpc_zmq_host=node-1", "--port", port];
        let both = [(&one, flags("9501")), (&other, flags(other_port))];
        let brokers = both.map(|(cluster, flags)| cluster.node(0).broker_with(&flags));
        let _servers = both.map(|(cluster, flags)| cluster.node(0).serve("t", "s", &flags));
        for (number, cluster) in [&one, &other].into_iter().enumerate() {
            let (own, stranger) = (&brokers[number], &brokers[1 - number]);
            let [own_port, their_port] = if number == 0 { ["9501", other_port] } else { [other_port, "9501"] };
            let words = [
                format!("another broker of the name node-1 is at node-1:{their_port} (machine "),
                format!(", process {}, 127.0.0.1), this one at node-1:{own_port} (machine ", stranger.id()),
                format!(", process {})", own.id()),
                "its own rpc_zmq_host".to_owned(),
            ];
            let has_all = |text: &str| words.iter().all(|word| text.contains(word));
            let is_shown = || has_all(&directory_line(cluster.node(0)));
            assert!(within(PATIENCE, is_shown), "no {words:?} in {}", directory_line(cluster.node(0)));
            eventually("the log says it", || own.stderr().lines().any(has_all));
            let lines = own.stderr().lines().filter(|line| line.contains("another broker")).count();
            assert_eq!(lines, 1, "{}", own.stderr());
        }
    }
}

#[test]
fn a_broker_that_starts_again_is_no_second_deployment() {
    if !installed("a_broker_that_starts_again_is_no_second_deployment") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(1, &redis.settings());
    for _ in 0..2 {
        let mut broker = cluster.node(0).broker();
        let calls = redis.calls("evalsha");
        // Several check-ins.
        eventually("it checks in again and again", || redis.calls("evalsha") >= calls + 3);
        assert!(!broker.stderr().contains("another broker"), "{}", broker.stderr());
        broker.kill9();
    }
}
