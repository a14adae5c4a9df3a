//! A server with asynchronous handlers: what the broker gets for each request.

#![cfg(feature = "tokio")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use support::{Broker, SHORT, request, until};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use zmqv2_proto::{Flags, Header, Kind, Reason};
use zmqv2_server::{
    AsyncMethods, AsyncRpcServer, AsyncRpcServerBuilder, BoxFuture, Config, Executor, HandlerError, Request,
    ServerError, Target, reply,
};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

fn builder(dir: &TempDir, executor: impl Executor) -> AsyncRpcServerBuilder {
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    AsyncRpcServer::builder(target, executor).ipc_dir(dir.path())
}

fn body(method: &str, number: usize) -> Vec<u8> {
    Request::new(method.parse().unwrap(), &number).unwrap().encode().unwrap()
}

/// The body of a reply with this result.
fn result(value: &impl serde::Serialize) -> Vec<u8> {
    reply(value).unwrap().encode().unwrap()
}

/// The method `wait` ends when the returned [`Notify`] says so. The counter has those that wait.
fn waiting_methods() -> (AsyncMethods, Arc<AtomicUsize>, Arc<Notify>) {
    let (waiting, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, notify) = (Arc::clone(&waiting), Arc::clone(&go));
    let wait = move |number: usize| {
        let (count, notify) = (Arc::clone(&count), Arc::clone(&notify));
        async move {
            let go = notify.notified();
            let mut go = std::pin::pin!(go);
            go.as_mut().enable();
            count.fetch_add(1, Ordering::SeqCst);
            go.await;
            count.fetch_sub(1, Ordering::SeqCst);
            Ok(number)
        }
    };
    (AsyncMethods::new().method("wait", wait).unwrap(), waiting, go)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn ten_thousand_handlers_wait_at_the_same_time_with_few_threads() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let (methods, waiting, go) = waiting_methods();
    let server = builder(&dir, runtime.handle().clone()).endpoint(methods).places(10_000).start().unwrap();
    let broker = Broker::start(dir.path());
    assert_eq!((broker.registration.workers, broker.registration.shared), (10_000, true));
    for tag in 1..=10_000 {
        broker.deliver(0, &request(Kind::Call, tag), &body("wait", 7));
        if tag % 500 == 0 {
            // The test's socket holds a bounded number of messages.
            until("they run", || waiting.load(Ordering::SeqCst) as u64 == tag);
        }
    }
    // Those of the other tests of this process are counted, too.
    assert!(threads() < 80, "{} threads", threads());
    go.notify_waiters();
    let mut tags: Vec<_> = (0..10_000).map(|_| broker.answer(0).header.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (1..=10_000).collect::<Vec<_>>());
    assert_eq!(server.counters().calls, 10_000);
}

#[test]
fn handlers_answer_fail_panic_and_are_unknown_as_in_a_blocking_server() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let methods = AsyncMethods::new()
        .method("double", async |number: usize| Ok(number * 2))
        .and_then(|methods| methods.method("fail", async |_: usize| Err::<(), _>(HandlerError::new("m", "C", "no"))))
        .and_then(|methods| methods.method("panic", async |_: usize| -> Result<(), HandlerError> { panic!("bang") }))
        .and_then(|methods| methods.raw("id", async |incoming| reply(&incoming.id.to_string())))
        .unwrap();
    let server = builder(&dir, runtime.handle().clone()).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    let ask = |method: &str| {
        let header = request(Kind::Call, 1);
        broker.deliver(0, &header, &body(method, 21));
        let answer = broker.answer(0);
        assert_eq!(answer.summary(), (Kind::Reply, 1, 1));
        (header.id, answer)
    };
    assert_eq!(ask("double").1.body, result(&42));
    assert_eq!(ask("oslo_rpc_server_ping").1.body, result(&"pong"));
    let (id, answer) = ask("id");
    assert_eq!(answer.body, result(&id.to_string()));
    for (method, text) in [("fail", "no"), ("panic", "panic panicked: bang"), ("other", "NoSuchMethod")] {
        let answer = ask(method).1;
        assert_eq!(answer.header.flags, Flags::FAILURE);
        assert!(answer.detail().contains(text), "{}", answer.detail());
    }
    broker.deliver(0, &request(Kind::Call, 1), b"no JSON");
    assert_eq!(broker.answer(0).header.reason, Some(Reason::Malformed));
    let mut unknown = request(Kind::Cast, 2);
    unknown.flags = Flags::NO_METHOD;
    broker.deliver(0, &unknown, &body("other", 1));
    assert_eq!(broker.answer(0).header.reason, Some(Reason::NoMethod));
    assert_eq!((server.counters().calls, server.counters().failed_calls, server.counters().refused_casts), (6, 3, 1));
}

#[test]
fn a_cast_is_acknowledged_at_once_and_keeps_its_place_while_it_runs() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let (methods, waiting, go) = waiting_methods();
    let _server = builder(&dir, runtime.handle().clone()).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    broker.deliver(0, &request(Kind::Cast, 1), &body("wait", 1));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 1, 0));
    until("it runs", || waiting.load(Ordering::SeqCst) == 1);
    assert!(broker.answer_within(0, SHORT).is_none());
    go.notify_waiters();
    assert_eq!(broker.answer(0).summary(), (Kind::Credit, 0, 1));
}

/// Keeps handlers, and runs none.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<BoxFuture<()>>>>);

impl Executor for Kept {
    fn spawn(&self, handler: BoxFuture<()>) {
        self.0.lock().unwrap().push(handler);
    }
}

#[test]
fn a_handler_that_its_executor_drops_did_not_run_or_may_have_run() {
    let dir = TempDir::new().unwrap();
    let kept = Kept::default();
    let (methods, ..) = waiting_methods();
    let server = builder(&dir, kept.clone()).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    let deliver = |kind, tag| {
        broker.deliver(0, &request(kind, tag), &body("wait", 1));
        until("it was begun", || !kept.0.lock().unwrap().is_empty());
    };
    deliver(Kind::Call, 1);
    kept.0.lock().unwrap().clear();
    assert_eq!(broker.answer(0).header.reason, Some(Reason::ShuttingDown));
    deliver(Kind::Call, 2);
    let polled = kept.0.lock().unwrap().pop();
    let mut polled = polled.unwrap();
    assert!(polled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(polled);
    assert_eq!(broker.answer(0).header.reason, Some(Reason::ServerLost));
    deliver(Kind::Cast, 3);
    kept.0.lock().unwrap().clear();
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 3, 0));
    assert_eq!(broker.answer(0).summary(), (Kind::Credit, 0, 1));
    assert_eq!(server.counters().failed_casts, 1);

    // One that did not run may come again and run. One that may have run does not run again.
    let mut repeated = request(Kind::Call, 4);
    repeated.flags = Flags::MAY_REPEAT;
    for tag in [4, 5] {
        repeated.tag = tag;
        broker.deliver(0, &repeated, &body("wait", 1));
        until("it was begun", || !kept.0.lock().unwrap().is_empty());
        let taken = kept.0.lock().unwrap().pop();
        let mut taken = taken.unwrap();
        if tag == 5 {
            assert!(taken.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(taken);
        let reason = if tag == 4 { Reason::ShuttingDown } else { Reason::ServerLost };
        assert_eq!(broker.answer(0).header.reason, Some(reason));
    }
    repeated.tag = 6;
    broker.deliver(0, &repeated, &body("wait", 1));
    assert_eq!(broker.answer(0).header.reason, Some(Reason::ServerLost));
    assert!(kept.0.lock().unwrap().is_empty());
}

#[test]
fn a_call_that_comes_again_runs_once_and_gets_the_same_answer() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let (methods, waiting, go) = waiting_methods();
    let methods = methods.method("double", async |number: usize| Ok(number * 2)).unwrap();
    let server = builder(&dir, runtime.handle().clone()).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    let mut call = request(Kind::Call, 1);
    call.flags = Flags::MAY_REPEAT;
    broker.deliver(0, &call, &body("wait", 7));
    until("it runs", || waiting.load(Ordering::SeqCst) == 1);
    call.tag = 2;
    broker.deliver(0, &call, &body("wait", 7));
    // What comes after it is answered, so it has been read.
    broker.deliver(0, &request(Kind::Call, 3), &body("double", 4));
    assert_eq!(broker.answer(0).header.tag, 3);
    assert_eq!(waiting.load(Ordering::SeqCst), 1);
    go.notify_waiters();
    let answers = [broker.answer(0), broker.answer(0)];
    assert_eq!(answers.each_ref().map(|answer| answer.header.tag), [1, 2]);
    call.tag = 4;
    broker.deliver(0, &call, &body("wait", 7));
    let late = broker.answer(0);
    assert_eq!(late.header.tag, 4);
    for answer in [&answers[0], &answers[1], &late] {
        assert_eq!(answer.body, result(&7));
    }
    assert_eq!(server.counters().calls, 2);
}

#[test]
fn a_reply_above_the_limit_is_too_large() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let methods = AsyncMethods::new().method("fill", async |size: usize| Ok("x".repeat(size))).unwrap();
    let _server = builder(&dir, runtime.handle().clone()).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    broker.deliver(0, &request(Kind::Call, 1), &body("fill", 16 << 20));
    let refusal = broker.answer(0);
    assert_eq!(refusal.header.reason, Some(Reason::TooLarge));
    assert!(refusal.detail().contains("fill") && refusal.detail().contains("16777216"), "{}", refusal.detail());
}

#[test]
fn a_handler_sees_that_its_call_is_cancelled() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let began = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&began);
    let methods = AsyncMethods::new()
        .raw("work", move |incoming| {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                while !incoming.is_cancelled() {
                    tokio::task::yield_now().await;
                }
                reply(&"seen")
            }
        })
        .unwrap();
    let _server = builder(&dir, runtime.handle().clone()).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    let sent = request(Kind::Call, 1);
    broker.deliver(0, &sent, &body("work", 1));
    until("it runs", || began.load(Ordering::SeqCst) == 1);
    let mut cancel = Header::new(Kind::Cancel, sent.id);
    cancel.tag = 1;
    broker.deliver(0, &cancel, &[]);
    assert_eq!(broker.answer(0).body, result(&"seen"));
}

#[test]
fn a_handler_that_fails_because_it_was_cancelled_has_no_answer_for_a_repeat() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let began = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&began);
    let methods = AsyncMethods::new().raw("work", move |incoming| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            while !incoming.is_cancelled() {
                tokio::task::yield_now().await;
            }
            Err(HandlerError::new("m", "C", "cancelled"))
        }
    });
    let _server = builder(&dir, runtime.handle().clone()).endpoint(methods.unwrap()).start().unwrap();
    let broker = Broker::start(dir.path());
    let mut call = request(Kind::Call, 1);
    call.flags = Flags::MAY_REPEAT;
    broker.deliver(0, &call, &body("work", 1));
    until("it runs", || began.load(Ordering::SeqCst) == 1);
    let mut cancel = Header::new(Kind::Cancel, call.id);
    cancel.tag = 1;
    broker.deliver(0, &cancel, &[]);
    assert_eq!(broker.answer(0).header.flags, Flags::FAILURE);
    call.tag = 2;
    broker.deliver(0, &call, &body("work", 1));
    let refusal = broker.answer(0);
    assert_eq!((refusal.header.tag, refusal.header.reason), (2, Some(Reason::ServerLost)));
    assert_eq!(began.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stop_waits_for_handlers_and_a_handler_may_stop_its_server() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let (methods, waiting, go) = waiting_methods();
    let slot: Arc<Mutex<Option<Arc<AsyncRpcServer>>>> = Arc::default();
    let of_handler = Arc::clone(&slot);
    let methods = methods
        .method("stop", move |_: usize| {
            let server = of_handler.lock().unwrap().clone();
            async move {
                if let Some(server) = server {
                    server.stop().await?;
                }
                Ok("stops")
            }
        })
        .unwrap();
    let server = Arc::new(builder(&dir, runtime.handle().clone()).endpoint(methods).start().unwrap());
    *slot.lock().unwrap() = Some(Arc::clone(&server));
    let mut broker = Broker::start(dir.path());
    broker.deliver(0, &request(Kind::Call, 1), &body("wait", 5));
    until("it runs", || waiting.load(Ordering::SeqCst) == 1);
    broker.deliver(0, &request(Kind::Call, 2), &body("stop", 0));
    assert_eq!(broker.answer(0).body, result(&"stops"));
    let stopping = runtime.spawn(async move { server.stop().await });
    go.notify_waiters();
    assert_eq!(broker.answer(0).body, result(&5));
    assert!(broker.release().is_empty());
    runtime.block_on(stopping).unwrap().unwrap();
}

#[test]
fn a_stop_that_comes_too_early_names_the_handlers() {
    let (dir, runtime) = (TempDir::new().unwrap(), runtime());
    let (methods, waiting, _go) = waiting_methods();
    let mut config = Config::default();
    config.drain_timeout = SHORT;
    let server = builder(&dir, runtime.handle().clone()).config(config).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    runtime.block_on(server.ready(support::LONG)).unwrap();
    broker.deliver(0, &request(Kind::Call, 1), &body("wait", 1));
    until("it runs", || waiting.load(Ordering::SeqCst) == 1);
    match runtime.block_on(server.stop()) {
        Err(ServerError::Unfinished { handlers, .. }) => assert_eq!(handlers, ["wait"]),
        other => panic!("{other:?}"),
    }
}

/// An executor that panics.
struct Broken;

impl Executor for Broken {
    fn spawn(&self, _: BoxFuture<()>) {
        panic!("no more threads");
    }
}

#[test]
fn a_server_goes_on_although_its_executor_panics() {
    let dir = TempDir::new().unwrap();
    let (methods, ..) = waiting_methods();
    let _server = builder(&dir, Broken).endpoint(methods).start().unwrap();
    let broker = Broker::start(dir.path());
    for tag in 1..=3 {
        broker.deliver(0, &request(Kind::Call, tag), &body("wait", 1));
        assert_eq!(broker.answer(0).header.reason, Some(Reason::ShuttingDown));
    }
}
