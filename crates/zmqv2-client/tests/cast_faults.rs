//! Casts through lost acknowledgements, dead brokers and dead nodes; retries; the end of a client.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use support::{Act, Broker, Fixed, Seen, builder, dead_node, now, punctual};
use zmqv2_client::{CallError, Outcome, SendError};
use zmqv2_proto::{Config, Flags, MessageId, Reason, RequestContext};

const LONG: Duration = Duration::from_secs(20);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_lost_acknowledgement_is_reported_at_the_timeout_and_the_cast_is_not_repeated_rg19() {
    let broker = Broker::start(|seen| if seen.request.method.as_str() == "lose" { Act::Ignore } else { seen.good() });
    let (saw, told) = mpsc::channel();
    let saw = Mutex::new(saw);
    let client = builder([broker.node("n1")])
        .cast_timeout(millis(150))
        .observer(move |target, outcome| saw.lock().unwrap().send((target.to_string(), outcome.clone())).unwrap())
        .build()
        .unwrap();
    assert!(client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    told.recv().unwrap();
    let ((), attempts) = punctual(millis(150), || {
        let handle = client.cast(&context(), "lose", &()).unwrap();
        assert_eq!(handle.wait(millis(1)), None);
        let outcome = handle.wait(LONG).unwrap();
        assert!(
            matches!(outcome, Outcome::Unacknowledged { sent: true, after, .. } if after >= millis(150)),
            "{outcome}"
        );
        assert_eq!(told.recv().unwrap(), ("openstack/t".to_owned(), outcome));
    });
    // Nobody holds the handle: the counter and the observer are told all the same.
    drop(client.cast(&context(), "lose", &()).unwrap());
    assert!(!told.recv_timeout(LONG).unwrap().1.is_acked());
    assert_eq!((client.counters().unacknowledged, client.counters().resent), (attempts as u64 + 1, 0));
    assert_eq!(broker.requests(), attempts + 2, "nothing was repeated");
}

#[test]
fn without_a_retry_a_lost_connection_ends_the_cast_at_once() {
    let mut broker = Broker::start(|seen| if seen.request.args.get() == "2" { Act::Die } else { seen.good() });
    let client = builder([broker.node("n1")]).build().unwrap();
    assert!(client.cast(&context(), "m", &1).unwrap().wait(LONG).unwrap().is_acked());
    let started = now();
    let outcome = client.cast(&context(), "m", &2).unwrap().wait(LONG).unwrap();
    assert!(matches!(outcome, Outcome::Unacknowledged { sent: true, .. }), "{outcome}");
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    broker.join();
    let broker = Broker::start_at(&broker.address, Seen::good);
    assert!(client.cast(&context(), "m", &3).unwrap().wait(LONG).unwrap().is_acked());
    assert_eq!(broker.requests(), 1, "the lost one was not repeated");
}

#[test]
fn with_a_retry_a_cast_survives_a_lost_connection_with_the_same_id() {
    let (saw, seen) = mpsc::channel();
    let saw_again = saw.clone();
    let mut broker = Broker::start(move |request| {
        saw.send(request.header.clone()).unwrap();
        Act::Die
    });
    let client = builder([broker.node("n1")]).retry(2).build().unwrap();
    let handle = client.cast(&context(), "m", &1).unwrap();
    broker.join();
    let _broker = Broker::start_at(&broker.address, move |request| {
        saw_again.send(request.header.clone()).unwrap();
        request.good()
    });
    assert!(handle.wait(LONG).unwrap().is_acked());
    let (first, second) = (seen.recv().unwrap(), seen.recv().unwrap());
    assert_eq!((first.id, second.id), (handle.id(), handle.id()));
    assert!(first.flags.contains(Flags::MAY_REPEAT) && second.flags.contains(Flags::MAY_REPEAT));
    assert!(second.ttl <= first.ttl);
    assert_eq!((client.counters().sent, client.counters().resent, client.counters().acked), (1, 1, 1));
}

#[test]
fn a_lost_server_or_silence_is_retried_and_reported_when_retries_run_out() {
    let mut refusals = 2;
    let broker = Broker::start(move |seen| {
        if refusals == 0 {
            return seen.good();
        }
        refusals -= 1;
        seen.refusal(Reason::ServerLost, "it died")
    });
    let client = builder([broker.node("n1")]).retry(2).build().unwrap();
    assert!(client.cast(&context(), "m", &1).unwrap().wait(LONG).unwrap().is_acked());
    assert_eq!(broker.requests(), 3);

    let silent = Broker::start(|_| Act::Ignore);
    let client = builder([silent.node("n1")]).retry(2).cast_timeout(millis(300)).build().unwrap();
    let cast = || client.cast(&context(), "m", &1).unwrap().wait(LONG).unwrap();
    let (outcome, casts) = punctual(millis(300), cast);
    assert!(matches!(outcome, Outcome::Unacknowledged { sent: true, .. }), "{outcome}");
    assert_eq!(silent.requests(), 3 * casts, "an attempt each 100 ms");

    let lost = Broker::start(|seen| seen.refusal(Reason::ServerLost, "it died"));
    let client = builder([lost.node("n1")]).retry(3).build().unwrap();
    let outcome = client.cast(&context(), "m", &1).unwrap().wait(LONG).unwrap();
    assert!(matches!(&outcome, Outcome::Refused { refusal, .. } if refusal.reason == Reason::ServerLost), "{outcome}");
    assert_eq!(lost.requests(), 4);
}

#[test]
fn a_retry_does_not_insist_on_the_node_that_vanished_rg22() {
    let mut dying = Broker::start(|_| Act::Die);
    let other = Broker::start(Seen::good);
    let client = builder([dying.node("n0"), other.node("n1")]).retry(1).build().unwrap();
    for number in 0..2 {
        assert!(client.cast(&context(), "m", &number).unwrap().wait(LONG).unwrap().is_acked());
    }
    dying.join();
    assert_eq!((other.requests(), client.counters().resent), (2, 1));
}

#[test]
fn a_retried_call_that_blocks_does_the_same() {
    let mut dying = Broker::start(|_| Act::Die);
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ids);
    let other = Broker::start(move |request| {
        seen.lock().unwrap().push((request.header.id, request.header.flags));
        request.good()
    });
    let client = builder([dying.node("n0"), other.node("n1")]).retry(1).build().unwrap();
    for number in 0..2 {
        assert_eq!(client.call::<i32>(&context(), "m", &number).unwrap(), number);
    }
    dying.join();
    let ids = ids.lock().unwrap();
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|(_, flags)| flags.contains(Flags::MAY_REPEAT)));

    let silent = Broker::start(|_| Act::Ignore);
    let client = builder([silent.node("n1")]).retry(2).timeout(millis(300)).build().unwrap();
    let (error, calls) = punctual(millis(300), || client.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
    assert_eq!(silent.requests(), 3 * calls);
}

#[test]
fn dead_peers_cost_no_cast_and_none_runs_twice_rg05_rg33() {
    let runs = Arc::new(Mutex::new(HashMap::<MessageId, usize>::new()));
    let brokers: Vec<Broker> = (0..2)
        .map(|_| {
            let runs = Arc::clone(&runs);
            Broker::start(move |seen| {
                *runs.lock().unwrap().entry(seen.header.id).or_default() += 1;
                seen.good()
            })
        })
        .collect();
    let mut config = Config::default();
    config.connect_timeout = millis(200);
    let nodes = [dead_node("n0"), brokers[0].node("n1"), brokers[1].node("n2"), dead_node("n3")];
    let client = builder(nodes).config(config).build().unwrap();
    let handles: Vec<_> = (0..400).map(|number| client.cast(&context(), "m", &number).unwrap()).collect();
    assert!(handles.iter().all(|handle| handle.wait(LONG).unwrap().is_acked()));
    let runs = runs.lock().unwrap();
    assert!(handles.iter().all(|handle| runs.get(&handle.id()) == Some(&1)));
    assert_eq!((runs.len(), client.counters().resent), (400, 0));
}

#[test]
fn a_node_that_refuses_is_skipped_when_nothing_ran_rg33() {
    for reason in [Reason::NoRoute, Reason::Busy, Reason::ShuttingDown] {
        let refusing = Broker::start(move |seen| seen.refusal(reason, "not here"));
        let other = Broker::start(Seen::good);
        let client = builder([refusing.node("n0"), other.node("n1")]).build().unwrap();
        for number in 0..6 {
            assert!(client.cast(&context(), "m", &number).unwrap().wait(LONG).unwrap().is_acked());
        }
        assert_eq!((refusing.requests(), other.requests()), (1, 6), "{reason}: who has just refused is set aside");
    }
    let busy = Broker::start(|seen| seen.refusal(Reason::Busy, "full"));
    let without = Broker::start(|seen| seen.refusal(Reason::NoRoute, "none"));
    let client = builder([busy.node("n0"), without.node("n1")]).build().unwrap();
    for _ in 0..2 {
        let outcome = client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap();
        assert!(matches!(&outcome, Outcome::Refused { refusal, .. } if refusal.reason == Reason::Busy), "{outcome}");
    }
}

#[test]
fn with_no_peer_alive_nothing_blocks_for_ever_rg07_rg28() {
    let mut config = Config::default();
    config.connect_timeout = millis(150);
    let client = builder([dead_node("n1")]).config(config).build().unwrap();
    let started = now();
    let handles: Vec<_> = (0..100).map(|number| client.cast(&context(), "m", &number).unwrap()).collect();
    for handle in &handles {
        let outcome = handle.wait(LONG).unwrap();
        assert!(matches!(outcome, Outcome::Unacknowledged { sent: false, .. }), "{outcome}");
    }
    assert!(started.elapsed() >= millis(150) && started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    let waiting = client.prepare().retry(1).cast(&context(), "m", &()).unwrap();
    let started = now();
    drop(client);
    // The last clone is gone: what was open has ended, and no socket lingers for ever.
    assert!(matches!(waiting.wait(LONG), Some(Outcome::Unacknowledged { sent: false, .. })));
    assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
}

#[test]
fn close_waits_for_outcomes_and_reports_the_rest() {
    let broker = Broker::start(|seen| if seen.request.method.as_str() == "lose" { Act::Ignore } else { seen.good() });
    let client = builder([broker.node("n1")]).build().unwrap();
    let lost = client.cast(&context(), "lose", &()).unwrap();
    let call = client.call_async::<()>(&context(), "lose", &()).unwrap();
    let good: Vec<_> = (0..100).map(|number| client.cast(&context(), "m", &number).unwrap()).collect();
    let started = now();
    assert_eq!(client.close(millis(200)).open, 2);
    assert!(started.elapsed() >= millis(200) && started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    assert!(good.iter().all(|handle| handle.outcome().unwrap().is_acked()));
    assert!(matches!(lost.outcome(), Some(Outcome::Unacknowledged { sent: true, .. })));
    assert!(matches!(call.wait(), Err(CallError::Closed { .. })));
    assert!(matches!(client.cast(&context(), "m", &()), Err(SendError::Closed { .. })));
    assert_eq!(client.close(LONG).open, 0);
    client.call::<()>(&context(), "m", &()).unwrap();

    // A client that has sent nothing closes at once; one that waits for nothing too.
    let idle = builder([broker.node("n1")]).build().unwrap();
    assert_eq!(idle.close(LONG).open, 0);
}

#[test]
fn dropping_the_client_waits_for_messages_in_flight_rg28() {
    let broker = Broker::start(Seen::good);
    let client = builder([broker.node("n1")]).build().unwrap();
    let handles: Vec<_> = (0..200).map(|number| client.cast(&context(), "m", &number).unwrap()).collect();
    drop(client);
    assert!(handles.iter().all(|handle| handle.outcome().unwrap().is_acked()));
    assert_eq!(broker.requests(), 200);
}

#[test]
fn a_frozen_peer_beyond_the_high_water_mark_is_no_answer() {
    // It stops reading at the first message. Its queue fills, then the TCP buffers, then the sender's
    // pipe.
    let (thaw, thawed) = mpsc::channel::<()>();
    let broker = Broker::start(move |_| {
        let _ = thawed.recv();
        Act::Die
    });
    // Dropped before the broker, whose end waits for it, also if an assertion fails.
    let thaw = thaw;
    let client = builder([broker.node("n1")]).cast_timeout(millis(5_000)).max_outstanding(200_000).build().unwrap();
    let (body, began) = ("x".repeat(1_000), now());
    let mut handles = Vec::new();
    let mut cast = || {
        handles.push(client.cast(&context(), "m", &body).unwrap());
        handles.len() as u64
    };
    // Each one leaves alone, in a frame of its own, until the pipe takes no more.
    let mut taken = true;
    while taken {
        let count = cast();
        assert!(count < 150_000, "the pipe has no bound");
        let stuck = now() + millis(500);
        while client.counters().sent < count && taken {
            taken = now() < stuck;
            std::thread::yield_now();
        }
    }
    (0..1_000).for_each(|_| _ = cast());
    // Nothing ends before the kernel gives up a connection whose peer takes nothing for 2.5 s. That is
    // wanted (decision 0027), and earlier than the timeout of the casts.
    handles[0].wait(LONG).unwrap();
    assert!(began.elapsed() >= millis(2_400), "{:?}", began.elapsed());
    let mut sent = 0;
    for handle in &handles {
        match handle.wait(LONG).unwrap() {
            Outcome::Unacknowledged { sent: true, .. } => sent += 1,
            Outcome::Unacknowledged { sent: false, .. } => {}
            outcome => panic!("{outcome}"),
        }
    }
    assert!(sent > 10_000 && sent < handles.len(), "{sent}");
    drop(thaw);
}

#[test]
fn links_above_the_pool_size_are_closed() {
    let brokers = [Broker::start(Seen::good), Broker::start(Seen::good)];
    let mut config = Config::default();
    config.conn_pool_size = 1;
    let directory = Fixed::at([brokers[0].node("n0"), brokers[1].node("n1")]);
    let client = builder([]).matchmaker(directory).config(config).build().unwrap();
    for number in 0..8 {
        assert!(client.cast(&context(), "m", &number).unwrap().wait(LONG).unwrap().is_acked());
    }
    assert_eq!(brokers.each_ref().map(Broker::connections), [4, 4]);
}
