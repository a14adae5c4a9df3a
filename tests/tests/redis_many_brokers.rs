//! Proves that many brokers register everything again soon after Redis has lost its data, that they do
//! not do it all at once, and that new processes are told meanwhile that the list is incomplete.
//!
//! `cargo test -p zmqv2-tests --test redis_many_brokers -- --ignored --nocapture` starts 300 brokers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zmqv2_tests::redis_server::{Redis, installed};
use zmqv2_tests::{Cluster, Node, Process, eventually, now, wait_until};

/// How soon everything is registered again.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than promised a busy machine may take.
const SLACK: Duration = Duration::from_secs(5);
/// Brokers register within 4 s, after a check-in within 2 s. Without the 4 s they would all register
/// in the time of one check-in.
const SPREAD: Duration = Duration::from_millis(2_500);
const LEASES: &str = "zmqv2:{openstack/t}:leases";

/// Nodes with a broker and a server each, with the default frequency. A cluster has up to 250.
struct Nodes {
    clusters: Vec<Cluster>,
    _processes: Vec<Process>,
    count: usize,
}

impl Nodes {
    fn start(redis: &Redis, clusters: usize, each: u8) -> Self {
        let clusters: Vec<_> = (0..clusters).map(|_| Cluster::with_directory(each, &redis.settings())).collect();
        let all: Vec<_> = clusters.iter().flat_map(Cluster::nodes).collect();
        let mut processes: Vec<_> = all.iter().map(|node| node.broker()).collect();
        processes.extend(all.iter().map(|node| node.serve("t", &format!("s-{}", node.host), &["--workers", "1"])));
        let count = all.len();
        eventually("all are registered", || redis.run::<usize>(&["ZCARD", LEASES]) == count);
        Self { clusters, _processes: processes, count }
    }

    fn node(&self) -> &Node {
        self.clusters[0].node(0)
    }

    /// Loses the data, and checks everything that must be true then.
    fn lose_data(&self, redis: &mut Redis, how: &str, lose: impl FnOnce(&mut Redis)) {
        redis.pretend_renewals_worked();
        let all_accept = format!("accepted by {0} of {0}", self.count);
        eventually("the list is complete", || {
            let fanout = self.node().tool(&["fanout", "t", "echo", "1", "--timeout", "20"]);
            fanout.code() == 0 && fanout.stdout.contains(&all_accept)
        });
        lose(redis);
        let lost = now();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let newcomers = scope.spawn(|| {
                let mut count = 0;
                loop {
                    let is_last = is_over.load(Ordering::Relaxed);
                    let fanout = self.node().tool(&["fanout", "t", "echo", "1", "--timeout", "20"]);
                    let is_unsure = fanout.stderr.starts_with("Incomplete") || fanout.stderr.starts_with("Directory");
                    assert!(fanout.code() == 5 && is_unsure, "{fanout:?}");
                    count += 1;
                    if is_last {
                        break (count, fanout);
                    }
                }
            });
            let times = self.registered_again(redis);
            is_over.store(true, Ordering::Relaxed);
            let (count, last) = newcomers.join().unwrap();
            let (first, all) = (times[0] - lost, times[self.count - 1] - lost);
            println!(
                "{} brokers after {how}: the first was registered again after {first:?}, all after {all:?}; {} in the \
                 busiest second; {count} new processes were told that the list may be incomplete",
                self.count,
                busiest_second(&times)
            );
            assert!(all < REGISTERED_WITHIN + SLACK, "{all:?}");
            assert!(all - first > SPREAD, "all between {first:?} and {all:?}");
            // The last one reached them all, and does not know that.
            assert!(last.stdout.contains(&all_accept), "{last:?}");
        });
    }

    /// When each registration was there.
    fn registered_again(&self, redis: &Redis) -> Vec<Instant> {
        let mut connection = redis.connection();
        let mut times = Vec::new();
        let started = now();
        while times.len() < self.count {
            assert!(started.elapsed() < (REGISTERED_WITHIN + SLACK) * 3, "only {} of {}", times.len(), self.count);
            let there: usize = redis::cmd("ZCARD").arg(LEASES).query(&mut connection).unwrap();
            times.resize(there.max(times.len()), now());
            wait_until(now() + Duration::from_millis(20));
        }
        times
    }
}

fn busiest_second(times: &[Instant]) -> usize {
    let second = Duration::from_secs(1);
    let after = |from: &Instant| times.iter().filter(|at| **at >= *from && **at - *from < second).count();
    times.iter().map(after).max().unwrap_or(0)
}

fn brokers_register_again(clusters: usize, each: u8) {
    let mut redis = Redis::start();
    let nodes = Nodes::start(&redis, clusters, each);
    nodes.lose_data(&mut redis, "FLUSHALL", |redis| {
        let () = redis.run(&["FLUSHALL"]);
    });
    nodes.lose_data(&mut redis, "an empty restart", |redis| {
        redis.kill9();
        redis.restart();
    });
}

#[test]
fn thirty_brokers_register_again_one_after_another() {
    if installed("thirty_brokers_register_again_one_after_another") {
        brokers_register_again(1, 30);
    }
}

#[test]
#[ignore = "starts 600 processes"]
fn three_hundred_brokers_register_again_one_after_another() {
    if installed("three_hundred_brokers_register_again_one_after_another") {
        brokers_register_again(2, 150);
    }
}
