//! Calls that do not block.

mod support;

use std::time::Duration;

use support::{Act, Broker, Seen, builder, punctual};
use zmqv2_client::CallError;
use zmqv2_proto::{Failure, Reason, RequestContext};

fn context() -> RequestContext {
    RequestContext::new()
}

#[test]
fn a_thousand_in_flight_over_one_connection_and_no_reply_crosses() {
    let mut seen = 0;
    let broker = Broker::start(move |_| {
        seen += 1;
        if seen % 1_000 == 0 { Act::Release } else { Act::Hold }
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    for round in 0..3 {
        let calls: Vec<_> = (0..1_000)
            .map(|number| client.call_async::<(usize, usize)>(&context(), "m", &(round, number)).unwrap())
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            let answered = call.wait_detailed().unwrap();
            assert_eq!((answered.value, answered.server.as_str()), ((round, number), "s1"));
        }
    }
    let counters = client.counters();
    assert_eq!((broker.connections(), counters.replied, counters.open, counters.ignored), (1, 3_000, 0, 0));
}

#[test]
fn errors_are_those_of_a_call() {
    let broker = Broker::start(|seen| match seen.request.method.as_str() {
        "fail" => seen.failure(Failure::new("evil", "Broken", "no disk")),
        "refuse" => seen.refusal(Reason::ServerLost, "it died"),
        "lose" => Act::Ignore,
        _ => seen.echo(),
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    let call = |method: &str| client.call_async::<u8>(&context(), method, "text").unwrap();
    let CallError::Remote(error) = call("fail").wait().unwrap_err() else { panic!() };
    assert_eq!((error.class(), error.original_class()), ("RemoteError", "Broken"));
    assert_eq!(call("refuse").wait().unwrap_err().reason(), Some(Reason::ServerLost));
    assert!(matches!(call("echo").wait(), Err(CallError::Answer { .. })));

    let brief = client.prepare().timeout(Duration::from_millis(100));
    let (error, _) = punctual(Duration::from_millis(100), || {
        let call = brief.call_async::<u8>(&context(), "lose", &()).unwrap();
        assert!(!call.is_done());
        call.wait().unwrap_err()
    });
    assert!(matches!(error, CallError::Timeout { .. }) && error.may_have_run(), "{error:?}");
}

#[test]
fn a_dropped_call_is_forgotten_and_the_others_go_on() {
    let broker = Broker::start(Seen::good);
    let client = builder([broker.node("n1")]).build().unwrap();
    for number in 0..100 {
        drop(client.call_async::<i32>(&context(), "m", &number).unwrap());
    }
    assert_eq!(client.call_async::<i32>(&context(), "m", &7).unwrap().wait().unwrap(), 7);
    assert_eq!(client.close(Duration::from_secs(20)).open, 0);
    // A dropped call has its answer already, or is given up.
    let counters = client.counters();
    assert_eq!((counters.accepted, counters.replied + counters.unacknowledged), (101, 101), "{counters:?}");
}
