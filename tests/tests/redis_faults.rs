//! Proves that traffic to known servers goes on when Redis stops, hangs, comes back empty or moves,
//! and when a broker dies.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use zmqv2_client::{CallError, SendError};
use zmqv2_matchmaker::{RedisDirectory, RedisSettings};
use zmqv2_proto::{Config, Reason, Target};
use zmqv2_tests::redis_cluster::{
    LEASE, RENEW_EVERY, RedisCluster, SERVERS, SLACK, directory_of, redis_hangs, registered,
};
use zmqv2_tests::redis_server::{Redis, Sentinels, installed};
use zmqv2_tests::{Cluster, Node, PATIENCE, echo, eventually, now, wait_until};

/// The state of the directory that a broker reports to `zmqv2 status`.
fn health(node: &Node) -> String {
    let status = node.tool(&["status"]).stdout;
    status.lines().find(|line| line.contains("directory redis")).unwrap_or_default().to_owned()
}

#[test]
fn redis_is_killed_and_comes_back_empty_rg12_rg13() {
    if !installed("redis_is_killed_and_comes_back_empty_rg12_rg13") {
        return;
    }
    let mut redis = Redis::start();
    let nodes = RedisCluster::start(&redis.settings());
    let traffic = nodes.traffic();
    redis.kill9();
    // Longer than a lease, in which everything would have expired.
    wait_until(now() + LEASE + RENEW_EVERY);
    eventually("the status tells", || health(nodes.cluster.node(0)).contains("; "));
    traffic.wait(200);
    redis.restart();
    let took = nodes.wait_registered(now());
    println!("all were registered again {took:?} after the return");
    assert!(took < RENEW_EVERY + SLACK, "{took:?}");
    traffic.wait(200);
    let _late = nodes.a_new_server_is_visible_soon();
    // After this time empty answers are trusted again and missing servers are removed. None is
    // missing.
    wait_until(now() + LEASE + RENEW_EVERY);
    traffic.wait(200);
    eventually("the status tells that all is well", || {
        let health = health(nodes.cluster.node(0));
        health.contains("1 registrations, confirmed") && !health.contains("; ")
    });
    traffic.stop().assert_clean();
}

#[test]
fn redis_hangs_for_longer_than_a_lease() {
    if installed("redis_hangs_for_longer_than_a_lease") {
        redis_hangs(LEASE * 2);
    }
}

#[test]
fn redis_loses_its_data_without_an_outage_rg13() {
    if !installed("redis_loses_its_data_without_an_outage_rg13") {
        return;
    }
    let redis = Redis::start();
    let nodes = RedisCluster::start(&redis.settings());
    let traffic = nodes.traffic();
    for _ in 0..3 {
        let flushed = now();
        let () = redis.run(&["FLUSHALL"]);
        let took = nodes.wait_registered(flushed);
        println!("all were registered again {took:?} after FLUSHALL");
        assert!(took < RENEW_EVERY + SLACK, "{took:?}");
        traffic.wait(200);
    }
    let _late = nodes.a_new_server_is_visible_soon();
    // After this time empty answers are trusted again, and missing servers are removed.
    wait_until(now() + LEASE + RENEW_EVERY);
    traffic.wait(200);
    traffic.stop().assert_clean();
}

#[test]
fn redis_is_killed_and_comes_back_with_what_it_had_long_ago_rg13() {
    if !installed("redis_is_killed_and_comes_back_with_what_it_had_long_ago_rg13") {
        return;
    }
    let mut redis = Redis::start();
    // Only its epoch.
    let mut config = Config::default();
    (config.redis_host, config.redis_port) = ("127.0.0.1".to_owned(), redis.port());
    RedisDirectory::new(RedisSettings::new(&config).unwrap(), LEASE).check().unwrap();
    let () = redis.run(&["SAVE"]);
    let nodes = RedisCluster::start(&redis.settings());
    let traffic = nodes.traffic();
    for _ in 0..2 {
        // At once, without an outage that clients could notice.
        redis.kill9();
        let started = now();
        redis.restart();
        let back = now();
        // A new client has seen nothing of the outage, and does not trust an empty answer.
        let stranger = nodes.cluster.node(0).client(Target::topic("nobody").unwrap());
        let error = echo(&stranger, "is anybody there").unwrap_err();
        assert!(matches!(error, CallError::NotSent(SendError::Directory { .. })), "{error:?}");
        let took = nodes.wait_registered(back);
        println!("all were registered again {took:?} after the return");
        assert!(took < RENEW_EVERY + SLACK, "{took:?}");
        traffic.wait(200);
        eventually("after a lease it is believed", || {
            echo(&stranger, "now").is_err_and(|error| error.reason() == Some(Reason::NoRoute))
        });
        // Redis counts its age from its start, in whole seconds.
        assert!(started.elapsed() > LEASE - Duration::from_secs(1), "{:?}", started.elapsed());
        traffic.wait(200);
        let () = redis.run(&["SAVE"]);
    }
    let _late = nodes.a_new_server_is_visible_soon();
    traffic.stop().assert_clean();
}

#[test]
fn sentinels_make_a_replica_the_primary_rg14() {
    if !installed("sentinels_make_a_replica_the_primary_rg14") {
        return;
    }
    let mut sentinels = Sentinels::start();
    let nodes = RedisCluster::start(&sentinels.settings());
    let traffic = nodes.traffic();
    let killed = now();
    sentinels.servers[0].kill9();
    wait_for_the_new_primary(&sentinels, &nodes, killed);
    traffic.wait(200);
    let _late = nodes.a_new_server_is_visible_soon();
    // The old primary comes back as a replica. Nobody may use it.
    sentinels.servers[0].restart();
    // After this time the old primary would be trusted.
    wait_until(now() + LEASE + RENEW_EVERY);
    traffic.wait(200);
    traffic.stop().assert_clean();
}

/// Waits for the failover, and for all registrations on the new primary. They need not come from
/// the old one.
fn wait_for_the_new_primary(sentinels: &Sentinels, nodes: &RedisCluster, gone: Instant) {
    sentinels.wait_primary(1);
    let promoted = now();
    println!("the replica was the primary after {:?}", gone.elapsed());
    // The entries that it copied from the old primary are deleted, so that only renewals bring them
    // back.
    let () = sentinels.servers[1].run(&["FLUSHALL"]);
    let took = nodes.wait_registered(promoted);
    println!("all were registered there {took:?} later");
    // Brokers that have tried the dead primary try again within 5 s, and a renewal is due within a
    // second.
    assert!(took < RENEW_EVERY + Duration::from_secs(5) + SLACK, "{took:?}");
}

#[test]
fn sentinels_replace_a_primary_that_hangs_and_nobody_goes_back_to_it_rg14() {
    if !installed("sentinels_replace_a_primary_that_hangs_and_nobody_goes_back_to_it_rg14") {
        return;
    }
    let sentinels = Sentinels::start();
    let nodes = RedisCluster::start(&sentinels.settings());
    let traffic = nodes.traffic();
    let stopped = now();
    sentinels.servers[0].signal(Signal::STOP);
    wait_for_the_new_primary(&sentinels, &nodes, stopped);
    traffic.wait(200);
    // It goes on, and acts as primary until a Sentinel tells it otherwise.
    sentinels.servers[0].signal(Signal::CONT);
    let _late = nodes.a_new_server_is_visible_soon();
    // After this time the old primary would be trusted.
    wait_until(now() + LEASE + RENEW_EVERY);
    traffic.wait(200);
    assert!(registered(&nodes.directory()).unwrap().len() >= SERVERS.len());
    traffic.stop().assert_clean();
}

#[test]
fn a_broker_that_is_killed_is_gone_with_its_lease_and_costs_each_client_one_attempt_rg15_rg33() {
    if !installed("a_broker_that_is_killed_is_gone_with_its_lease_and_costs_each_client_one_attempt_rg15_rg33") {
        return;
    }
    let redis = Redis::start();
    let mut nodes = RedisCluster::start(&redis.settings());
    // Half of it is longer than a busy machine delays any call.
    let connect = Duration::from_secs(3);
    let clients: Vec<_> = (0..3)
        .map(|n| {
            let topic = Target::topic("t").unwrap();
            nodes.cluster.node(n % 2).client_with(topic, |config| config.connect_timeout = connect)
        })
        .collect();
    let directory = nodes.directory();
    eventually("all are registered", || registered(&directory).unwrap().len() == 3);
    for client in &clients {
        // All three nodes are known and connected.
        (0..9).for_each(|_| drop(echo(client, "before").unwrap()));
    }
    nodes.brokers[2].kill9();
    let killed = now();
    let gone = || registered(&directory).unwrap() == ["s0", "s1"];
    let costs: Vec<_> = std::thread::scope(|scope| {
        let call = |client| {
            // A call that waits and then fails is one attempt.
            let (mut wasted, mut count) = (Vec::new(), 0);
            // The first part is before the end of the lease, the rest after it.
            while killed.elapsed() < LEASE * 4 {
                let started = now();
                let outcome = echo(client, "after");
                if outcome.is_err() || started.elapsed() > connect / 2 {
                    wasted.push((started - killed, started.elapsed(), outcome));
                }
                count += 1;
                // A load that leaves time for other tests.
                wait_until(now() + Duration::from_millis(5));
            }
            (wasted, count)
        };
        let callers: Vec<_> = clients.iter().map(|client| scope.spawn(move || call(client))).collect();
        eventually("it is gone from the directory", gone);
        let took = killed.elapsed();
        println!("it was gone from the directory after {took:?}");
        // A stall of this machine looks like a pause of renewals, after which nothing ends for a lease.
        assert!(took < LEASE * 2 + SLACK, "{took:?}");
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    println!("calls of each client that failed or waited, when and for how long, and all its calls: {costs:#?}");
    for (wasted, count) in costs {
        assert!(wasted.len() <= 1 && count > 100, "{wasted:?} of {count} calls");
    }
    // The broker comes back, and so does its server.
    nodes.brokers[2] = nodes.cluster.node(2).broker();
    eventually("it is back", || registered(&directory).unwrap().len() == 3);
    for client in &clients {
        eventually("it gets calls again", || echo(client, "again").is_ok_and(|server| server == "s2"));
    }
}

#[test]
fn a_server_that_leaves_in_order_is_removed_at_once_rg17() {
    if !installed("a_server_that_leaves_in_order_is_removed_at_once_rg17") {
        return;
    }
    let redis = Redis::start();
    // A lease that is too long to wait for.
    let options = [redis.settings(), vec!["matchmaker_heartbeat_ttl=600".into()]].concat();
    let cluster = Cluster::with_directory(2, &options);
    let mut brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let mut servers = ["a", "b", "c"].map(|name| cluster.node(0).serve("t", name, &[]));
    let _other = cluster.node(1).serve("t", "d", &[]);
    let directory = directory_of(&cluster);
    let has = |names: &[&str]| eventually("the directory follows", || registered(&directory).unwrap() == names);
    has(&["a", "b", "c", "d"]);
    servers[0].signal(Signal::TERM);
    assert_eq!(servers[0].wait_end(PATIENCE).code(), Some(0));
    has(&["b", "c", "d"]);
    servers[1].kill9();
    has(&["c", "d"]);
    brokers[0].signal(Signal::TERM);
    assert_eq!(brokers[0].wait_end(PATIENCE).code(), Some(0));
    has(&["d"]);
    // The server did not leave. Its broker did, and registers it again.
    brokers[0] = cluster.node(0).broker();
    has(&["c", "d"]);
}
