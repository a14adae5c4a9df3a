//! Proves for a few nodes with a Redis directory: how often Redis is asked, which servers are
//! chosen, and what operators see.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use zmqv2_client::{Outcome, RequestContext, RpcClient};
use zmqv2_proto::{Priority, Target};
use zmqv2_tests::notifications::{NotificationLog, report_of, send_number, started};
use zmqv2_tests::redis_cluster::{SLACK, directory_of, registered};
use zmqv2_tests::redis_server::{Redis, installed, keys};
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, echo, eventually, now, wait_until};

fn with(redis: &Redis, options: &[&str]) -> Vec<String> {
    redis.settings().into_iter().chain(options.iter().map(|option| (*option).to_owned())).collect()
}

fn client(node: &Node) -> RpcClient {
    node.client(Target::topic("t").unwrap())
}

/// The servers that answer `count` calls to any server.
fn who(client: &RpcClient, calls: usize) -> BTreeMap<String, usize> {
    let mut who = BTreeMap::new();
    for _ in 0..calls {
        *who.entry(echo(client, "who").unwrap()).or_default() += 1;
    }
    who
}

/// The servers that accept `count` casts to any server.
fn who_by_cast(client: &RpcClient, casts: usize) -> BTreeMap<String, usize> {
    let mut who = BTreeMap::new();
    for _ in 0..casts {
        let outcome = client.cast(&RequestContext::new(), "echo", &"who").unwrap().wait(PATIENCE);
        let Some(Outcome::Acked { server, .. }) = outcome else { panic!("{outcome:?}") };
        *who.entry(server.to_string()).or_default() += 1;
    }
    who
}

#[test]
fn a_hundred_thousand_casts_cost_redis_a_handful_of_commands_rg10() {
    const CASTS: usize = 100_000;
    if !installed("a_hundred_thousand_casts_cost_redis_a_handful_of_commands_rg10") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(2, &redis.settings());
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _servers = [0, 1].map(|n| cluster.node(n).serve("t", &format!("s{n}"), &["--workers", "2"]));
    let client = client(cluster.node(0));
    eventually("both servers are known", || {
        let report = client.fanout(&RequestContext::new(), "echo", &0).unwrap().wait(PATIENCE).unwrap();
        report.results.len() == 2
    });
    let before = redis.info("total_commands_processed");
    let started = now();
    let mut open = std::collections::VecDeque::new();
    for number in 0..CASTS {
        open.push_back(client.cast(&RequestContext::new(), "echo", &number).unwrap());
        if open.len() > 2_000 {
            assert!(open.pop_front().unwrap().wait(PATIENCE).unwrap().is_acked());
        }
    }
    assert!(open.into_iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
    // One command is the query itself.
    let commands = redis.info("total_commands_processed") - before - 1;
    let seconds = started.elapsed().as_secs_f64();
    println!("{CASTS} casts in {seconds:.1} s cost Redis {commands} commands");
    // Each of the two brokers checks in every 2 s, which takes about six commands. Two more for each
    // refresh, and some for a new connection.
    assert!(commands as f64 <= 50.0 + seconds * 10.0, "{commands} commands in {seconds:.1} s");
}

#[test]
fn calls_are_spread_evenly_over_nodes_and_the_own_zone_comes_first() {
    if !installed("calls_are_spread_evenly_over_nodes_and_the_own_zone_comes_first") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(3, &with(&redis, &["refresh_interval=1"]));
    let zones = ["rpc_zmq_zone=east", "rpc_zmq_zone=east", "rpc_zmq_zone=west"];
    let _brokers: Vec<_> =
        cluster.nodes().iter().zip(zones).map(|(node, zone)| node.broker_with(&["--set", zone])).collect();
    let mut servers: Vec<Process> =
        cluster.nodes().iter().zip(["a", "b", "c"]).map(|(node, name)| node.serve("t", name, &[])).collect();
    let in_zone = |zone: Option<&str>| {
        let zone = zone.map(|zone| zone.parse().unwrap());
        cluster.node(0).client_with(Target::topic("t").unwrap(), |config| config.zone = zone)
    };
    let [anywhere, east, west] = [None, Some("east"), Some("west")].map(in_zone);
    eventually("all are known", || who(&anywhere, 3).len() == 3);
    for who in [who, who_by_cast] {
        let shares = |client: &RpcClient| json!(who(client, 300));
        assert_eq!(shares(&anywhere), json!({"a": 100, "b": 100, "c": 100}));
        assert_eq!(shares(&east), json!({"a": 150, "b": 150}));
        assert_eq!(shares(&west), json!({"c": 300}));
    }
    servers[2].kill9();
    eventually("without anybody in its zone, a client calls others", || {
        who(&west, 4) == BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 2)])
    });
}

#[test]
fn operators_see_topics_leases_and_health() {
    if !installed("operators_see_topics_leases_and_health") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(2, &with(&redis, &["rpc_zmq_zone=rack-7"]));
    let node = cluster.node(0);
    let empty = node.tool(&["topics"]);
    // This Redis is younger than a lease.
    let doubt = "this list may be incomplete: the directory is younger than a lease";
    assert_eq!((empty.code(), empty.stdout), (5, format!("{doubt}\nno topic is registered\n")));
    assert_eq!(empty.stderr, "Incomplete: the directory is younger than a lease\n");
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _servers = [
        node.serve("beta", "s1", &[]),
        node.serve("beta", "s2", &[]),
        cluster.node(1).serve("beta", "s1", &[]),
        node.serve("alpha", "host@backend", &[]),
    ];
    let listed = || -> Value { serde_json::from_str(&node.tool(&["topics", "--json"]).stdout).unwrap() };
    let servers = |topics: &Value| -> usize {
        let topics = topics["topics"].as_array().unwrap().iter();
        let nodes = topics.flat_map(|topic| topic["nodes"].as_array().unwrap());
        nodes.map(|node| node["servers"].as_array().unwrap().len()).sum()
    };
    eventually("all are registered", || servers(&listed()) == 4);
    let topics = listed();
    assert_eq!(topics["topics"][0]["topic"], "openstack/alpha");
    let beta = &topics["topics"][1];
    assert_eq!(beta["nodes"][0]["node"], *node.host);
    assert_eq!(beta["nodes"][0]["zone"], "rack-7");
    assert_eq!(beta["nodes"][0]["address"], format!("{}:9501", node.host));
    let server = &beta["nodes"][0]["servers"][1];
    assert_eq!(server["server"], "s2");
    let (age, left) = (server["renewed_s"].as_f64().unwrap(), server["ends_s"].as_f64().unwrap());
    assert!((0.0..60.0).contains(&age) && (age + left - 600.0).abs() < 0.1, "{server}");
    let text = node.tool(&["topics", "bet"]).stdout;
    assert!(!text.contains("alpha"), "{text}");
    for part in [
        "openstack/beta\n",
        &format!("  {0} ({0}:9501), zone rack-7\n", node.host),
        "    s1: renewed ",
        " s ago, ends in ",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let status = node.tool(&["status"]).stdout;
    assert!(status.contains("  directory redis: 3 registrations, confirmed "), "{status}");
    let told = cluster.node(1).tool(&["status", "--json"]).stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["directory"]["registrations"], json!(1));
    let problem = told["directory"]["problem"].as_str().unwrap_or_default();
    assert!(problem.starts_with("may lack servers for "), "this Redis is younger than a lease: {told}");
}

#[test]
fn servers_and_listeners_of_one_topic_are_listed_apart() {
    if !installed("servers_and_listeners_of_one_topic_are_listed_apart") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(2, &redis.settings());
    let [near, far] = [0, 1].map(|n| cluster.node(n));
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _server = near.serve("t.info", "s", &[]);
    let received: NotificationLog<u64> = NotificationLog::default();
    let note = received.clone();
    let listener = far.listener_builder("t", "p").on(Priority::Info, move |notice| note.add(notice.payload().unwrap()));
    let listener = started(listener);
    let listed = || -> Value { serde_json::from_str(&near.tool(&["topics", "--json"]).stdout).unwrap() };
    let is_listed = |node: &Node, kind: &str| {
        listed()["topics"].as_array().unwrap().iter().any(|topic| {
            let here = json!([topic["topic"], topic["receivers"], topic["nodes"][0]["node"]]);
            here == json!(["openstack/t.info", kind, node.host])
        })
    };
    eventually("both are listed", || is_listed(near, "server") && is_listed(far, "listener"));
    // Neither kind of client looks at the node of the other kind.
    for from in [near, far] {
        let client = from.client(Target::topic("t.info").unwrap());
        assert_eq!(who(&client, 6), BTreeMap::from([("s".to_owned(), 6)]));
        let report = client.fanout(&RequestContext::new(), "echo", &0).unwrap().wait(PATIENCE).unwrap();
        assert_eq!((report.acked(), report.results.len()), (1, 1), "{report:#}");
        // This Redis is younger than a lease, so there may be other pools.
        let report = report_of(&send_number(&from.notifier(&["t"]), 7));
        assert_eq!((report.acked(), report.results.len()), (1, 1), "{report:#}");
    }
    assert_eq!(received.wait(2), [7, 7]);
    assert_eq!(far.status().counters["refused_no_route"], 0);
    assert!(near.tool(&["topics"]).stdout.contains("openstack/t.info (listeners)\n"));
    listener.stop().unwrap();
}

#[test]
fn keys_include_the_exchange_have_one_type_each_and_end_by_themselves_rg15_rg16() {
    if !installed("keys_include_the_exchange_have_one_type_each_and_end_by_themselves_rg15_rg16") {
        return;
    }
    let redis = Redis::start();
    // As short as allowed.
    let options = ["matchmaker_heartbeat_ttl=2", "matchmaker_heartbeat_freq=1", "refresh_interval=1"];
    let cluster = Cluster::with_directory(1, &with(&redis, &options));
    let node = cluster.node(0);
    let _broker = node.broker();
    let _servers = [node.serve("t", "s", &[]), node.serve("t", "s", &["--exchange", "nova"])];
    eventually("both are there", || keys(&redis).len() == 10);
    let expected = [
        "zmqv2:epoch",
        "zmqv2:nodes",
        "zmqv2:renewals",
        "zmqv2:topics",
        "zmqv2:{nova/t}:changes",
        "zmqv2:{nova/t}:leases",
        "zmqv2:{nova/t}:places",
        "zmqv2:{openstack/t}:changes",
        "zmqv2:{openstack/t}:leases",
        "zmqv2:{openstack/t}:places",
    ];
    assert_eq!(keys(&redis), expected);
    // It is renewed every second for two seconds, so it never expires.
    let client = client(node);
    let until = now() + Duration::from_secs(6);
    while now() < until {
        assert_eq!(keys(&redis), expected);
        assert_eq!(echo(&client, "there").unwrap(), "s");
        // Frequent enough to see a gap.
        wait_until(now() + Duration::from_millis(50));
    }
    for key in &expected[1..] {
        let left: i64 = redis.run(&["PTTL", key]);
        assert!(left > 0, "{key} would never end: {left}");
    }
}

#[test]
fn a_broker_that_comes_back_on_another_port_is_found_by_redis_rg31() {
    if !installed("a_broker_that_comes_back_on_another_port_is_found_by_redis_rg31") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(2, &with(&redis, &["refresh_interval=1"]));
    let (near, far) = (cluster.node(0), cluster.node(1));
    let mut broker = far.broker();
    let _server = far.serve("t", "s", &[]);
    let client = client(near);
    eventually("it is there", || echo(&client, "first").is_ok());
    broker.kill9();
    let _again = far.broker_with(&["--port", "0"]);
    eventually("it is found at its other port", || echo(&client, "second").is_ok());
}

#[test]
fn a_broker_has_one_connection_and_so_has_a_client() {
    if !installed("a_broker_has_one_connection_and_so_has_a_client") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(2, &with(&redis, &["refresh_interval=1"]));
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let nodes = [0, 0, 0, 1, 1].map(|n| cluster.node(n));
    let _servers: Vec<_> = nodes.iter().zip(0..).map(|(node, n)| node.serve("t", &format!("s{n}"), &[])).collect();
    eventually("one for all servers of a broker", || redis.clients() == 2);
    let clients = [0, 1, 1].map(|n| client(cluster.node(n)));
    for client in &clients {
        eventually("somebody is there", || echo(client, "there").is_ok());
    }
    // The first connection is closed when it is unused for a while.
    eventually("one for each", || redis.clients() == 5);
}

#[test]
fn leases_of_a_second_are_long_enough() {
    if !installed("leases_of_a_second_are_long_enough") {
        return;
    }
    let redis = Redis::start();
    let options = ["matchmaker_heartbeat_ttl=1", "matchmaker_heartbeat_freq=0.3", "refresh_interval=0.5"];
    let cluster = Cluster::with_directory(2, &with(&redis, &options));
    let mut broker = cluster.node(0).broker();
    // As long as this one renews, leases that end count.
    let _other = cluster.node(1).broker();
    let _server = cluster.node(0).serve("t", "s", &[]);
    let directory = directory_of(&cluster);
    eventually("it is registered", || registered(&directory).unwrap() == ["s"]);
    let client = client(cluster.node(0));
    eventually("it is known", || echo(&client, "there").is_ok());
    let renewals = redis.calls("evalsha");
    eventually("it is renewed", || redis.calls("evalsha") > renewals + 10);
    assert_eq!(echo(&client, "there").unwrap(), "s");
    eventually("it is registered", || registered(&directory).unwrap() == ["s"]);
    broker.kill9();
    let killed = now();
    eventually("its lease ends", || registered(&directory).unwrap().is_empty());
    let took = killed.elapsed();
    // A stall of this machine looks like a pause of renewals, after which nothing ends for a lease.
    assert!(took < Duration::from_secs(3) + SLACK, "{took:?}");
}

/// A new Redis cannot know that a topic has no listener. No notification may be lost for that.
#[test]
fn notifications_sent_while_the_directory_fills_are_kept_by_the_nodes_own_broker() {
    if !installed("notifications_sent_while_the_directory_fills_are_kept_by_the_nodes_own_broker") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(1, &redis.settings());
    let node = cluster.node(0);
    let _broker = node.broker();
    let notifier = client(node).notifier("test").topics(["nobody-yet"]).unwrap();
    let report = notifier.info(&RequestContext::new(), "begun", &1).unwrap().wait(PATIENCE).unwrap();
    assert!(report.results.iter().all(|result| matches!(result.outcome, Outcome::Stored { .. })), "{report:?}");
    assert_eq!((report.results.len(), node.status().notifications), (1, 1));
}
