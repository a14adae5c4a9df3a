//! Proves that new processes work with a Redis that is 400 ms away in each direction, and how often
//! they wait for it.

use std::time::Duration;

use zmqv2_matchmaker::{RedisDirectory, RedisSettings, Registration, RemoteDirectory};
use zmqv2_proto::{Config, Node, TopicKey};
use zmqv2_tests::redis_server::{Redis, installed};
use zmqv2_tests::{Cluster, DelayRelay, Finished, eventually, now, within};

const AWAY: Duration = Duration::from_millis(400);
const SECOND: Duration = Duration::from_secs(1);
/// How much longer than its round trips a process may take on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// More topics than one would ask for one by one.
const TOPICS: usize = 200;

fn port(port: u16) -> String {
    format!("matchmaker_redis.port={port}")
}

/// Options of nodes whose Redis is at this port. Lists are complete 10 s after the start.
fn options(at: u16) -> Vec<String> {
    let own = ["rpc_zmq_matchmaker=redis", "matchmaker_heartbeat_freq=5", "matchmaker_heartbeat_ttl=10"];
    own.map(str::to_owned).into_iter().chain([port(at)]).collect()
}

/// Registers a server in each of many topics.
fn register_many(redis: &Redis) {
    let mut config = Config::default();
    (config.redis_host, config.redis_port) = ("127.0.0.1".to_owned(), redis.port());
    let lease = SECOND * 600;
    let directory = RedisDirectory::new(RedisSettings::new(&config).unwrap(), lease);
    let node = Node::new("n".parse().unwrap(), "n".parse().unwrap());
    let registration = |n| {
        let key = TopicKey::parse(&format!("x/many-{n:03}")).unwrap();
        Registration { key, server: "s".parse().unwrap(), node: node.clone() }
    };
    directory.register(&(0..TOPICS).map(registration).collect::<Vec<_>>(), lease).unwrap();
}

fn has_all(topics: &Finished) -> bool {
    (0..TOPICS).all(|n| topics.stdout.contains(&format!("x/many-{n:03}\n"))) && topics.stdout.contains("openstack/t\n")
}

#[test]
fn everything_works_when_brokers_and_new_processes_are_far_from_redis() {
    if !installed("everything_works_when_brokers_and_new_processes_are_far_from_redis") {
        return;
    }
    let redis = Redis::start();
    let far = DelayRelay::start(redis.port(), AWAY);
    let cluster = Cluster::with_directory(2, &options(far.port()));
    let _brokers = [0, 1].map(|n| cluster.node(n).broker());
    let _servers = [0, 1].map(|n| cluster.node(n).serve("t", ["s0", "s1"][n], &[]));
    let node = cluster.node(0);
    eventually("both are registered, and the list is complete", || {
        let fanout = node.tool(&["fanout", "t", "echo", "1"]);
        assert!(fanout.code() == 0 || fanout.code() == 5, "{fanout:?}");
        fanout.code() == 0 && fanout.stdout.contains("accepted by 2 of 2")
    });
    register_many(&redis);
    // Opening a connection, asking, and for a list its topics.
    let at_most = AWAY * 2 * 3 + SLACK;
    for arguments in [
        &["call", "t", "echo", "1"][..],
        &["call", "t", "echo", "1", "--server", "s1"],
        &["cast", "t", "echo", "1", "--server", "s1"],
        &["fanout", "t", "echo", "1"],
        &["topics"],
        &["status"],
    ] {
        let started = now();
        let ended = node.tool(arguments);
        let took = started.elapsed();
        println!("{arguments:?}: {took:?}");
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(took < at_most, "{arguments:?} took {took:?}");
        assert!(arguments[0] != "topics" || has_all(&ended), "{ended:?}");
    }
    let is_well = || {
        let status = node.tool(&["status"]).stdout;
        status.lines().any(|line| line.contains("redis: 1 registrations, confirmed") && !line.contains(';'))
    };
    assert!(within(SLACK, is_well), "{:?}", node.tool(&["status"]));
}

#[test]
fn a_new_process_waits_twice_for_redis_and_a_list_of_all_topics_three_times() {
    if !installed("a_new_process_waits_twice_for_redis_and_a_list_of_all_topics_three_times") {
        return;
    }
    let redis = Redis::start();
    register_many(&redis);
    let near = Cluster::with_directory(1, &options(redis.port()));
    let node = near.node(0);
    let _broker = node.broker();
    let _server = node.serve("t", "s0", &[]);
    eventually("the list is complete", || node.tool(&["topics"]).code() == 0);
    for (arguments, waits) in [(&["fanout", "t", "echo", "1"][..], 2), (&["topics"], 3)] {
        // Each process has its own relay, so that no other is counted.
        let far = DelayRelay::start(redis.port(), AWAY);
        let setting = port(far.port());
        let ended = node.tool(&[arguments, &["--set", &setting]].concat());
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(arguments[0] != "topics" || has_all(&ended), "{ended:?}");
        // The second connection, if there is one, waits for changes.
        assert_eq!(far.waits().first(), Some(&waits), "{arguments:?}: {:?}", far.waits());
    }
    // A call to a server of the own node does not wait for Redis, and never asks more.
    let far = DelayRelay::start(redis.port(), AWAY);
    let call = node.tool(&["call", "t", "echo", "1", "--server", "s0", "--set", &port(far.port())]);
    assert_eq!(call.code(), 0, "{call:?}");
    assert!(far.waits().first().is_none_or(|waits| *waits <= 2), "{:?}", far.waits());
    // The broker of the node answers, without Redis.
    let far = DelayRelay::start(redis.port(), AWAY);
    assert_eq!(node.tool(&["status", "--set", &port(far.port())]).code(), 0);
    assert_eq!(far.waits(), [0; 0]);
}
