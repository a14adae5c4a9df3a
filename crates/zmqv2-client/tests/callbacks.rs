//! A callback runs on the client's I/O thread. Whatever it does there, it never waits for itself.

mod support;

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use support::{Act, Broker, Seen, builder, now};
use zmqv2_client::{CallError, Outcome, RpcClient, RpcClientBuilder, SendError, WhenFull};
use zmqv2_proto::{Kind, RequestContext};

const LONG: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

fn context() -> RequestContext {
    RequestContext::new()
}

fn answer(seen: &Seen) -> Act {
    match seen.header.kind {
        Kind::Fanout => seen.acks("n1", &["s1"], 0),
        _ => seen.good(),
    }
}

/// A client whose observer does `act` with a copy of it, for the first outcome. Returns what `act`
/// returned.
fn in_observer<T: Send + 'static>(
    builder: RpcClientBuilder,
    act: impl FnOnce(RpcClient) -> T + Send + 'static,
) -> (RpcClient, T) {
    let own = Arc::new(OnceLock::<Mutex<Option<RpcClient>>>::new());
    let (done, result) = mpsc::channel();
    let todo = Mutex::new(Some((act, done)));
    let copy = Arc::clone(&own);
    let client = builder
        .timeout(HOUR)
        .cast_timeout(HOUR)
        .observer(move |_, outcome: &Outcome| {
            assert!(outcome.is_acked(), "{outcome}");
            if let Some((act, done)) = todo.lock().unwrap().take() {
                let client = copy.wait().lock().unwrap().take().unwrap();
                let _ = done.send(act(client));
            }
        })
        .build()
        .unwrap();
    own.set(Mutex::new(Some(client.clone()))).unwrap();
    let handle = client.cast(&context(), "m", &1).unwrap();
    let result = result.recv_timeout(LONG).expect("the observer hangs");
    assert!(handle.wait(LONG).is_some_and(|outcome| outcome.is_acked()));
    (client, result)
}

#[test]
fn an_observer_that_waits_is_told_so_at_once() {
    let broker = Broker::start(answer);
    let node = || builder([broker.node("n1")]);
    let (client, ()) = in_observer(node().call_monitor_timeout(HOUR), |client| {
        let started = now();
        let cast = client.cast(&context(), "m", &2).unwrap();
        assert_eq!(cast.wait(Duration::MAX), None);
        let report = client.fanout(&context(), "m", &2).unwrap().wait(Duration::MAX);
        assert!(report.is_none());
        let notified = client.notifier("p").info(&context(), "e", &()).unwrap().wait(Duration::MAX);
        assert!(notified.is_none());
        let call = client.call_async::<u8>(&context(), "m", &2).unwrap();
        assert!(matches!(call.wait(), Err(CallError::WouldBlock { .. })));
        for result in [client.call::<u8>(&context(), "m", &2), client.ping().map(|_| 2)] {
            let error = result.unwrap_err();
            assert!(matches!(error, CallError::NotSent(SendError::WouldBlock { .. })), "{error}");
            assert!(error.to_string().contains("another thread"), "{error}");
        }
        assert!(started.elapsed() < LONG);
    });
    // The client goes on.
    assert_eq!(client.call::<u8>(&context(), "m", &7).unwrap(), 7);
    assert!(client.cast(&context(), "m", &3).unwrap().wait(LONG).unwrap().is_acked());
}

#[test]
fn an_observer_of_a_full_client_is_refused_at_once() {
    let broker = Broker::start(|seen| if seen.request.args.get() == "1" { seen.good() } else { Act::Ignore });
    let full = builder([broker.node("n1")]).max_outstanding(1).when_full(WhenFull::Wait);
    let (client, error) = in_observer(full, |client| {
        // The message that has just ended gives its room back after the observer.
        client.cast(&context(), "m", &2).and_then(|_| client.cast(&context(), "m", &3)).unwrap_err()
    });
    assert!(matches!(error, SendError::Full { .. }), "{error}");
    client.close(Duration::ZERO);
}

#[test]
fn an_observer_may_close_or_drop_its_client() {
    let broker = Broker::start(answer);
    let node = || builder([broker.node("n1")]);
    let (client, closed) = in_observer(node(), |client| {
        let last = client.cast(&context(), "m", &2).unwrap();
        (client.close(Duration::MAX), last)
    });
    // Its last cast still ends, and no other begins.
    assert!(closed.1.wait(LONG).unwrap().is_acked());
    assert!(matches!(client.cast(&context(), "m", &4), Err(SendError::Closed { .. })));
    assert_eq!(client.close(LONG).open, 0);

    // The copy in the observer is the last one.
    let own = Arc::new(Mutex::new(None::<RpcClient>));
    let (done, dropped) = mpsc::channel();
    let copy = Arc::clone(&own);
    let client = node().observer(move |_, _| {
        let last = copy.lock().unwrap().take();
        drop(last);
        let _ = done.send(());
    });
    let client = client.build().unwrap();
    *own.lock().unwrap() = Some(client.clone());
    let handle = client.cast(&context(), "m", &1).unwrap();
    drop(client);
    dropped.recv_timeout(LONG).expect("the observer hangs");
    assert!(handle.wait(LONG).unwrap().is_acked());
}

#[test]
fn two_observers_that_close_each_others_client_do_not_wait_for_each_other() {
    let broker = Broker::start(answer);
    let clients = Arc::new(OnceLock::<[RpcClient; 2]>::new());
    let (done, closed) = mpsc::channel();
    let make = |other: usize| {
        let (clients, done) = (Arc::clone(&clients), done.clone());
        let client = builder([broker.node("n1")]).observer(move |_, _| {
            clients.wait()[other].close(Duration::MAX);
            let _ = done.send(());
        });
        client.build().unwrap()
    };
    let both = [make(1), make(0)];
    let handles = both.each_ref().map(|client| client.cast(&context(), "m", &1).unwrap());
    assert!(clients.set(both).is_ok());
    for handle in handles {
        closed.recv_timeout(LONG).expect("an observer hangs");
        assert!(handle.wait(LONG).is_some());
    }
}
