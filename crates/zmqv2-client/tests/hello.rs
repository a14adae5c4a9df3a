//! The first question on a connection: what a client does with the answer, and without one.

mod support;

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::{Act, Broker, Manners, Seen, builder, now};
use zmqv2_client::{CallError, CastHandle, Config, Outcome, SendError};
use zmqv2_proto::hello::Welcome;
use zmqv2_proto::{ClockId, Kind, Reason, RequestContext, Ttl};

/// How far the clock of another host is ahead, in milliseconds.
const AHEAD: i64 = 5_000_000;
/// The number of that clock.
const THEIRS: u16 = 4711;
/// The client takes a request for older by the time of the way there, at most. The machine is busy.
const MOST_AGE: i64 = 5_000;
const LONG: Duration = Duration::from_secs(20);

fn context() -> RequestContext {
    RequestContext::new()
}

fn other_host() -> Manners {
    let mut welcome = Welcome::new(16 << 20);
    welcome.clock = THEIRS;
    Manners::New { welcome, ahead: AHEAD }
}

fn acked(cast: Result<CastHandle, SendError>) -> bool {
    cast.unwrap().wait(LONG).is_some_and(|outcome| outcome.is_acked())
}

/// A broker that serves everything, and tells of each request the clock of its stamp, and how old
/// the request is by the stamp.
fn observed(manners: Manners) -> (Broker, Receiver<(u16, i64)>) {
    let (saw, stamps) = channel();
    let ahead = if let Manners::New { ahead, .. } = manners { ahead } else { 0 };
    let serve = move |seen: &Seen| {
        let now = i64::try_from(Ttl::monotonic_millis()).unwrap() + ahead;
        saw.send((seen.header.count, now - i64::try_from(seen.header.delivered).unwrap())).unwrap();
        match seen.header.kind {
            Kind::Call => seen.echo(),
            Kind::Fanout => seen.acks("n1", &["s1"], 0),
            _ => seen.ack(),
        }
    };
    (Broker::with_manners(manners, serve), stamps)
}

#[test]
fn only_a_broker_that_takes_it_gets_the_node_of_the_caller() {
    let takes = Manners::New { welcome: Welcome::new(16 << 20).with_callers(), ahead: 0 };
    for (manners, gets_it) in [(takes, true), (Manners::new(), false), (Manners::Old, false)] {
        let (saw, nodes) = channel();
        let broker = Broker::with_manners(manners, move |seen: &Seen| {
            saw.send(seen.header.node.clone()).unwrap();
            match seen.header.kind {
                Kind::Call => seen.echo(),
                Kind::Fanout => seen.acks("n1", &["s1"], 0),
                _ => seen.ack(),
            }
        });
        let client = builder([broker.node("n1")]).build().unwrap();
        client.call::<i32>(&context(), "echo", &1).unwrap();
        client.call_async::<i32>(&context(), "echo", &2).unwrap().wait().unwrap();
        assert!(acked(client.cast(&context(), "note", &())));
        client.fanout(&context(), "note", &()).unwrap().wait(LONG).unwrap();
        let host = Config::default().host;
        let expected = gets_it.then_some(host);
        assert_eq!(nodes.try_iter().collect::<Vec<_>>(), vec![expected; 4]);
    }
}

#[test]
fn every_request_has_a_stamp_of_the_brokers_clock() {
    for (manners, clock) in [(other_host(), THEIRS), (Manners::new(), ClockId::own().to_wire())] {
        let (broker, stamps) = observed(manners);
        let client = builder([broker.node("n1")]).retry(1).build().unwrap();
        client.call::<i32>(&context(), "echo", &1).unwrap();
        client.call::<i32>(&context(), "echo", &2).unwrap();
        let calls: Vec<_> = (0..50).map(|n| client.call_async::<i32>(&context(), "echo", &n).unwrap()).collect();
        calls.into_iter().for_each(|call| assert!(call.wait().is_ok()));
        assert!(acked(client.cast(&context(), "echo", &"x".repeat(20_000))));
        let _ = client.fanout(&context(), "echo", &1).unwrap().wait(LONG);
        let seen: Vec<_> = stamps.try_iter().collect();
        assert_eq!(seen.len(), 54);
        for (number, age) in seen {
            assert_eq!(number, clock);
            assert!((-1..MOST_AGE).contains(&age), "a request of {age} ms");
        }
        let counts = broker.counts.lock().unwrap();
        assert_eq!((counts.questions, counts.connections.len()), (2, 2), "a REQ and a DEALER");
    }
}

#[test]
fn a_broker_of_an_earlier_version_gets_no_stamps() {
    let (broker, stamps) = observed(Manners::Old);
    let client = builder([broker.node("n1")]).build().unwrap();
    client.call::<i32>(&context(), "echo", &1).unwrap();
    assert!(acked(client.cast(&context(), "echo", &1)));
    let headers: Vec<_> = stamps.try_iter().collect();
    assert_eq!(headers.len(), 2);
    assert!(headers.iter().all(|(clock, age)| *clock == 0 && *age > 1_000), "{headers:?}");
}

#[test]
fn a_broker_that_does_not_answer_gets_no_request_and_another_node_does() {
    let silent = Broker::with_manners(Manners::Silent, |_| Act::Ignore);
    let client = builder([silent.node("n1")]).build().unwrap();
    let timeout = Duration::from_millis(300);
    let started = now();
    let error = client.prepare().timeout(timeout).call::<i32>(&context(), "echo", &1).unwrap_err();
    assert!(!error.may_have_run() && started.elapsed() >= timeout, "{error:?}");
    let hasty = builder([silent.node("n1")]).cast_timeout(timeout).build().unwrap();
    let outcome = hasty.cast(&context(), "echo", &1).unwrap().wait(LONG).unwrap();
    assert!(matches!(outcome, Outcome::Unacknowledged { sent: false, .. }), "{outcome:?}");
    let good = Broker::with_manners(Manners::new(), Seen::good);
    for alone in [true, false] {
        let client = builder([silent.node("n1"), good.node("n2")]).build().unwrap();
        for n in 0..2 {
            let answer = if alone {
                client.call::<i32>(&context(), "echo", &n).unwrap()
            } else {
                client.call_async::<i32>(&context(), "echo", &n).unwrap().wait().unwrap()
            };
            assert_eq!(answer, n);
        }
    }
    assert_eq!(silent.requests(), 0);
}

#[test]
fn a_body_above_the_brokers_limit_is_refused_with_both_sizes_and_nothing_is_sent() {
    let mut welcome = Welcome::new(1_000);
    welcome.clock = 0;
    let broker = Broker::with_manners(Manners::New { welcome, ahead: 0 }, Seen::good);
    let client = builder([broker.node("n1")]).retry(2).build().unwrap();
    let check = |error: CallError| {
        let text = error.to_string();
        let CallError::Refused { refusal, .. } = error else { panic!("{error:?}") };
        assert_eq!(refusal.reason, Reason::TooLarge);
        assert!(text.contains("has 50") && text.contains("broker of n1 is 1000 (rpc_zmq_max_message_bytes"), "{text}");
    };
    let (large, small) = ("x".repeat(50_000), "y".repeat(100));
    check(client.call::<String>(&context(), "echo", &large).unwrap_err());
    assert_eq!(client.call::<String>(&context(), "echo", &small).unwrap(), small);
    let calls: Vec<_> =
        [&small, &large, &small].map(|text| client.call_async::<String>(&context(), "echo", text).unwrap()).into();
    for (n, call) in calls.into_iter().enumerate() {
        match (n, call.wait()) {
            (1, result) => check(result.unwrap_err()),
            (_, result) => assert_eq!(result.unwrap(), small),
        }
    }
    assert_eq!(broker.requests(), 3);
    // The limit of the client itself needs no connection.
    let mut config = zmqv2_proto::Config::default();
    config.max_message_bytes = 2_000;
    let client = zmqv2_client::RpcClient::builder(zmqv2_proto::Target::topic("t").unwrap())
        .config(config)
        .matchmaker(support::Fixed::at([broker.node("n1")]))
        .build()
        .unwrap();
    let error = client.call::<String>(&context(), "echo", &large).unwrap_err();
    assert!(matches!(error, CallError::NotSent(SendError::TooLarge { limit: 2_000, .. })), "{error:?}");
}

#[test]
fn another_broker_at_the_same_address_is_asked_again() {
    let (broker, stamps) = observed(other_host());
    let address = broker.address.clone();
    let client = builder([broker.node("n1")]).retry(3).build().unwrap();
    for _ in 0..2 {
        client.call::<i32>(&context(), "echo", &1).unwrap();
        assert!(acked(client.cast(&context(), "echo", &1)));
    }
    assert!(stamps.try_iter().all(|(clock, age)| clock == THEIRS && age < MOST_AGE));
    drop(broker);
    let (saw, stamps) = channel();
    let broker = Broker::start_with(&address, Manners::Old, move |seen| {
        saw.send(seen.header.count).unwrap();
        seen.good()
    });
    for _ in 0..2 {
        client.call::<i32>(&context(), "echo", &1).unwrap();
        assert!(acked(client.cast(&context(), "echo", &1)));
    }
    assert!(stamps.try_iter().all(|clock| clock == 0) && broker.requests() >= 4);
}
