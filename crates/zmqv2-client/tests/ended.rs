//! Waiting with a limit, and a descriptor that tells which handles have ended.

mod support;

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Act, Broker, Seen, builder, now};
use zmqv2_client::{CallHandle, EndedHandles, RpcClient, WatchError};
use zmqv2_proto::{Kind, RequestContext};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);

fn context() -> RequestContext {
    RequestContext::new()
}

/// Holds everything until somebody calls `release`.
fn holding_broker() -> Broker {
    Broker::start(|seen| match (seen.request.method.as_str(), seen.header.kind) {
        ("release", _) => Act::Both(Box::new(Act::ReleaseHeld), Box::new(seen.good())),
        (_, Kind::Call | Kind::Cast) => Act::Hold,
        _ => Act::Ignore,
    })
}

/// Waits until the broker has so many messages.
fn until_there(broker: &Broker, messages: usize) {
    let by = now() + LONG;
    while broker.requests() < messages {
        assert!(now() < by, "{} came", broker.requests());
        std::thread::yield_now();
    }
}

/// Releases what is held, once the broker has so many messages.
fn release(client: &RpcClient, broker: &Broker, messages: usize) {
    until_there(broker, messages);
    client.call::<()>(&context(), "release", &()).unwrap();
}

fn is_readable(ended: &EndedHandles, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    let mut polled = [PollFd::new(ended, PollFlags::IN)];
    poll(&mut polled, Some(&timeout)).unwrap() == 1
}

#[test]
fn every_handle_comes_back_when_the_time_is_over() {
    let broker = holding_broker();
    let client = builder([broker.node("n1")]).build().unwrap();
    let started = now();
    let call: CallHandle<u8> = client.call_async(&context(), "m", &7).unwrap().wait_timeout(SHORT).unwrap_err();
    let cast = client.cast(&context(), "m", &7).unwrap().wait_timeout(SHORT).unwrap_err();
    let fanout = client.fanout(&context(), "m", &7).unwrap().wait_timeout(SHORT).unwrap_err();
    let notified = client.notifier("p").info(&context(), "e", &7).unwrap().wait_timeout(SHORT).unwrap_err();
    let raw = client.call_raw_async(r#"{"method":"m","args":8}"#).unwrap().wait_timeout(SHORT).unwrap_err();
    assert!(started.elapsed() >= SHORT * 5);
    assert!(!call.is_done() && cast.outcome().is_none());
    release(&client, &broker, 5);
    assert_eq!(call.wait_timeout(LONG).unwrap().unwrap(), 7);
    assert!(cast.wait_timeout(LONG).unwrap().is_acked());
    assert!(!raw.wait_timeout(LONG).unwrap().unwrap().is_failure());
    client.close(Duration::ZERO);
    assert_eq!(fanout.wait_timeout(LONG).unwrap().unacknowledged(), 1);
    assert_eq!(notified.wait_timeout(LONG).unwrap().unacknowledged(), 1);
}

#[test]
fn the_descriptor_is_readable_while_there_are_tokens() {
    let broker = Broker::start(|seen: &Seen| match (seen.request.method.as_str(), seen.header.kind) {
        ("release", _) => Act::Both(Box::new(Act::ReleaseHeld), Box::new(seen.good())),
        (_, Kind::Fanout) => seen.acks("n1", &["s1"], 0),
        (_, Kind::Notify) => seen.ack(),
        _ => Act::Hold,
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    let ended = EndedHandles::new(10).unwrap();
    let call = client.call_async::<u8>(&context(), "m", &7).unwrap();
    let cast = client.cast(&context(), "m", &7).unwrap();
    ended.watch(&call, 1).unwrap();
    ended.watch(&cast, 2).unwrap();
    assert!(!is_readable(&ended, Duration::ZERO) && ended.take().is_empty());
    release(&client, &broker, 2);
    let mut tokens = Vec::new();
    while tokens.len() < 2 {
        assert!(is_readable(&ended, LONG));
        assert!(is_readable(&ended, Duration::ZERO), "until the tokens are taken");
        tokens.extend(ended.take());
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2]);
    assert!(!is_readable(&ended, Duration::ZERO));
    assert_eq!(call.wait().unwrap(), 7);

    // One that has ended gives its token at once.
    assert!(cast.outcome().is_some());
    ended.watch(&cast, 3).unwrap();
    assert!(is_readable(&ended, Duration::ZERO));
    assert_eq!(ended.take(), [3]);
    let fanout = client.fanout(&context(), "m", &7).unwrap();
    ended.watch(&fanout, 4).unwrap();
    assert!(is_readable(&ended, LONG));
    assert_eq!((ended.take(), fanout.report().unwrap().acked()), (vec![4], 1));
    let notified = client.notifier("p").info(&context(), "e", &7).unwrap();
    ended.watch(&notified, 5).unwrap();
    assert!(is_readable(&ended, LONG));
    assert_eq!((ended.take(), notified.report().unwrap().acked()), (vec![5], 1));
}

#[test]
fn the_number_of_watched_handles_is_bounded_and_room_comes_back() {
    let broker = holding_broker();
    let client = builder([broker.node("n1")]).build().unwrap();
    let ended = EndedHandles::new(2).unwrap();
    let calls = [1, 2, 3].map(|number| client.call_async::<u8>(&context(), "m", &number).unwrap());
    until_there(&broker, 3);
    ended.watch(&calls[0], 1).unwrap();
    ended.watch(&calls[1], 2).unwrap();
    let error = ended.watch(&calls[2], 3).unwrap_err();
    assert_eq!(error, WatchError::Full { limit: 2 });
    assert!(error.to_string().contains('2'), "{error}");
    // Another waker takes the place of the first one.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let [first, second, third] = calls;
    let first = runtime.spawn(first);
    runtime.block_on(tokio::task::yield_now());
    ended.watch(&third, 3).unwrap();
    // A dropped handle still gives its token.
    drop(second);
    assert!(is_readable(&ended, LONG));
    assert_eq!(ended.take(), [2]);
    release(&client, &broker, 3);
    assert_eq!(runtime.block_on(first).unwrap().unwrap(), 1);
    assert!(is_readable(&ended, LONG));
    assert_eq!(ended.take(), [3]);
    assert_eq!(third.wait().unwrap(), 3);
}
