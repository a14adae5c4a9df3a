//! Proves what new processes are told while Redis does not know all servers: nothing that is only
//! part of the truth counts as the whole.

use std::time::Duration;

use zmqv2_tests::redis_cluster::{LEASE, RENEW_EVERY, RedisCluster, SERVERS, directory_of, registered};
use zmqv2_tests::redis_server::{Redis, Sentinels, installed};
use zmqv2_tests::{Cluster, Finished, Node, PATIENCE, Process, eventually, now, wait_until, within};

/// How soon everything is registered again after the return of Redis.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
/// How soon the status and the log say what is wrong.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than promised a busy machine may take.
const SLACK: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

/// The line of the status that is about the directory.
fn shown(node: &Node) -> String {
    let status = node.tool(&["status"]).stdout;
    status.lines().find(|line| line.contains("directory redis")).unwrap_or_default().to_owned()
}

/// What new processes at a node were told.
#[derive(Debug, Default)]
struct Told {
    right: usize,
    unsure: usize,
    wrong: Vec<String>,
}

impl Told {
    /// Starts new processes: a fanout, a call to any server, and one to each. All servers live.
    fn ask(&mut self, node: &Node) {
        let fanout = node.tool(&["fanout", "t", "echo", "1", "--timeout", "8"]);
        let accepted = fanout.stdout.lines().filter(|line| line.contains("acked")).count();
        self.count(&fanout, fanout.code() != 0 || accepted == SERVERS.len());
        let call = node.tool(&["call", "t", "echo", "1", "--timeout", "8"]);
        self.count(&call, true);
        for name in SERVERS {
            let call = node.tool(&["call", "t", "echo", "1", "--server", name, "--timeout", "8"]);
            self.count(&call, true);
        }
    }

    /// `right`: whether success, if it says so, is the truth.
    fn count(&mut self, ended: &Finished, right: bool) {
        let mut lines = ended.stderr.lines();
        let is_unsure = lines.any(|line| line.starts_with("Directory") || line.starts_with("Incomplete"));
        match ended.code() {
            0 if right => self.right += 1,
            5 if is_unsure => self.unsure += 1,
            _ => self.wrong.push(format!("{ended:?}")),
        }
    }

    fn assert_true(&self) {
        println!("{} were right, {} were told that it is not sure", self.right, self.unsure);
        assert!(self.wrong.is_empty(), "{} were told something wrong: {}", self.wrong.len(), self.wrong[0]);
    }
}

/// Three nodes with a broker and a server each, which renew every `renew_every` seconds.
fn nodes(directory: &[String], renew_every: u64, lease: u64) -> (Cluster, Vec<Process>) {
    let times = [
        format!("matchmaker_heartbeat_freq={renew_every}"),
        format!("matchmaker_heartbeat_ttl={lease}"),
        "refresh_interval=2".to_owned(),
    ];
    let cluster = Cluster::with_directory(3, &[directory, &times].concat());
    let mut processes: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    processes.extend(cluster.nodes().iter().zip(SERVERS).map(|(node, name)| node.serve("t", name, &[])));
    let directory = directory_of(&cluster);
    eventually("all are registered", || registered(&directory).is_ok_and(|names| names == SERVERS));
    (cluster, processes)
}

/// Redis is killed, comes back empty, and is asked by new processes every second from then on.
fn comes_back_empty(renew_every: u64, lease: u64) {
    let mut redis = Redis::start();
    let (cluster, _processes) = nodes(&redis.settings(), renew_every, lease);
    redis.kill9();
    let killed = now();
    let mut told = Told::default();
    told.ask(cluster.node(0));
    let is_shown = || shown(cluster.node(2)).contains("refused");
    assert!(within((SHOWN_WITHIN + SLACK).saturating_sub(killed.elapsed()), is_shown), "{}", shown(cluster.node(2)));
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

/// Redis refuses writes for longer than two leases.
fn refuses_writes(refuse: &[&str], accept: &[&str], word: &str) {
    let redis = Redis::start();
    let nodes = RedisCluster::start(&redis.settings());
    let traffic = nodes.traffic();
    let () = redis.run(refuse);
    let refused = now();
    let node = nodes.cluster.node(0);
    let is_shown = || shown(node).contains(word);
    assert!(within(SHOWN_WITHIN + SLACK, is_shown), "no {word:?} in {}", shown(node));
    let log = || nodes.brokers[0].stderr();
    assert!(within(SLACK, || log().contains(word)), "no {word:?} in the log: {}", log());
    let mut told = Told::default();
    let mut turn = 0;
    while refused.elapsed() < LEASE * 2 + RENEW_EVERY {
        told.ask(nodes.cluster.node(turn % 3));
        turn += 1;
        wait_until(refused + SECOND * turn as u32);
    }
    // Running clients have lost no node.
    traffic.wait(200);
    let topics = node.tool(&["topics"]);
    assert!(topics.code() == 5 && topics.stderr.contains("Incomplete: "), "{topics:?}");
    assert!(topics.stdout.starts_with("this list may be incomplete: "), "{topics:?}");
    let fanout = node.tool(&["fanout", "t", "echo", "1", "--json"]);
    assert!(fanout.code() == 5 && fanout.stdout.contains("\"may_be_incomplete\":\""), "{fanout:?}");
    let () = redis.run(accept);
    let took = nodes.wait_registered(now());
    assert!(took < REGISTERED_WITHIN + SLACK, "{took:?}");
    traffic.wait(200);
    told.ask(node);
    told.assert_true();
    traffic.stop().assert_clean();
    eventually("new processes are sure again", || {
        let fanout = node.tool(&["fanout", "t", "echo", "1"]);
        fanout.code() == 0 && fanout.stdout.contains("accepted by 3 of 3")
    });
    eventually("the status no longer says it", || !shown(node).contains(word));
    let lines = log().lines().filter(|line| line.contains(word)).count();
    assert!(lines <= 2, "a line for each change, not {lines}: {}", log());
}

#[test]
fn a_redis_without_enough_replicas_takes_no_server_away() {
    if installed("a_redis_without_enough_replicas_takes_no_server_away") {
        let option = |value| ["CONFIG", "SET", "min-replicas-to-write", value];
        refuses_writes(&option("1"), &option("0"), "min-replicas-to-write");
    }
}

#[test]
fn a_redis_without_memory_takes_no_server_away() {
    if installed("a_redis_without_memory_takes_no_server_away") {
        let option = |value| ["CONFIG", "SET", "maxmemory", value];
        refuses_writes(&option("1"), &option("0"), "maxmemory");
    }
}

#[test]
fn a_failover_to_an_empty_replica_misleads_no_new_process_rg14() {
    if !installed("a_failover_to_an_empty_replica_misleads_no_new_process_rg14") {
        return;
    }
    let mut sentinels = Sentinels::start();
    let (cluster, _processes) = nodes(&sentinels.settings(), 300, 600);
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
    let redis = Redis::start();
    let [one, other] = [(); 2].map(|()| Cluster::with_directory(1, &redis.settings()));
    // The directory has names and ports. Both brokers have the same name.
    let flags = |port| ["--set", "rpc_zmq_host=node-1", "--port", port];
    let both = [(&one, flags("9501")), (&other, flags("9502"))];
    let brokers = both.map(|(cluster, flags)| cluster.node(0).broker_with(&flags));
    let _servers = both.map(|(cluster, flags)| cluster.node(0).serve("t", "s", &flags));
    for (cluster, broker) in [&one, &other].into_iter().zip(&brokers) {
        let is_shown = || shown(cluster.node(0)).contains("another broker");
        assert!(within(PATIENCE, is_shown), "{}", shown(cluster.node(0)));
        eventually("the log says it", || broker.stderr().contains("rpc_zmq_host"));
    }
}
