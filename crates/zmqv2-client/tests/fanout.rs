//! Fanouts: every server of every node has an outcome, and none delays another.

mod support;

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use support::{Act, Broker, Fixed, Seen, builder, dead_node, now, punctual};
use zmqv2_client::{FanoutReport, Outcome, SendError, WhenFull};
use zmqv2_proto::{Address, Config, Flags, Kind, Node, Reason, RequestContext};

const LONG: Duration = Duration::from_secs(20);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Every result as `node server word`, sorted.
fn show(report: &FanoutReport) -> Vec<String> {
    let mut all: Vec<String> = report
        .results
        .iter()
        .map(|result| {
            let node = result.node.as_ref().map_or("-", |node| node.as_str());
            let server = result.server.as_ref().map_or("-", |server| server.as_str());
            let word = match &result.outcome {
                Outcome::Acked { .. } => "acked".to_owned(),
                Outcome::Refused { refusal, .. } => refusal.reason.to_string(),
                Outcome::Unacknowledged { sent: true, .. } => "silent".to_owned(),
                Outcome::Unacknowledged { sent: false, .. } => "unsent".to_owned(),
                other => panic!("{other}"),
            };
            format!("{node} {server} {word}")
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_server_of_every_node_answers_for_itself_rg23() {
    let (saw, seen) = mpsc::channel();
    let saw_too = saw.clone();
    let one = Broker::start(move |request| {
        saw.send((request.header.clone(), request.request.clone())).unwrap();
        request.acks("n1", &["s1", "s2"], 0)
    });
    let other = Broker::start(move |request| {
        saw_too.send((request.header.clone(), request.request.clone())).unwrap();
        request.acks("n2", &["s1"], 0)
    });
    let observed = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&observed);
    let client = builder([one.node("n1"), other.node("n2")])
        .observer(move |target, outcome| told.lock().unwrap().push((target.to_string(), outcome.is_acked())))
        .build()
        .unwrap();
    // The server of the target does not count.
    let handle = client.prepare().server("s9").unwrap().fanout(&context().with("user", "ann"), "forget", &[7]).unwrap();
    let report = handle.wait(LONG).unwrap();
    assert_eq!(show(&report), ["n1 s1 acked", "n1 s2 acked", "n2 s1 acked"]);
    assert!(report.all_acked() && report.open == 0);
    assert_eq!(report.to_string(), "accepted by 3 of 3, 0 refused, 0 unacknowledged");
    assert_eq!((handle.report(), handle.so_far()), (Some(report.clone()), report));
    for _ in 0..2 {
        let (header, request) = seen.recv().unwrap();
        assert_eq!((header.kind, header.id, header.server), (Kind::Fanout, handle.id(), None));
        assert_eq!(
            (header.key.unwrap().as_str(), header.flags),
            ("openstack/t", Flags::BUNDLES.with(Flags::NO_METHOD))
        );
        assert_eq!((request.unique_id, request.args.get()), (Some(handle.id()), "[7]"));
        assert_eq!(request.context.get("user"), Some("ann".into()));
    }
    let mut observed = observed.lock().unwrap().clone();
    observed.sort();
    let [s1, s2] = ["openstack/t at s1", "openstack/t at s2"].map(|target| (target.to_owned(), true));
    assert_eq!(observed, [s1.clone(), s1, s2]);
    let counters = client.counters();
    assert_eq!((counters.accepted, counters.copies, counters.acked, counters.open), (2, 1, 3, 0));
}

#[test]
fn a_slow_node_and_a_dead_one_delay_no_other_rg33() {
    let slow = Broker::start(|_| Act::Ignore);
    let half = Broker::start(|seen| seen.acks("n3", &["s5"], 1));
    let fast = Broker::start(|seen| seen.acks("n4", &["s7", "s8"], 0));
    let directory = Fixed::listing(&[
        (dead_node("n1"), &["s1"]),
        (slow.node("n2"), &["s2", "s3"]),
        (half.node("n3"), &["s5", "s6"]),
        (fast.node("n4"), &["s7"]),
    ]);
    let mut config = Config::default();
    config.connect_timeout = millis(150);
    let client = builder([]).matchmaker(directory).config(config).cast_timeout(millis(2_000)).build().unwrap();
    let (report, fanouts) = punctual(millis(2_000), || {
        let started = now();
        let handle = client.fanout(&context(), "m", &()).unwrap();
        let early = loop {
            let early = handle.so_far();
            if early.acked() == 3 {
                break early;
            }
            assert!(started.elapsed() < millis(1_500), "{early:#}");
            std::thread::yield_now();
        };
        assert!(early.open >= 2 && !early.all_acked() && handle.report().is_none(), "{early}");
        assert!(handle.wait(millis(1)).is_none());
        handle.wait(LONG).unwrap()
    });
    assert_eq!(
        show(&report),
        ["n1 s1 unsent", "n2 s2 silent", "n2 s3 silent", "n3 s5 acked", "n3 s6 silent", "n4 s7 acked", "n4 s8 acked"]
    );
    assert_eq!((report.acked(), report.refused(), report.unacknowledged(), report.all_acked()), (3, 0, 4, false));
    let shown = format!("{report:#}");
    assert!(shown.starts_with("accepted by 3 of 7, 0 refused, 4 unacknowledged\n"), "{shown}");
    assert!(shown.contains("\ns6 on node n3: no acknowledgement within 2."), "{shown}");
    let counters = client.counters();
    let counted = [counters.accepted, counters.copies, counters.acked, counters.unacknowledged];
    assert_eq!(counted, [4, 3, 3, 4].map(|count| count * fanouts as u64));
}

#[test]
fn unknown_servers_that_do_not_answer_are_reported_once_for_each_node() {
    let slow = Broker::start(|_| Act::Ignore);
    let half = Broker::start(|seen| seen.acks("n2", &["s1"], 2));
    // The directory knows one server there, and the node speaks of another one.
    let more = Broker::start(|seen| seen.acks("n3", &["s1"], 1));
    let nodes = [(slow.node("n1"), &[][..]), (half.node("n2"), &[][..]), (more.node("n3"), &["s1"][..])];
    let client = builder([]).matchmaker(Fixed::listing(&nodes)).cast_timeout(millis(100)).build().unwrap();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["n1 - silent", "n2 - silent", "n2 s1 acked", "n3 - silent", "n3 s1 acked"]);
}

#[test]
fn a_node_refuses_for_all_its_servers_and_a_server_for_itself() {
    let without = Broker::start(|seen| seen.refusal(Reason::NoRoute, "no server here"));
    let unlisted = Broker::start(|seen| seen.refusal(Reason::Busy, "full"));
    let mixed = Broker::start(|seen| {
        Act::Several(vec![
            seen.refused_word(Reason::ServerLost, "n3", "s3", 2),
            seen.word(Kind::Ack, "n3", "s4", 1),
            seen.refused_word(Reason::Expired, "n3", "s5", 0),
        ])
    });
    let nodes =
        [(without.node("n1"), &["s1", "s2"][..]), (unlisted.node("n2"), &[][..]), (mixed.node("n3"), &["s3"][..])];
    let client = builder([]).matchmaker(Fixed::listing(&nodes)).build().unwrap();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    let expected = ["n1 s1 NoRoute", "n1 s2 NoRoute", "n2 - Busy", "n3 s3 ServerLost", "n3 s4 acked", "n3 s5 Expired"];
    assert_eq!(show(&report), expected);
    assert_eq!((report.acked(), report.refused()), (1, 5));
    let counters = client.counters();
    assert_eq!((counters.refused, counters.refused_for(Reason::NoRoute), counters.copies), (5, 2, 3));
}

#[test]
fn without_any_node_a_fanout_is_refused_at_once_or_waits_for_one() {
    let directory = Fixed::at([]);
    let client = builder([]).matchmaker(directory.clone()).build().unwrap();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["- - NoRoute"]);
    assert!(!report.all_acked());

    let patient = client.prepare().wait_for_ready(true);
    let report = patient.clone().timeout(millis(100)).fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["- - Expired"]);

    // A directory that cannot say is waited for as well.
    directory.fail();
    assert!(matches!(client.fanout(&context(), "m", &()).unwrap_err(), SendError::Directory { .. }));
    let handle = patient.fanout(&context(), "m", &()).unwrap();
    assert!(handle.report().is_none());
    let (one, other) =
        (Broker::start(|seen| seen.acks("n1", &["s1"], 0)), Broker::start(|seen| seen.acks("n2", &["s2"], 0)));
    directory.set([one.node("n1"), other.node("n2")]);
    assert_eq!(show(&handle.wait(LONG).unwrap()), ["n1 s1 acked", "n2 s2 acked"]);
    let counters = client.counters();
    assert_eq!((counters.accepted, counters.acked, counters.refused, counters.open), (4, 2, 2, 0));

    // A node without a server yet is waited for as well.
    let mut there = false;
    let late = Broker::start(move |seen| {
        if std::mem::replace(&mut there, true) {
            seen.acks("n3", &["s3"], 0)
        } else {
            seen.refusal(Reason::NoRoute, "")
        }
    });
    directory.set([late.node("n3")]);
    assert_eq!(show(&patient.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap()), ["n3 s3 acked"]);
}

#[test]
fn a_retry_asks_the_same_node_again_and_doubles_no_outcome() {
    let asked = Arc::new(Mutex::new(HashMap::new()));
    let count = Arc::clone(&asked);
    let half = Broker::start(move |seen| {
        let mut asked = count.lock().unwrap();
        let asked = asked.entry(seen.header.id).or_insert(0);
        *asked += 1;
        assert!(seen.header.flags.contains(Flags::MAY_REPEAT));
        match *asked {
            1 => seen.acks("n1", &["s1", "s1"], 1),
            _ => seen.acks("n1", &["s1", "s2", "s1"], 0),
        }
    });
    let other = Broker::start(|seen| seen.acks("n2", &["s1"], 0));
    let told = Arc::new(Mutex::new(0));
    let outcomes = Arc::clone(&told);
    let client = builder([half.node("n1"), other.node("n2")])
        .retry(1)
        .cast_timeout(millis(400))
        .observer(move |_, _| *outcomes.lock().unwrap() += 1)
        .build()
        .unwrap();
    let handle = client.fanout(&context(), "m", &()).unwrap();
    let report = handle.wait(LONG).unwrap();
    // Two servers of one name are two.
    assert_eq!(show(&report), ["n1 s1 acked", "n1 s1 acked", "n1 s2 acked", "n2 s1 acked"]);
    assert_eq!((half.requests(), other.requests(), *told.lock().unwrap()), (2, 1, 4));
    let counters = client.counters();
    assert_eq!((counters.accepted, counters.copies, counters.acked, counters.resent), (2, 2, 4, 1));
}

#[test]
fn a_lost_connection_concerns_its_node_alone() {
    let mut dying = Broker::start(|_| Act::Die);
    let other = Broker::start(|seen| seen.acks("n2", &["s2"], 0));
    let nodes = [(dying.node("n1"), &["s1"][..]), (other.node("n2"), &["s2"][..])];
    let client = builder([]).matchmaker(Fixed::listing(&nodes)).build().unwrap();
    let started = now();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["n1 s1 silent", "n2 s2 acked"]);
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    dying.join();

    let mut dying = Broker::start_at(&dying.address, |_| Act::Die);
    let handle = client.prepare().retry(1).fanout(&context(), "m", &()).unwrap();
    dying.join();
    let _back = Broker::start_at(&dying.address, |seen| seen.acks("n1", &["s1"], 0));
    assert_eq!(show(&handle.wait(LONG).unwrap()), ["n1 s1 acked", "n2 s2 acked"]);
}

#[test]
fn thousands_of_nodes_go_at_once_also_above_the_bound() {
    const NODES: usize = 3_000;
    // They share an address, so that the test needs one socket.
    let broker = Broker::start(|seen| seen.acks("n", &["s"], 0));
    let nodes: Vec<_> = (0..NODES).map(|number| broker.node(&format!("n{number}"))).collect();
    let client = builder(nodes).max_outstanding(10).max_outstanding_bytes(1 << 20).build().unwrap();
    // The body is kept once.
    let body = "x".repeat(20_000);
    let report = client.fanout(&context(), "m", &body).unwrap().wait(LONG).unwrap();
    assert_eq!((report.acked(), report.all_acked()), (NODES, true), "{report}");
    assert_eq!((client.counters().acked, client.counters().open), (NODES as u64, 0));
}

/// Nodes of one address each.
fn scattered(count: usize, port: &str) -> Vec<Node> {
    let address = |number: usize| format!("127.7.{}.{}:{port}", number / 250, number % 250 + 1);
    let node = |number| Node::new(format!("n{number}").parse().unwrap(), address(number).parse().unwrap());
    (0..count).map(node).collect()
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[test]
fn hundreds_of_connections_are_opened_in_batches() {
    let broker = Broker::start_at(&Address::Tcp("0.0.0.0:0".parse().unwrap()), |seen| seen.acks("n", &["s"], 0));
    let client = builder(scattered(600, port(&broker.address.to_string()))).build().unwrap();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert!(report.all_acked() && report.acked() == 600, "{report:#}");
    assert_eq!(broker.connections(), 600);
}

#[test]
fn hundreds_of_dead_nodes_delay_others_by_moments_and_casts_not_at_all() {
    let good =
        Broker::start(|seen| if seen.header.kind == Kind::Cast { seen.ack() } else { seen.acks("good", &["s"], 0) });
    let mut nodes = scattered(600, port(&dead_node("x").address.to_string()));
    nodes.push(good.node("good"));
    let mut config = Config::default();
    config.connect_timeout = millis(300);
    let directory = Fixed::at(nodes);
    let client = builder([]).matchmaker(directory.clone()).config(config).build().unwrap();
    let started = now();
    let handle = client.fanout(&context(), "m", &()).unwrap();
    directory.set([good.node("good")]);
    assert!(client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    assert!(handle.report().is_none(), "the cast has waited for the dead nodes");
    let report = handle.wait(LONG).unwrap();
    assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
    assert_eq!((report.acked(), report.unacknowledged()), (1, 600), "{report}");
    assert!(report.results.iter().all(|result| !matches!(result.outcome, Outcome::Unacknowledged { sent: true, .. })));
}

#[test]
fn a_full_table_refuses_a_fanout_before_anything_is_sent() {
    let broker =
        Broker::start(|seen| if seen.header.kind == Kind::Cast { Act::Ignore } else { seen.acks("n", &["s"], 0) });
    let client = builder([broker.node("n1"), broker.node("n2")])
        .max_outstanding(1)
        .when_full(WhenFull::Refuse)
        .cast_timeout(millis(200))
        .build()
        .unwrap();
    let cast = client.cast(&context(), "m", &()).unwrap();
    let error = client.fanout(&context(), "m", &()).unwrap_err();
    assert!(matches!(error, SendError::Full { open: 1, .. }), "{error:?}");
    assert_eq!(client.counters().accepted, 1);
    assert!(!cast.wait(LONG).unwrap().is_acked());
    assert!(client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap().all_acked());
    assert_eq!(client.close(LONG).open, 0);
    assert!(matches!(client.fanout(&context(), "m", &()), Err(SendError::Closed { .. })));
}

#[test]
fn the_end_of_a_client_ends_its_fanouts() {
    let silent = Broker::start(|_| Act::Ignore);
    let client = builder([silent.node("n1"), dead_node("n2")]).build().unwrap();
    let handle = client.fanout(&context(), "m", &()).unwrap();
    let patient = client.prepare().topic("nowhere").unwrap().fanout(&context(), "m", &()).unwrap();
    assert_eq!(client.close(millis(100)).open, 4);
    let report = handle.report().unwrap();
    assert_eq!(report.unacknowledged(), 2, "{report:#}");
    assert!(patient.report().is_some());
}

#[test]
fn invalid_answers_of_a_server_are_ignored() {
    let broker = Broker::start(|seen| {
        let forged = seen.word(Kind::Ack, "n1", "", 0);
        let wrong = seen.word(Kind::Reply, "n1", "s1", 0);
        Act::Several(vec![forged, wrong, seen.word(Kind::Ack, "n1", "s1", 0), seen.word(Kind::Ack, "n1", "s2", 0)])
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["n1 s1 acked"]);
    assert!(client.prepare().topic("u").unwrap().fanout(&context(), "m", &()).unwrap().wait(LONG).is_some());
    assert_eq!(client.counters().ignored, 4);
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_handle_is_a_future() {
    let brokers = ["n1", "n2"].map(|node| Broker::start(move |seen: &Seen| seen.acks(node, &["s"], 0)));
    let client = builder([brokers[0].node("n1"), brokers[1].node("n2")]).build().unwrap();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut handle = pin!(client.fanout(&context(), "m", &()).unwrap());
    let report = loop {
        if let Poll::Ready(report) = handle.as_mut().poll(&mut Context::from_waker(&waker)) {
            break report;
        }
        std::thread::park_timeout(LONG);
    };
    assert!(report.all_acked());
}
