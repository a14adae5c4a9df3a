//! A listener whose program asks for notifications: what the broker gets for each of them.

mod support;

use std::thread;
use std::time::Duration;

use support::{Broker, LONG, SHORT, body, delivery, now, until};
use tempfile::TempDir;
use zmqv2_proto::{Header, Kind, Priority, Reason, Ttl};
use zmqv2_server::{Priorities, PullListener, PulledNotification, ServerError, Target, Verdict};

fn start(dir: &TempDir) -> (PullListener, Broker) {
    let topic = Target::topic("t").unwrap();
    let listener = PullListener::builder().target(topic, Priority::Info).ipc_dir(dir.path()).places(4);
    let listener = listener.start().unwrap();
    (listener, Broker::start(dir.path()))
}

fn deliver(broker: &Broker, header: &Header) {
    broker.deliver(0, header, &body(Priority::Info, "e"));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, header.tag, 0));
}

fn one(listener: &PullListener) -> PulledNotification {
    listener.poll(1, LONG).pop().expect("a notification")
}

/// Tag, whether it is requeued, and the body that goes back.
fn end(broker: &mut Broker) -> (u64, bool, Vec<u8>) {
    let got = broker.next();
    assert_eq!((got.header.kind, got.header.count), (Kind::Handled, 1));
    (got.header.tag, got.requeue(), got.body)
}

#[test]
fn a_notification_is_acknowledged_and_its_end_is_reported() {
    let dir = TempDir::new().unwrap();
    let (listener, mut broker) = start(&dir);
    assert!(broker.registration.shared && !broker.registration.cancels);
    let sent = delivery(1);
    deliver(&broker, &sent);
    let taken = one(&listener);
    assert_eq!((taken.id(), taken.delivery(), taken.key().to_string()), (sent.id, 1, "openstack/t.info".to_owned()));
    assert_eq!(taken.decode().unwrap().event_type, "e");
    assert!(broker.next_within(SHORT).is_none());
    taken.end(Verdict::Handled);
    assert_eq!(end(&mut broker), (1, false, Vec::new()));
}

#[test]
fn one_that_is_requeued_or_dropped_goes_back_with_its_body() {
    let dir = TempDir::new().unwrap();
    let (listener, mut broker) = start(&dir);
    for tag in [1, 2] {
        deliver(&broker, &delivery(tag));
        let taken = one(&listener);
        if tag == 1 {
            taken.end(Verdict::Requeue);
        } else {
            drop(taken);
        }
        assert_eq!(end(&mut broker), (tag, true, body(Priority::Info, "e")));
    }
    // Its time ends before it is polled.
    let mut late = delivery(3);
    late.ttl = Ttl::from_millis(50);
    deliver(&broker, &late);
    let over = now() + Duration::from_millis(50);
    until("its time has ended", || now() > over);
    assert!(listener.poll(1, Duration::ZERO).is_empty());
    assert!(end(&mut broker).1);
}

#[test]
fn one_that_comes_again_is_polled_once() {
    let dir = TempDir::new().unwrap();
    let (listener, mut broker) = start(&dir);
    let mut sent = delivery(1);
    deliver(&broker, &sent);
    let taken = one(&listener);
    for tag in [2, 3] {
        sent.tag = tag;
        deliver(&broker, &sent);
    }
    // The third delivery takes the place of the second.
    assert_eq!(end(&mut broker).0, 2);
    taken.end(Verdict::Handled);
    assert_eq!([end(&mut broker).0, end(&mut broker).0], [1, 3]);
    sent.tag = 4;
    deliver(&broker, &sent);
    assert_eq!(end(&mut broker).0, 4);
    assert!(listener.poll(1, SHORT).is_empty());
}

#[test]
fn one_that_comes_again_and_is_requeued_goes_back_once_with_its_body() {
    let dir = TempDir::new().unwrap();
    let (listener, mut broker) = start(&dir);
    let mut sent = delivery(1);
    deliver(&broker, &sent);
    let taken = one(&listener);
    sent.tag = 2;
    deliver(&broker, &sent);
    taken.end(Verdict::Requeue);
    // The broker has it twice, and gives only the later one to another listener.
    let ends = [end(&mut broker), end(&mut broker)];
    assert_eq!(ends, [(1, false, Vec::new()), (2, true, body(Priority::Info, "e"))]);
}

#[test]
fn calls_are_refused() {
    let dir = TempDir::new().unwrap();
    let (_listener, broker) = start(&dir);
    broker.deliver(0, &support::request(Kind::Call, 1), b"{}");
    let refusal = broker.answer(0);
    assert!(refusal.header.reason == Some(Reason::Malformed) && refusal.detail().contains("RPC server"), "{refusal:?}");
}

#[test]
fn a_stop_gives_back_what_nobody_has_polled() {
    let dir = TempDir::new().unwrap();
    let (listener, mut broker) = start(&dir);
    for tag in 1..=3 {
        deliver(&broker, &delivery(tag));
    }
    let taken = one(&listener);
    let stopping = thread::spawn(move || listener.stop().unwrap());
    assert_eq!(broker.next().header.kind, Kind::Withdraw);
    let mut ends = vec![end(&mut broker), end(&mut broker)];
    taken.end(Verdict::Handled);
    ends.push(end(&mut broker));
    broker.withdrawn();
    stopping.join().unwrap();
    let mut ends: Vec<_> = ends.into_iter().map(|(tag, requeue, _)| (tag, requeue)).collect();
    ends.sort_unstable();
    assert_eq!(ends, [(1, false), (2, true), (3, true)]);
}

#[test]
fn a_listener_needs_a_topic_and_not_too_many() {
    let none = PullListener::builder().start();
    assert!(matches!(none.unwrap_err(), ServerError::NoTopic));
    let many = (0..60).fold(PullListener::builder(), |builder, n| {
        builder.target(Target::topic(format!("t{n}")).unwrap(), Priorities::ALL)
    });
    assert!(matches!(many.start().unwrap_err(), ServerError::Topics(more) if more > 256));
}
