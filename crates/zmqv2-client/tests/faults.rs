//! Lost replies, dead brokers and dead nodes: every call ends in time, and the next one works.

mod support;

use std::time::Duration;

use support::{Act, Broker, Seen, builder, dead_node, now, punctual};
use zmqv2_client::{CallError, FIRST_PROBE_AFTER};
use zmqv2_proto::{Address, Config, Reason, RequestContext};

const LONG: Duration = Duration::from_secs(10);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_lost_reply_is_a_timeout_at_the_deadline_and_the_next_call_works_rg30() {
    let (saw, ttls) = std::sync::mpsc::channel();
    let broker = Broker::start(move |seen| {
        saw.send(seen.header.ttl.as_millis()).unwrap();
        if seen.request.method.as_str() == "lose" { Act::Ignore } else { seen.echo() }
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    // Connects, so that the time to live is not spent on that.
    client.call::<()>(&context(), "echo", &()).unwrap();
    ttls.recv().unwrap();
    for timeout in [millis(60), millis(150), millis(300)] {
        punctual(timeout, || {
            let error = client.prepare().timeout(timeout).call::<()>(&context(), "lose", &()).unwrap_err();
            assert!(matches!(error, CallError::Timeout { after, .. } if after >= timeout), "{error:?}");
            assert!(error.may_have_run());
        });
        assert_eq!(client.call::<i32>(&context(), "echo", &1).unwrap(), 1);
        let told: Vec<_> = ttls.try_iter().map(u128::from).collect();
        let (next, lost) = told.split_last().unwrap();
        assert!(!lost.is_empty() && *next > 1_000, "{told:?}");
        let most = timeout.as_millis();
        assert!(lost.iter().all(|ttl| *ttl <= most) && lost.iter().any(|ttl| *ttl > most / 4), "{told:?}");
    }
}

#[test]
fn the_response_timeout_is_the_default_rg29() {
    let broker = Broker::start(|_| Act::Ignore);
    let mut config = Config::default();
    config.response_timeout = millis(120);
    let client = zmqv2_client::RpcClient::builder(zmqv2_proto::Target::topic("t").unwrap())
        .config(config)
        .matchmaker(support::Fixed::at([broker.node("n1")]))
        .build()
        .unwrap();
    let (error, _) = punctual(millis(120), || client.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no reply from openstack/t within 1"), "{error}");
}

#[test]
fn a_broker_that_dies_is_noticed_at_once_and_used_again_when_it_is_back() {
    let mut broker = Broker::start(|seen| if seen.request.args.get() == "2" { Act::Die } else { seen.echo() });
    let client = builder([broker.node("n1")]).timeout(LONG).build().unwrap();
    for round in 0..3 {
        assert_eq!(client.call::<i32>(&context(), "m", &1).unwrap(), 1);
        let started = now();
        let error = client.call::<i32>(&context(), "m", &2).unwrap_err();
        assert!(matches!(error, CallError::ConnectionLost { .. }), "round {round}: {error:?}");
        assert!(error.may_have_run());
        assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
        broker.join();
        broker = Broker::start_at(
            &broker.address,
            |seen| {
                if seen.request.args.get() == "2" { Act::Die } else { seen.echo() }
            },
        );
    }
    assert_eq!(client.call::<i32>(&context(), "m", &3).unwrap(), 3);
}

#[test]
fn an_idle_socket_whose_broker_was_restarted_does_no_harm() {
    let broker = Broker::start(Seen::echo);
    let client = builder([broker.node("n1")]).timeout(LONG).build().unwrap();
    client.call::<()>(&context(), "m", &()).unwrap();
    let address = broker.address.clone();
    drop(broker);
    let _again = Broker::start_at(&address, Seen::echo);
    // If the client has not noticed the loss, the request goes to the old connection and is lost.
    match client.call::<()>(&context(), "m", &()) {
        Ok(()) | Err(CallError::ConnectionLost { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    client.call::<()>(&context(), "m", &()).unwrap();
}

#[test]
fn without_a_broker_a_call_ends_by_the_connect_timeout() {
    let mut config = Config::default();
    config.connect_timeout = millis(200);
    let client = builder([dead_node("n1")]).config(config).build().unwrap();
    let (error, _) = punctual(millis(200), || client.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    assert!(!error.may_have_run());
    // The deadline, if that is nearer.
    let brief = client.prepare().timeout(millis(60));
    let (error, _) = punctual(millis(60), || brief.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_dead_node_loses_no_call_and_slows_one_rg33() {
    let broker = Broker::start(Seen::echo);
    let mut config = Config::default();
    // Longer than a busy machine delays any other call.
    config.connect_timeout = millis(1_500);
    let client = builder([dead_node("n0"), broker.node("n1")]).config(config).build().unwrap();
    let mut slow = 0;
    for number in 0..20 {
        let answered = client.call_detailed::<i32>(&context(), "m", &number).unwrap();
        assert_eq!(answered.value, number);
        slow += usize::from(answered.elapsed >= millis(1_500));
    }
    assert_eq!((broker.requests(), slow), (20, 1));
}

#[test]
fn a_dead_node_leaves_time_for_the_others_rg33() {
    let broker = Broker::start(Seen::echo);
    for _ in 0..4 {
        // A new client each time: whose turn is first is random.
        let client = builder([dead_node("n0"), broker.node("n1")]).timeout(millis(400)).build().unwrap();
        client.call::<()>(&context(), "m", &()).unwrap();
    }
}

#[test]
fn a_node_that_refuses_is_skipped_when_nothing_ran_rg33() {
    for reason in [Reason::NoRoute, Reason::Busy, Reason::ShuttingDown] {
        let refusing = Broker::start(move |seen| seen.refusal(reason, "not here"));
        let other = Broker::start(Seen::echo);
        let client = builder([refusing.node("n0"), other.node("n1")]).build().unwrap();
        for number in 0..6 {
            assert_eq!(client.call::<i32>(&context(), "m", &number).unwrap(), number);
        }
        assert_eq!((refusing.requests(), other.requests()), (1, 6), "{reason}: who has just refused is set aside");
    }
}

#[test]
fn a_dead_node_costs_one_attempt_until_it_is_back_and_then_gets_its_share_again_rg22() {
    let mut config = Config::default();
    // Longer than a busy machine delays any other call.
    config.connect_timeout = millis(1_000);
    let alive = Broker::start(Seen::echo);
    let dead = dead_node("n0");
    let client = builder([dead.clone(), alive.node("n1")]).config(config).timeout(LONG).build().unwrap();
    let (mut attempts, started) = (0, now());
    // Long enough for several looks at it.
    while started.elapsed() < FIRST_PROBE_AFTER * 4 {
        let asked = now();
        client.call::<()>(&context(), "m", &()).unwrap();
        attempts += usize::from(asked.elapsed() >= millis(950));
        std::thread::park_timeout(millis(5));
    }
    assert_eq!(attempts, 1, "calls that waited for the dead node");
    let back = Broker::start_at(&Address::Tcp(dead.address), Seen::echo);
    let waiting = now();
    while back.requests() < 10 {
        assert!(waiting.elapsed() < FIRST_PROBE_AFTER * 8 + LONG, "it gets no calls");
        client.call::<()>(&context(), "m", &()).unwrap();
    }
}

#[test]
fn a_request_that_may_have_run_is_not_sent_to_another_node() {
    let first = Broker::start(|seen| seen.refusal(Reason::ServerLost, "it died"));
    let second = Broker::start(|seen| seen.refusal(Reason::ServerLost, "it died"));
    let client = builder([first.node("n0"), second.node("n1")]).build().unwrap();
    let error = client.call::<()>(&context(), "m", &()).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ServerLost));
    assert!(error.may_have_run());
    assert_eq!(first.requests() + second.requests(), 1);
}

#[test]
fn after_all_nodes_have_refused_busy_is_reported() {
    let busy = Broker::start(|seen| seen.refusal(Reason::Busy, "backlog of 10 is full"));
    let without = Broker::start(|seen| seen.refusal(Reason::NoRoute, "no such server"));
    let client = builder([busy.node("n0"), without.node("n1")]).build().unwrap();
    for _ in 0..4 {
        let error = client.call::<()>(&context(), "m", &()).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::Busy), "{error}");
    }
    assert_eq!((busy.requests(), without.requests()), (4, 4));
}
