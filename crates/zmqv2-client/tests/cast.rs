//! Casts that go well, or are refused: every one has an outcome, and its sender can see it.

mod support;

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use serde_json::json;
use support::{Act, Broker, Fixed, Seen, builder, now, punctual};
use zmqv2_client::{CallError, Outcome, RpcClient, SendError, WhenFull};
use zmqv2_proto::{Config, Flags, Header, Kind, Reason, RequestContext, Target, Version};

const LONG: Duration = Duration::from_secs(20);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn an_accepted_cast_is_acked_with_its_server_and_node() {
    let (saw, seen) = mpsc::channel();
    let broker = Broker::start(move |request| {
        saw.send((request.header.clone(), request.request.clone())).unwrap();
        request.good()
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    let handle = client.cast(&context().with("user", "ann"), "store", &json!({"x": 1})).unwrap();
    let id = handle.id();
    let outcome = handle.wait(LONG).unwrap();
    assert!(outcome.is_acked());
    assert_eq!(handle.outcome(), Some(outcome.clone()), "it stays");
    let Outcome::Acked { server, node, elapsed } = outcome else { panic!("{outcome}") };
    assert_eq!((server.as_str(), node.as_str()), ("s1", "n1"));
    assert!(elapsed < LONG);

    let (header, request) = seen.recv().unwrap();
    assert_eq!((header.kind, header.id, header.flags), (Kind::Cast, id, Flags::BUNDLES.with(Flags::NO_METHOD)));
    assert_eq!((header.key.unwrap().as_str(), header.server), ("openstack/t", None));
    assert!(Duration::from(header.ttl) <= LONG && Duration::from(header.ttl) > LONG / 2);
    assert_eq!(request.unique_id, Some(id));
    assert_eq!(request.context.get("user"), Some("ann".into()));

    let at = client.prepare().server("s7").unwrap().wait_for_ready(true).retry(2);
    assert!(at.cast(&context(), "store", &()).unwrap().wait(LONG).unwrap().is_acked());
    let (header, _) = seen.recv().unwrap();
    assert_eq!(header.server.unwrap().as_str(), "s7");
    assert!(header.flags.contains(Flags::MAY_REPEAT) && header.flags.contains(Flags::WAIT_FOR_READY));

    let counters = client.counters();
    assert_eq!((counters.accepted, counters.sent, counters.acked, counters.open), (2, 2, 2, 0));
    assert_eq!((counters.resent, counters.refused, counters.unacknowledged), (0, 0, 0));
}

#[test]
fn a_refusal_is_an_outcome_typed_and_quick() {
    let broker = Broker::start(|seen| seen.refusal(Reason::Expired, "too late"));
    let client = builder([broker.node("n1")]).build().unwrap();
    let outcome = client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    let Outcome::Refused { refusal, node, after } = outcome else { panic!("{outcome}") };
    assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::Expired, "too late"));
    assert_eq!(node.unwrap().as_str(), "n1");
    assert!(after < LONG / 2);
    assert_eq!((client.counters().refused, client.counters().refused_for(Reason::Expired)), (1, 1));
}

#[test]
fn without_any_node_a_cast_is_refused_at_once_or_waits_for_one_rg06() {
    let directory = Fixed::at([]);
    let client = builder([]).matchmaker(directory.clone()).build().unwrap();
    let outcome = client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    let Outcome::Refused { refusal, node: None, .. } = outcome else { panic!("{outcome}") };
    assert_eq!(refusal.reason, Reason::NoRoute);
    assert!(refusal.detail.contains("the directory knows no node of openstack/t"), "{refusal}");

    // Nobody comes in time: expired, never sent.
    let patient = client.prepare().wait_for_ready(true);
    let brief = patient.clone().timeout(millis(100));
    let (outcome, _) = punctual(millis(100), || brief.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap());
    assert!(matches!(outcome, Outcome::Refused { refusal, .. } if refusal.reason == Reason::Expired));
    let error = patient.clone().timeout(millis(100)).call::<()>(&context(), "m", &()).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Expired), "{error}");

    // Somebody comes.
    let waiting = patient.cast(&context(), "m", &()).unwrap();
    let called = std::thread::spawn(move || patient.call::<i32>(&context(), "m", &7));
    assert_eq!(waiting.outcome(), None);
    let broker = Broker::start(Seen::good);
    directory.set([broker.node("n1")]);
    assert!(waiting.wait(LONG).unwrap().is_acked());
    assert_eq!(called.join().unwrap().unwrap(), 7);
}

#[test]
fn a_directory_that_is_unavailable_is_an_error_at_once_or_waited_for() {
    let directory = Fixed::at([]);
    directory.fail();
    let client = builder([]).matchmaker(directory.clone()).build().unwrap();
    assert!(matches!(client.cast(&context(), "m", &()).unwrap_err(), SendError::Directory { .. }));
    assert!(matches!(
        client.call::<()>(&context(), "m", &()).unwrap_err(),
        CallError::NotSent(SendError::Directory { .. })
    ));

    // It does not recover in all their time. Calls end like casts.
    let patient = client.prepare().wait_for_ready(true);
    let brief = patient.clone().timeout(millis(300));
    let (outcome, _) = punctual(millis(300), || brief.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap());
    assert!(matches!(&outcome, Outcome::Directory { problem, .. } if problem.contains("gone")), "{outcome}");
    let (error, _) = punctual(millis(300), || brief.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(matches!(error, CallError::NotSent(SendError::Directory { .. })), "{error:?}");

    // It comes back.
    let named = patient.clone().server("s7").unwrap();
    let casts = [&patient, &named].map(|to| to.cast(&context(), "m", &()).unwrap());
    let calls = [patient, named].map(|to| std::thread::spawn(move || to.call::<i32>(&context(), "m", &7)));
    assert!(casts.iter().all(|cast| cast.outcome().is_none()));
    let broker = Broker::start(Seen::good);
    directory.set([broker.node("n1")]);
    assert!(casts.into_iter().all(|cast| cast.wait(LONG).unwrap().is_acked()));
    calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().unwrap(), 7));
}

#[test]
fn a_cast_that_cannot_be_sent_is_an_error_at_once() {
    let broker = Broker::start(Seen::good);
    let mut config = Config::default();
    config.max_message_bytes = 1024;
    let client = builder([broker.node("n1")]).config(config).version_cap(Version::new(1, 3)).build().unwrap();
    let error = client.cast(&context(), "m", &"x".repeat(2000)).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { size: 2001.., limit: 1024, .. }), "{error:?}");
    let error = client.cast(&context(), "a/b", &()).unwrap_err();
    assert!(matches!(error, SendError::InvalidName(_)), "{error:?}");
    let error = client.cast(&context(), "m", &std::collections::HashMap::from([((1, 2), 3)])).unwrap_err();
    assert!(matches!(error, SendError::Arguments { .. }), "{error:?}");
    let error = client.prepare().version(Version::new(2, 0)).cast(&context(), "m", &()).unwrap_err();
    assert!(matches!(error, SendError::VersionCap { .. }), "{error:?}");
    let mut every = Target::topic("t").unwrap();
    every.fanout = true;
    let error = RpcClient::builder(every).build().unwrap().cast(&context(), "m", &()).unwrap_err();
    assert!(matches!(error, SendError::FanoutTarget { .. }), "{error:?}");
    assert_eq!((client.counters().accepted, broker.requests()), (0, 0));
}

#[test]
fn invalid_acknowledgements_are_ignored() {
    let broker = Broker::start(|seen| {
        let Act::Answer(mut header, _) = seen.ack() else { panic!() };
        match seen.request.args::<i32>().unwrap() {
            1 => header.id = zmqv2_proto::MessageId::random(),
            2 => header.kind = Kind::Reply,
            3 => header.kind = Kind::Registered,
            4 => header.server = None,
            5 => return Act::Frames(vec![b"x".to_vec(), Vec::new()]),
            6 => return Act::Frames(vec![header.encode()]),
            7 => header.tag += 1,
            _ => {}
        }
        Act::Answer(header, Vec::new())
    });
    // Long enough that even on a busy machine each is sent, and its answer comes, before it ends.
    let client = builder([broker.node("n1")]).cast_timeout(millis(500)).build().unwrap();
    let patient = client.prepare().timeout(LONG);
    // Connects, so that the next ones are sent before they end.
    assert!(patient.cast(&context(), "m", &0).unwrap().wait(LONG).unwrap().is_acked());
    for number in 1..=7 {
        let outcome = client.cast(&context(), "m", &number).unwrap().wait(LONG).unwrap();
        assert!(matches!(outcome, Outcome::Unacknowledged { sent: true, .. }), "{number}: {outcome}");
    }
    assert!(patient.cast(&context(), "m", &8).unwrap().wait(LONG).unwrap().is_acked());
    assert_eq!((client.counters().ignored, client.counters().late), (6, 1));
}

#[test]
fn the_order_of_casts_is_kept_and_threads_share_one_connection_rg08() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let broker = Broker::start(move |request| {
        kept.lock().unwrap().push(request.request.args::<(usize, usize)>().unwrap());
        request.good()
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = client.clone();
            scope.spawn(move || {
                let send = |number| client.cast(&context(), "m", &(thread, number)).unwrap();
                let handles: Vec<_> = (0..500).map(send).collect();
                assert!(handles.iter().all(|handle| handle.wait(LONG).unwrap().is_acked()));
            });
        }
    });
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), broker.connections()), (2_000, 1));
    for thread in 0..4 {
        let of_thread = seen.iter().filter(|(from, _)| *from == thread).map(|(_, number)| *number);
        assert!(of_thread.eq(0..500), "thread {thread}");
    }
}

#[test]
fn a_hundred_thousand_casts_end_once_each_within_the_bound() {
    const CASTS: usize = 100_000;
    const BOUND: usize = 1_000;
    let ran = Arc::new(Mutex::new(HashSet::new()));
    let runs = Arc::clone(&ran);
    let broker = Broker::start(move |seen| {
        assert!(runs.lock().unwrap().insert(seen.header.id), "sent twice");
        seen.good()
    });
    let outcomes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&outcomes);
    let client = builder([broker.node("n1")])
        .max_outstanding(BOUND)
        .observer(move |target, outcome| {
            assert!(outcome.is_acked() && target.topic.as_str() == "t");
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let mut most = 0;
    for number in 0..CASTS {
        drop(client.cast(&context(), "m", &number).unwrap());
        if number % 64 == 0 {
            most = most.max(client.counters().open);
        }
    }
    assert_eq!(client.close(LONG).open, 0);
    let counters = client.counters();
    assert_eq!((counters.accepted, counters.acked, counters.sent), (CASTS as u64, CASTS as u64, CASTS as u64));
    assert_eq!((outcomes.load(Ordering::Relaxed), ran.lock().unwrap().len()), (CASTS, CASTS));
    assert!(most > 0 && most <= BOUND as u64, "{most}");
}

#[test]
fn a_full_table_refuses_or_makes_the_sender_wait() {
    let broker = Broker::start(|seen| if seen.request.args.get() == r#""last""# { Act::Release } else { Act::Hold });
    let refusing = builder([broker.node("n1")]).max_outstanding(2).when_full(WhenFull::Refuse).build().unwrap();
    let first = refusing.cast(&context(), "m", &1).unwrap();
    let last = refusing.prepare().timeout(millis(1_000)).cast(&context(), "m", &2).unwrap();
    let error = refusing.cast(&context(), "m", &3).unwrap_err();
    assert!(matches!(error, SendError::Full { open: 2, .. }), "refused at once, not when there is room: {error:?}");
    // An outcome makes room.
    assert!(!last.wait(LONG).unwrap().is_acked());
    let last = refusing.cast(&context(), "m", "last").unwrap();
    assert!(last.wait(LONG).unwrap().is_acked() && first.wait(LONG).unwrap().is_acked());

    let waiting = builder([broker.node("n1")]).max_outstanding(1).cast_timeout(millis(1_500)).build().unwrap();
    let first = waiting.cast(&context(), "m", &1).unwrap();
    let started = now();
    let error = waiting.prepare().timeout(millis(50)).cast(&context(), "m", &2).unwrap_err();
    assert!(matches!(error, SendError::Full { open: 1, .. }), "{error:?}");
    assert!(started.elapsed() >= millis(50), "it has waited {:?}", started.elapsed());
    // It waits for longer than the first one lives.
    let second = waiting.prepare().timeout(LONG).cast(&context(), "m", "last").unwrap();
    // A message gives its room back a moment before its handle is told.
    assert!(matches!(first.wait(LONG), Some(Outcome::Unacknowledged { sent: true, .. })), "room came with its end");
    assert!(second.wait(LONG).unwrap().is_acked());

    let small = builder([broker.node("n1")]).max_outstanding_bytes(3_000).when_full(WhenFull::Refuse).build().unwrap();
    let _giant = small.cast(&context(), "m", &"x".repeat(4_000)).unwrap();
    assert!(matches!(small.cast(&context(), "m", &1), Err(SendError::Full { open: 1, bytes: 4_000.., .. })));
    assert_eq!(small.close(Duration::ZERO).open, 1);
}

struct Unpark(std::thread::Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

#[test]
fn a_handle_is_a_future_for_any_executor() {
    let broker = Broker::start(|seen| if seen.request.args.get() == "1" { Act::Hold } else { Act::Release });
    let client = builder([broker.node("n1")]).build().unwrap();
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context_of_task = Context::from_waker(&waker);
    let mut cast = pin!(client.cast(&context(), "m", &1).unwrap());
    assert!(cast.as_mut().poll(&mut context_of_task).is_pending());
    let mut call = pin!(client.call_async::<i32>(&context(), "m", &2).unwrap());
    let result = loop {
        if let Poll::Ready(result) = call.as_mut().poll(&mut context_of_task) {
            break result;
        }
        std::thread::park_timeout(LONG);
    };
    assert_eq!(result.unwrap(), 2);
    let outcome = loop {
        if let Poll::Ready(outcome) = cast.as_mut().poll(&mut context_of_task) {
            break outcome;
        }
        std::thread::park_timeout(LONG);
    };
    assert!(outcome.is_acked());
    assert!(unpark.1.load(Ordering::SeqCst) >= 1);
}

#[test]
fn an_answer_to_a_message_that_has_ended_is_counted_and_harms_nobody() {
    let broker = Broker::start(|seen| if seen.request.args.get() == "1" { Act::Hold } else { Act::Release });
    let client = builder([broker.node("n1")]).build().unwrap();
    // Connects, so that the next one is sent before it ends.
    assert!(client.cast(&context(), "m", &0).unwrap().wait(LONG).unwrap().is_acked());
    let brief = client.prepare().timeout(millis(700)).cast(&context(), "m", &1).unwrap();
    assert!(!brief.wait(LONG).unwrap().is_acked());
    // The slot is used again; the acknowledgements of both come, this one's first.
    assert!(client.cast(&context(), "m", &2).unwrap().wait(LONG).unwrap().is_acked());
    assert!(client.cast(&context(), "m", &3).unwrap().wait(LONG).unwrap().is_acked());
    assert_eq!((client.counters().late, client.counters().acked), (1, 3));
}

#[test]
fn a_malformed_header_cannot_end_the_thread() {
    let broker = Broker::start(|seen| {
        if seen.request.args.get() == "1" {
            let mut header = Header::new(Kind::Ack, seen.header.id);
            header.tag = u64::MAX;
            return Act::Answer(header, b"?".to_vec());
        }
        seen.good()
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    // Connects, so that the next one is sent before it ends.
    assert!(client.cast(&context(), "m", &0).unwrap().wait(LONG).unwrap().is_acked());
    let lost = client.prepare().timeout(millis(700)).cast(&context(), "m", &1).unwrap();
    assert!(!lost.wait(LONG).unwrap().is_acked());
    assert!(client.cast(&context(), "m", &2).unwrap().wait(LONG).unwrap().is_acked());
}
