//! Proves that the legacy driver's Redis directory has the faults of the original, and that zmqv2
//! can use the same Redis beside it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use zmqv2_client::RequestContext;
use zmqv2_proto::Target;
use zmqv2_tests::legacy::frames::Message;
use zmqv2_tests::legacy::{Client, Daemon, Help, Matchmaker, Options, Server, Target as To};
use zmqv2_tests::notifications::NotificationLog;
use zmqv2_tests::redis_server::{Redis, installed, keys};
use zmqv2_tests::{Cluster, eventually};

/// Options of a node.
fn options(cluster: &Cluster, n: usize) -> Options {
    Options::from_pairs(&cluster.node(n).options()).expect("options")
}

fn serve(options: &Options, ran: &NotificationLog<Value>) -> Server {
    let ran = ran.clone();
    let handler = move |message: &Message| {
        ran.add(message.args.clone());
        Some(Ok(Value::Null))
    };
    Server::serve(options.clone(), "t", Arc::new(handler)).expect("a server")
}

#[test]
fn by_redis_a_fanout_of_the_legacy_driver_reaches_one_server_of_each_host_and_that_of_zmqv2_all() {
    if !installed("by_redis_a_fanout_of_the_legacy_driver_reaches_one_server_of_each_host_and_that_of_zmqv2_all") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(2, &redis.settings());
    let all: Vec<Options> = (0..2).map(|n| options(&cluster, n)).collect();
    let _daemons: Vec<Daemon> = all.iter().map(|options| Daemon::start(options.clone()).expect("a daemon")).collect();
    let ran: Vec<NotificationLog<Value>> = all.iter().map(|_| NotificationLog::default()).collect();
    // Three servers at each host.
    let servers = |options, ran| [(); 3].map(|()| serve(options, ran));
    let _servers: Vec<_> = all.iter().zip(&ran).map(|(options, ran)| servers(options, ran)).collect();
    let client = Client::new(all[0].clone(), Help::default()).expect("a client");
    for round in 1..=5 {
        client.fanout("t", &Map::new(), &Message::new("note", json!(round)));
        ran.iter().for_each(|ran| drop(ran.wait(round)));
    }
    client.cast(
        &To { topic: "t".to_owned(), server: Some(all[0].host.clone()) },
        &Map::new(),
        &Message::new("x", json!(0)),
    );
    ran[0].wait(6);
    assert_eq!((ran[0].len(), ran[1].len()), (6, 5), "once at each host: {:?}", (ran[0].all(), ran[1].all()));

    // zmqv2 at the same hosts, on other ports, in the same Redis.
    let _brokers: Vec<_> = cluster.nodes().iter().map(|node| node.broker_with(&["--port", "9502"])).collect();
    let names = ["a", "b", "c"];
    let place = |node: usize, name: &str| cluster.node(node).serve("t", &format!("{name}{node}"), &[]);
    let _servers: Vec<_> = (0..2).flat_map(|node| names.map(|name| place(node, name))).collect();
    let client = cluster.node(0).client(Target::topic("t").expect("a topic"));
    eventually("all six have it", || {
        let handle = client.fanout(&RequestContext::new(), "echo", &1).expect("sent");
        let report = handle.wait(Duration::from_secs(10)).expect("a report");
        report.acked() == 6 && report.results.len() == 6
    });
    // The two drivers use different keys.
    let (own, others): (Vec<_>, Vec<_>) = keys(&redis).into_iter().partition(|key| key.starts_with("zmqv2:"));
    assert_eq!((ran[0].len(), ran[1].len()), (6, 5), "nothing has come since: {:?}", (ran[0].all(), ran[1].all()));
    assert!(!own.is_empty() && others.iter().all(|key| key == "t" || key.starts_with("t.")), "{own:?} {others:?}");
}

#[test]
fn by_redis_a_legacy_server_that_has_stopped_stays_visible_until_it_expires() {
    if !installed("by_redis_a_legacy_server_that_has_stopped_stays_visible_until_it_expires") {
        return;
    }
    let redis = Redis::start();
    let cluster = Cluster::with_directory(1, &redis.settings());
    let mut options = options(&cluster, 0);
    (options.heartbeat_ttl, options.heartbeat_freq) = (Duration::from_secs(5), Duration::from_secs(1));
    let server = serve(&options, &NotificationLog::default());
    let matchmaker = Matchmaker::open(&options).expect("a directory");
    let (host, member) = (options.host.clone(), format!("t.{}", options.host));
    let known = vec![(member.clone(), host)];
    assert_eq!((matchmaker.queues("t"), matchmaker.queues("fanout~t")), (known.clone(), known.clone()));
    let left: u64 = redis.run(&["TTL", &member]);
    assert!(left <= 5, "it expires: {left}");
    drop(server);
    assert_eq!(matchmaker.queues("t"), known, "it has only been withdrawn by names that nobody asks for");
    eventually("it has expired", || matchmaker.queues("t").is_empty());
    assert_eq!(redis.run::<u64>(&["EXISTS", "t"]), 0, "and is forgotten");
}
