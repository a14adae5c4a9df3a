//! A server whose program asks for requests: what the broker gets for each of them.

mod support;

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Broker, LONG, SHORT, body, now, request, until};
use tempfile::TempDir;
use zmqv2_proto::{Flags, Header, Kind, Priority, Reason, Ttl};
use zmqv2_server::{BodyKind, Config, PullServer, PulledRequest, Request, ServerError, Target, reply};

fn start(dir: &TempDir, places: usize) -> (PullServer, Broker) {
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    let server = PullServer::builder(target).ipc_dir(dir.path()).places(places).start().unwrap();
    (server, Broker::start(dir.path()))
}

fn question(number: u64) -> Vec<u8> {
    Request::new("ask".parse().unwrap(), &number).unwrap().encode().unwrap()
}

/// Delivers a request of this kind, and polls it.
fn pull(server: &PullServer, broker: &Broker, kind: Kind, tag: u64) -> PulledRequest {
    broker.deliver(0, &request(kind, tag), &question(tag));
    one(server)
}

fn one(server: &PullServer) -> PulledRequest {
    let mut polled = server.poll(1, LONG);
    polled.pop().expect("a request")
}

fn number(request: &PulledRequest) -> u64 {
    request.decode().unwrap().args().unwrap()
}

fn is_readable(server: &PullServer) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).unwrap() > 0
}

#[test]
fn calls_are_answered_in_any_order_from_any_thread() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 100);
    assert!(broker.registration.shared && broker.registration.cancels);
    assert_eq!(broker.registration.workers, 100);
    for tag in 1..=50 {
        broker.deliver(0, &request(Kind::Call, tag), &question(tag));
    }
    let mut open = Vec::new();
    while open.len() < 50 {
        open.extend(server.poll(7, LONG));
    }
    assert_eq!(open.iter().map(number).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    thread::scope(|scope| {
        for request in open.drain(..).rev() {
            scope.spawn(move || {
                let number = number(&request);
                request.reply(&reply(&(number * 2)).unwrap());
            });
        }
    });
    let mut answers: Vec<_> = (0..50).map(|_| broker.answer(0)).collect();
    answers.sort_by_key(|answer| answer.header.tag);
    for (answer, tag) in answers.iter().zip(1..) {
        assert_eq!(answer.summary(), (Kind::Reply, tag, 1));
        assert_eq!(answer.body, reply(&(tag * 2)).unwrap().encode().unwrap());
        assert_eq!(answer.header.server.as_ref().unwrap().as_str(), "s");
    }
    assert_eq!(server.counters().calls, 50);
}

#[test]
fn a_ready_body_is_sent_as_it_is_and_says_whether_the_method_failed() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 4);
    let asked = pull(&server, &broker, Kind::Call, 1);
    assert_eq!(asked.body(), question(1));
    asked.reply_bytes(b"{\"any\": 1e999}".to_vec(), BodyKind::Result);
    let answer = broker.answer(0);
    assert_eq!((answer.detail(), answer.header.flags), ("{\"any\": 1e999}", Flags::NONE));
    pull(&server, &broker, Kind::Call, 2).reply_bytes(b"{}".to_vec(), BodyKind::Failure);
    assert_eq!(broker.answer(0).header.flags, Flags::FAILURE);
    assert_eq!((server.counters().calls, server.counters().failed_calls), (2, 1));
}

#[test]
fn a_cast_is_acknowledged_and_keeps_its_place_until_it_is_finished() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 4);
    let mut cast = pull(&server, &broker, Kind::Cast, 1);
    assert!(!cast.is_call());
    cast.acknowledge();
    cast.acknowledge();
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 1, 0));
    assert!(broker.answer_within(0, SHORT).is_none());
    cast.finish();
    assert_eq!(broker.answer(0).summary(), (Kind::Credit, 0, 1));
    // Finishing acknowledges, and so does a reply.
    pull(&server, &broker, Kind::Fanout, 2).finish();
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 2, 0));
    assert_eq!(broker.answer(0).summary(), (Kind::Credit, 0, 1));
    pull(&server, &broker, Kind::Cast, 3).reply(&reply(&()).unwrap());
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 3, 0));
    assert_eq!(broker.answer(0).summary(), (Kind::Credit, 0, 1));
    assert_eq!(server.counters().casts, 3);
}

#[test]
fn a_request_that_is_dropped_goes_back_as_it_came() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 1);
    for kind in [Kind::Call, Kind::Cast] {
        let sent = request(kind, 5);
        broker.deliver(0, &sent, &question(5));
        drop(one(&server));
        let back = broker.answer(0);
        assert_eq!((back.header, back.body), (sent.clone(), question(5)));
        // The place is free, and the same request may come again.
        broker.deliver(0, &sent, &question(5));
        one(&server).refuse(Reason::Busy, "not now");
        let refusal = broker.answer(0);
        assert_eq!((refusal.summary(), refusal.detail()), ((Kind::Refusal, 5, 1), "not now"));
        assert_eq!(refusal.header.reason, Some(Reason::Busy));
    }
    // A call cannot be finished without a reply.
    pull(&server, &broker, Kind::Call, 6).finish();
    assert_eq!(broker.answer(0).header.kind, Kind::Call);
}

#[test]
fn a_request_that_comes_again_gets_the_answer_of_the_first_one() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 8);
    let again = |first: &Header, tag| {
        let mut header = first.clone();
        header.tag = tag;
        header
    };
    let mut first = request(Kind::Call, 1);
    first.flags = Flags::MAY_REPEAT;
    broker.deliver(0, &first, &question(1));
    let asked = one(&server);
    broker.deliver(0, &again(&first, 2), &question(1));
    broker.deliver(0, &request(Kind::Call, 3), &question(3));
    // What comes after it is polled, so it has been read.
    assert_eq!(number(&one(&server)), 3);
    assert_eq!(broker.answer(0).header.tag, 3);
    asked.reply(&reply(&"done").unwrap());
    let answers = [broker.answer(0), broker.answer(0)];
    assert_eq!(answers.each_ref().map(|answer| answer.header.tag), [1, 2]);
    assert_eq!(answers[0].body, answers[1].body);
    broker.deliver(0, &again(&first, 4), &question(1));
    assert_eq!((broker.answer(0).body, server.counters().calls), (answers[0].body.clone(), 1));
    assert!(server.poll(1, SHORT).is_empty());

    // A cast that comes again is acknowledged when the first one is, and not earlier.
    let mut cast = request(Kind::Cast, 5);
    cast.flags = Flags::MAY_REPEAT;
    broker.deliver(0, &cast, &question(5));
    let taken = one(&server);
    broker.deliver(0, &again(&cast, 6), &question(5));
    assert!(broker.answer_within(0, SHORT).is_none());
    drop(taken);
    let mut back = [broker.answer(0), broker.answer(0)].map(|answer| (answer.header.kind, answer.header.tag));
    back.sort_by_key(|(_, tag)| *tag);
    assert_eq!(back, [(Kind::Cast, 5), (Kind::Cast, 6)]);
    // Neither has run, so it may run now.
    broker.deliver(0, &again(&cast, 7), &question(5));
    one(&server).finish();
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 7, 0));
}

#[test]
fn requests_that_are_too_late_or_are_no_requests_are_refused() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 4);
    let mut late = request(Kind::Call, 1);
    late.ttl = Ttl::from_millis(50);
    broker.deliver(0, &late, &question(1));
    until("the request has come", || is_readable(&server));
    let end = now() + Duration::from_millis(50);
    until("its time has ended", || now() > end);
    assert!(server.poll(9, Duration::ZERO).is_empty());
    assert_eq!(broker.answer(0).header.reason, Some(Reason::Expired));
    // A poll that goes on waiting keeps none of them.
    broker.deliver(0, &late, &question(1));
    until("it has come again", || is_readable(&server));
    let end = now() + Duration::from_millis(50);
    until("its time has ended again", || now() > end);
    thread::scope(|scope| {
        let waits = scope.spawn(|| one(&server));
        assert_eq!(broker.answer(0).header.reason, Some(Reason::Expired));
        broker.deliver(0, &request(Kind::Call, 7), &question(7));
        drop(waits.join().unwrap());
        assert_eq!(broker.answer(0).summary(), (Kind::Call, 7, 0));
    });
    broker.deliver(0, &request(Kind::Reply, 2), b"{}");
    assert_eq!(broker.answer(0).header.reason, Some(Reason::Malformed));
    broker.deliver(0, &support::delivery(3), &body(Priority::Info, "e"));
    let refusal = broker.answer(0);
    assert!(refusal.header.reason == Some(Reason::Malformed) && refusal.detail().contains("listener"), "{refusal:?}");
    assert!(server.poll(9, SHORT).is_empty());
}

#[test]
fn a_call_that_nobody_waits_for_is_cancelled_or_goes_back() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 1);
    let sent = request(Kind::Call, 1);
    broker.deliver(0, &sent, &question(1));
    let asked = one(&server);
    let cancellation = asked.cancellation();
    assert!(!cancellation.is_cancelled());
    let mut cancel = Header::new(Kind::Cancel, sent.id);
    cancel.tag = 1;
    broker.deliver(0, &cancel, &[]);
    until("it is cancelled", || cancellation.is_cancelled());
    asked.reply(&reply(&()).unwrap());
    assert_eq!(broker.answer(0).summary(), (Kind::Reply, 1, 1));
}

#[test]
fn the_descriptor_is_readable_while_there_is_something_to_poll() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 4);
    assert!(!is_readable(&server));
    for tag in 1..=2 {
        broker.deliver(0, &request(Kind::Call, tag), &question(tag));
    }
    until("both have come", || is_readable(&server));
    let first = one(&server);
    until("the second has come", || is_readable(&server));
    let second = one(&server);
    assert!(!is_readable(&server));
    drop((first, second));
    server.drain().unwrap();
    assert!(is_readable(&server));
}

#[test]
fn a_reply_above_the_limit_is_too_large() {
    let dir = TempDir::new().unwrap();
    let (server, broker) = start(&dir, 4);
    pull(&server, &broker, Kind::Call, 1).reply_bytes(vec![b' '; (16 << 20) + 1], BodyKind::Result);
    let refusal = broker.answer(0);
    assert_eq!(refusal.header.reason, Some(Reason::TooLarge));
    assert!(refusal.detail().contains("16777217") && refusal.detail().contains("16777216"), "{refusal:?}");
}

#[test]
fn a_drain_ends_polls_and_gives_back_what_comes_late() {
    let dir = TempDir::new().unwrap();
    let (server, mut broker) = start(&dir, 4);
    let open = pull(&server, &broker, Kind::Call, 1);
    thread::scope(|scope| {
        let waits = scope.spawn(|| server.poll(1, Duration::MAX).len());
        broker.deliver(0, &request(Kind::Call, 2), &question(2));
        assert_eq!(waits.join().unwrap(), 1);
        assert_eq!(broker.answer(0).header.tag, 2);
        let waits = scope.spawn(|| server.poll(1, Duration::MAX).len());
        server.drain().unwrap();
        assert_eq!(waits.join().unwrap(), 0);
    });
    broker.deliver(0, &request(Kind::Call, 3), &question(3));
    assert_eq!(broker.answer(0).summary(), (Kind::Call, 3, 0));
    // The answers of open requests still leave.
    open.reply(&reply(&1).unwrap());
    assert_eq!(broker.answer(0).summary(), (Kind::Reply, 1, 1));
    let stopping = thread::spawn(move || server.stop().unwrap());
    assert!(broker.release().is_empty());
    stopping.join().unwrap();
}

#[test]
fn a_stop_names_the_requests_that_are_still_open() {
    let dir = TempDir::new().unwrap();
    let target = Target::topic("t").unwrap();
    let mut config = Config::default();
    config.drain_timeout = Duration::from_millis(100);
    let server = PullServer::builder(target).config(config).ipc_dir(dir.path()).places(4).start().unwrap();
    let broker = Broker::start(dir.path());
    let open = pull(&server, &broker, Kind::Call, 1);
    match server.stop() {
        Err(ServerError::Unfinished { handlers, .. }) => assert_eq!(handlers, [format!("request {}", open.id())]),
        other => panic!("{other:?}"),
    }
    // Nobody gets this answer, and nothing panics.
    open.reply(&reply(&1).unwrap());
}

#[test]
fn more_places_than_allowed_are_refused() {
    for places in [0, 16_385] {
        let refused = PullServer::builder(Target::topic("t").unwrap()).places(places).start();
        assert_eq!(refused.unwrap_err().to_string(), format!("{places} places asked for; allowed are 1 to 16384"));
    }
}
