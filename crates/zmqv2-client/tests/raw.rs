//! Bodies that are ready: the bytes travel as they are, both ways.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Act, Broker, Seen, builder};
use zmqv2_client::{CallError, NotifyHandle, Outcome, SendError};
use zmqv2_proto::{Config, Failure, Kind, Priority, Request, RequestContext};

const LONG: Duration = Duration::from_secs(30);
/// No client writes it so.
const BODY: &str = r#"{ "args" : {"x":1}, "method":"m" , "_context_user": "ann" }"#;
const NOTICE: &str = r#"{ "payload":1, "event_type":"e", "priority":"INFO", "message_id":"mine" }"#;

/// A broker that keeps all bodies that it gets.
fn broker(mut act: impl FnMut(&Seen) -> Act + Send + 'static) -> (Broker, Arc<Mutex<Vec<String>>>) {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen_bodies = Arc::clone(&bodies);
    let broker = Broker::start(move |seen| {
        seen_bodies.lock().unwrap().push(String::from_utf8(seen.body.clone()).unwrap());
        act(seen)
    });
    (broker, bodies)
}

fn answer(seen: &Seen) -> Act {
    match seen.header.kind {
        Kind::Fanout => seen.acks("n1", &["s1", "s2"], 0),
        Kind::Notify => seen.ack(),
        _ => seen.good(),
    }
}

#[test]
fn bodies_go_out_and_replies_come_back_unread() {
    let (broker, bodies) = broker(|seen| match seen.header.kind {
        // No reply at all, so reading it would fail.
        Kind::Call => {
            let Act::Answer(header, _) = seen.good() else { unreachable!() };
            Act::Answer(header, b"\x00no JSON\xff".to_vec())
        }
        _ => answer(seen),
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    let answered = client.call_raw(BODY).unwrap();
    assert_eq!((answered.value.body(), answered.server.as_str()), (&b"\x00no JSON\xff"[..], "s1"));
    assert!(!answered.value.is_failure());
    assert_eq!(client.call_raw_async(BODY).unwrap().wait().unwrap().to_vec(), b"\x00no JSON\xff");
    assert!(client.cast_raw(BODY).unwrap().wait(LONG).unwrap().is_acked());
    assert_eq!(client.fanout_raw(BODY).unwrap().wait(LONG).unwrap().acked(), 2);
    let notifier = client.notifier("p").topics(["a", "b"]).unwrap();
    assert_eq!(notifier.notify_raw(NOTICE, Priority::Info).unwrap().wait(LONG).unwrap().acked(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let client = client.asynchronous();
        assert_eq!(client.call_raw(BODY).await.unwrap().value.as_ref(), b"\x00no JSON\xff");
        assert!(client.cast_raw(BODY).await.unwrap().await.is_acked());
        assert_eq!(client.fanout_raw(BODY).await.unwrap().await.acked(), 2);
        let notified = notifier.asynchronous().notify_raw(NOTICE, Priority::Info).await.unwrap().await;
        assert_eq!(notified.acked(), 2);
    });
    let bodies = bodies.lock().unwrap();
    let count = |wanted: &str| bodies.iter().filter(|body| *body == wanted).count();
    assert_eq!((count(BODY), count(NOTICE), bodies.len()), (7, 4, 11), "{bodies:?}");
}

#[test]
fn concurrent_blocking_calls_send_their_bodies_too() {
    let (broker, bodies) = broker(answer);
    let client = builder([broker.node("n1")]).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| drop(client.call_raw(BODY).unwrap())));
        }
    });
    assert_eq!(bodies.lock().unwrap().iter().filter(|body| *body == BODY).count(), 400);
}

#[test]
fn a_failure_is_marked_and_not_an_error() {
    let (broker, _) = broker(|seen| seen.failure(Failure::new("m", "Broken", "no disk")));
    let client = builder([broker.node("n1")]).build().unwrap();
    for reply in [client.call_raw(BODY).unwrap().value, client.call_raw_async(BODY).unwrap().wait().unwrap()] {
        assert!(reply.is_failure());
        assert!(String::from_utf8_lossy(reply.body()).contains("no disk"));
        assert!(!format!("{reply:?}").contains("disk"), "{reply:?}");
    }
}

#[test]
fn a_body_above_the_limit_is_refused_with_both_sizes() {
    let (broker, bodies) = broker(answer);
    let mut config = Config::default();
    config.max_message_bytes = 2_000;
    let client = builder([broker.node("n1")]).config(config).build().unwrap();
    let (body, notifier) = (vec![b' '; 2_001], client.notifier("p"));
    let call = match client.call_raw(body.clone()).unwrap_err() {
        CallError::NotSent(error) => error,
        other => panic!("{other}"),
    };
    for error in [
        call,
        client.call_raw_async(body.clone()).unwrap_err(),
        client.cast_raw(body.clone()).unwrap_err(),
        client.fanout_raw(body.clone()).unwrap_err(),
        notifier.notify_raw(body, Priority::Info).unwrap_err(),
    ] {
        assert!(matches!(error, SendError::TooLarge { size: 2_001, limit: 2_000, .. }), "{error}");
    }
    assert_eq!(client.cast_raw(vec![b' '; 2_001]).unwrap_err().to_string().matches("2001 bytes").count(), 1);
    assert!(bodies.lock().unwrap().is_empty());
}

#[test]
fn a_sender_learns_that_a_broker_keeps_its_notification() {
    let (broker, _) = broker(|seen| Act::Several(vec![seen.word(Kind::Stored, "n1", "", 0)]));
    let client = builder([broker.node("n1")]).build().unwrap();
    let kept: NotifyHandle = client.notifier("p").notify_raw(NOTICE, Priority::Info).unwrap();
    let report = kept.wait(LONG).unwrap();
    assert!(report.all_taken_over() && matches!(report.results[0].outcome, Outcome::Stored { .. }), "{report:#}");
}

#[test]
fn a_body_of_this_client_is_one_that_is_ready() {
    let (broker, bodies) = broker(answer);
    let client = builder([broker.node("n1")]).build().unwrap();
    let context = RequestContext::new().with("user", "ann");
    let request = Request::new("m".parse().unwrap(), &7).unwrap().with_context(context);
    let reply = client.call_raw(request.encode().unwrap()).unwrap().value;
    assert_eq!(zmqv2_proto::Reply::decode::<u8>(reply.body()).unwrap().unwrap(), 7);
    assert_eq!(bodies.lock().unwrap().len(), 1);
}
