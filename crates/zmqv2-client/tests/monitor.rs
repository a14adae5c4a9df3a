//! Monitored calls: they may take long, and their loss is told early.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use support::{Act, Broker, Seen, builder, now, punctual};
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::{Flags, Header, Kind, Reason, RequestContext};

/// Long enough that a machine that is busy with other tests does not make a broker look silent.
const WATCH: Duration = Duration::from_millis(1_500);
const HOUR: Duration = Duration::from_secs(3600);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

type Call = fn(&RpcClient) -> Result<u8, CallError>;

/// Both kinds of calls.
fn calls() -> [(&'static str, Call); 2] {
    [
        ("call", |client| client.call(&context(), "m", &7)),
        ("call_async", |client| client.call_async(&context(), "m", &7)?.wait()),
    ]
}

fn monitored(client: &RpcClient) -> RpcClient {
    client.prepare().timeout(HOUR).call_monitor_timeout(WATCH)
}

fn in_flight(seen: &Seen) -> Act {
    Act::Several(vec![seen.word(Kind::InFlight, "n1", "", 0)])
}

#[test]
fn a_lost_call_ends_early_with_server_lost() {
    for (name, call) in calls() {
        // It is known at the first question, and not at the second.
        let mut asked = 0;
        let (saw, told) = mpsc::channel();
        let broker = Broker::start(move |seen| {
            saw.send(seen.header.clone()).unwrap();
            if seen.header.kind == Kind::Call {
                return Act::Ignore;
            }
            asked += 1;
            if asked == 1 { in_flight(seen) } else { seen.refusal(Reason::ServerLost, "not known here") }
        });
        let client = builder([broker.node("n1")]).build().unwrap();
        let started = now();
        let error = call(&monitored(&client)).unwrap_err();
        let took = started.elapsed();
        assert_eq!(error.reason(), Some(Reason::ServerLost), "{name}: {error}");
        assert!(error.may_have_run() && error.to_string().contains("not known here"), "{error}");
        assert!(took >= WATCH && took < WATCH + millis(5_000), "{name}: {took:?}");
        let seen: Vec<Header> = told.try_iter().collect();
        assert_eq!(
            seen.iter().map(|header| header.kind).collect::<Vec<_>>(),
            [Kind::Call, Kind::Inquire, Kind::Inquire]
        );
        assert!(seen[0].flags.contains(Flags::MONITORED) && seen.iter().all(|header| header.id == seen[0].id));
        if name == "call_async" {
            assert!(seen.iter().all(|header| header.tag == seen[0].tag), "a reply that left before comes first");
            assert_eq!(client.counters().refused, 1);
        } else {
            assert_eq!(client.counters(), zmqv2_client::Counters::default(), "a question is no message");
        }
        assert_eq!((client.counters().ignored, client.counters().open), (0, 0));
        assert_eq!(client.close(HOUR).open, 0);
    }
}

#[test]
fn a_call_that_is_in_flight_goes_on_until_its_reply() {
    for (name, call) in calls() {
        let asked = Arc::new(AtomicUsize::new(0));
        let questions = Arc::clone(&asked);
        let broker = Broker::start(move |seen| match seen.header.kind {
            Kind::Call => Act::Hold,
            _ if questions.fetch_add(1, Ordering::SeqCst) < 3 => in_flight(seen),
            _ => Act::ReleaseHeld,
        });
        let client = builder([broker.node("n1")]).build().unwrap();
        let started = now();
        assert_eq!(call(&monitored(&client)).unwrap(), 7, "{name}");
        // Three times half of the watch, and then the fourth question.
        assert!(started.elapsed() >= 2 * WATCH, "{name}: {:?}", started.elapsed());
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        assert_eq!(client.counters().late, 0);
    }
}

#[test]
fn a_quick_call_is_never_asked_about_and_the_client_goes_on() {
    let broker = Broker::start(Seen::good);
    let client = builder([broker.node("n1")]).call_monitor_timeout(WATCH).build().unwrap();
    for number in 0..20 {
        assert_eq!(client.call::<u8>(&context(), "m", &number).unwrap(), number);
        assert_eq!(client.call_async::<u8>(&context(), "m", &number).unwrap().wait().unwrap(), number);
    }
    assert_eq!((broker.requests(), broker.connections()), (40, 2));
    // Other messages are not monitored.
    let (saw, told) = mpsc::channel();
    let broker = Broker::start(move |seen| {
        saw.send(seen.header.flags).unwrap();
        Act::Ignore
    });
    let client = builder([broker.node("n1")]).call_monitor_timeout(WATCH).cast_timeout(2 * WATCH).build().unwrap();
    let handle = client.cast(&context(), "m", &()).unwrap();
    assert!(!handle.wait(HOUR).unwrap().is_acked());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Flags::BUNDLES.with(Flags::NO_METHOD)]);
}

#[test]
fn a_broker_that_does_not_answer_ends_the_call_in_time() {
    for (name, call) in calls() {
        let broker = Broker::start(|_| Act::Ignore);
        let client = builder([broker.node("n1")]).build().unwrap();
        let (result, attempts) = punctual(WATCH, || call(&monitored(&client)));
        let error = result.unwrap_err();
        let CallError::Timeout { after, .. } = &error else { panic!("{name}: {error:?}") };
        assert!(*after >= WATCH && error.may_have_run(), "{name}: {after:?}");
        assert_eq!(broker.requests(), 2 * attempts, "{name}: each asked once");
        // Its own timeout holds as well.
        let brief = client.prepare().timeout(millis(120)).call_monitor_timeout(HOUR);
        let (result, _) = punctual(millis(120), || call(&brief));
        assert!(matches!(result, Err(CallError::Timeout { .. })), "{name}: {result:?}");
    }
}

#[test]
fn a_reply_that_is_on_its_way_wins() {
    for (name, call) in calls() {
        // The broker has just replied when it is asked: it does not know the call any more.
        let broker = Broker::start(|seen| match seen.header.kind {
            Kind::Call => Act::Hold,
            _ => Act::Both(Box::new(Act::ReleaseHeld), Box::new(seen.refusal(Reason::ServerLost, "not known"))),
        });
        let client = builder([broker.node("n1")]).build().unwrap();
        assert_eq!(call(&monitored(&client)).unwrap(), 7, "{name}");

        // The other way round, the reply has a moment, if it comes over another connection.
        let broker = Broker::start(|seen| match seen.header.kind {
            Kind::Call => Act::Hold,
            _ => Act::Both(Box::new(seen.refusal(Reason::ServerLost, "not known")), Box::new(Act::ReleaseHeld)),
        });
        let client = builder([broker.node("n1")]).build().unwrap();
        let result = call(&monitored(&client));
        assert_eq!(result.is_ok(), name == "call", "{name}: {result:?}");
        // The client can be used again at once.
        assert!(client.prepare().timeout(millis(100)).call::<u8>(&context(), "m", &1).is_err());
    }
}

#[test]
fn with_a_retry_a_lost_call_is_sent_again() {
    for (name, call) in calls() {
        let mut calls = 0;
        let broker = Broker::start(move |seen| match seen.header.kind {
            Kind::Call => {
                calls += 1;
                assert!(seen.header.flags.contains(Flags::MAY_REPEAT) && seen.header.flags.contains(Flags::MONITORED));
                if calls == 1 { Act::Ignore } else { seen.good() }
            }
            _ => seen.refusal(Reason::ServerLost, "not known"),
        });
        let client = builder([broker.node("n1")]).build().unwrap();
        assert_eq!(call(&monitored(&client).retry(1)).unwrap(), 7, "{name}");
        assert_eq!(broker.requests(), 3);
    }
}

#[test]
fn a_dead_broker_is_a_lost_connection_also_for_a_monitored_call() {
    for (name, call) in calls() {
        let mut broker = Broker::start(|seen| if seen.header.kind == Kind::Call { Act::Ignore } else { Act::Die });
        let client = builder([broker.node("n1")]).build().unwrap();
        let error = call(&monitored(&client)).unwrap_err();
        assert!(matches!(error, CallError::ConnectionLost { .. }), "{name}: {error:?}");
        broker.join();
    }
}

#[test]
fn a_call_that_blocks_outlives_the_end_of_its_client_unmonitored() {
    let (saw, told) = mpsc::channel();
    let broker = Broker::start(move |seen| {
        saw.send(seen.header.kind).unwrap();
        Act::Ignore
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    assert_eq!(client.close(HOUR).open, 0);
    let brief = monitored(&client).timeout(3 * WATCH);
    let started = now();
    assert!(matches!(brief.call::<u8>(&context(), "m", &7), Err(CallError::Timeout { .. })));
    assert!(started.elapsed() >= 3 * WATCH, "{:?}", started.elapsed());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Kind::Call]);
}
