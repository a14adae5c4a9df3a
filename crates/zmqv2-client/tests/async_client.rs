//! The async client on one thread: nothing stops the other tasks of the executor.

mod support;

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use support::{Act, Broker, Seen, builder, now, punctual};
use tokio::runtime::{Builder, Runtime};
use zmqv2_client::{AsyncRpcClient, CallError, RpcClient, SendError, WhenFull};
use zmqv2_matchmaker::{Health, Matchmaker, MatchmakerError, PlacedNode, Placement, Refreshed, Registration};
use zmqv2_proto::{Kind, Node, RequestContext, Target, TopicKey};

const LONG: Duration = Duration::from_secs(30);
/// Other tasks run so often while a future waits.
const TICKS: usize = 50;

fn context() -> RequestContext {
    RequestContext::new()
}

/// One thread, and no timers.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Lets the other tasks run.
async fn ticks() {
    for _ in 0..TICKS {
        tokio::task::yield_now().await;
    }
}

fn answer(seen: &Seen) -> Act {
    match seen.header.kind {
        Kind::Fanout => seen.acks("n1", &["s1"], 0),
        Kind::Notify => seen.ack(),
        _ => seen.good(),
    }
}

/// Holds the method `hold` until somebody calls `release`.
fn holding_broker() -> Broker {
    Broker::start(|seen| match seen.request.method.as_str() {
        "hold" => Act::Hold,
        "release" => Act::Both(Box::new(Act::ReleaseHeld), Box::new(seen.good())),
        _ => answer(seen),
    })
}

/// A directory that answers its first question about a topic when it is told to.
#[derive(Debug)]
struct Hanging {
    node: Node,
    go: Mutex<mpsc::Receiver<()>>,
    known: Mutex<BTreeSet<TopicKey>>,
}

impl Hanging {
    fn at(node: Node) -> (Arc<Self>, mpsc::Sender<()>) {
        let (tell, go) = mpsc::channel();
        (Arc::new(Self { node, go: Mutex::new(go), known: Mutex::default() }), tell)
    }

    fn list(&self) -> Arc<Placement> {
        Arc::new(Placement::new(vec![PlacedNode::unlisted(self.node.clone())]))
    }
}

impl Matchmaker for Hanging {
    fn name(&self) -> &'static str {
        "hanging"
    }
    fn resolve_all(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        if self.known(key).is_none() {
            let _ = self.go.lock().unwrap().recv();
            self.known.lock().unwrap().insert(key.clone());
        }
        Ok(self.list())
    }
    fn known(&self, key: &TopicKey) -> Option<Arc<Placement>> {
        self.known.lock().unwrap().contains(key).then(|| self.list())
    }
    fn register(&self, _: &Registration, _: Duration) -> Result<(), MatchmakerError> {
        Ok(())
    }
    fn withdraw(&self, _: &Registration) -> Result<(), MatchmakerError> {
        Ok(())
    }
    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        Ok(Refreshed::Unchanged)
    }
    fn generation(&self) -> u64 {
        0
    }
    fn health(&self) -> Health {
        Health::Ok
    }
}

/// Polls a future once.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets the other tasks run until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let by = now() + LONG;
    while !is_so() {
        assert!(now() < by, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// A client with room for one message, which is taken until `release` is called.
async fn full(broker: &Broker) -> (AsyncRpcClient, tokio::task::JoinHandle<Result<u8, CallError>>) {
    let client = builder([broker.node("n1")]).max_outstanding(1).build().unwrap().asynchronous();
    let before = broker.requests();
    let held = tokio::spawn(client.call::<u8>(&context(), "hold", &1));
    until("the broker has it", || broker.requests() > before).await;
    (client, held)
}

async fn release(broker: &Broker) {
    let other = builder([broker.node("n1")]).build().unwrap().asynchronous();
    assert_eq!(other.call::<u8>(&context(), "release", &0).await.unwrap(), 0);
}

#[test]
fn every_verb_gives_its_outcome_and_a_future_borrows_nothing() {
    fn spawnable<F: Future + Send + Unpin + 'static>(future: F) -> F {
        future
    }
    let broker = Broker::start(answer);
    let client = builder([broker.node("n1")]).build().unwrap();
    let notifier = client.notifier("p").topics(["a", "b"]).unwrap().asynchronous();
    let client = client.asynchronous();
    runtime().block_on(async {
        let arguments = "x".to_owned();
        let call = spawnable(client.call::<String>(&context(), "m", &arguments));
        drop(arguments);
        assert_eq!(call.await.unwrap(), "x");
        let answered = client.call_detailed::<u8>(&context(), "m", &7).await.unwrap();
        assert_eq!((answered.value, answered.server.as_str()), (7, "s1"));
        let cast = spawnable(client.cast(&context(), "m", &7)).await.unwrap();
        assert!(cast.await.is_acked());
        let fanout = spawnable(client.fanout(&context(), "m", &7)).await.unwrap();
        assert!(fanout.await.all_acked());
        let notified = spawnable(notifier.info(&context(), "e", &7)).await.unwrap().await;
        assert_eq!((notified.acked(), notified.all_taken_over()), (2, true));
    });
    let counters = client.blocking().counters();
    assert_eq!((counters.accepted, counters.replied, counters.acked, counters.open), (6, 2, 4, 0), "{counters:?}");
}

#[test]
fn a_thousand_calls_of_one_task() {
    let mut seen = 0;
    let broker = Broker::start(move |_| {
        seen += 1;
        if seen % 1_000 == 0 { Act::Release } else { Act::Hold }
    });
    let client = builder([broker.node("n1")]).build().unwrap().asynchronous();
    runtime().block_on(async {
        let mut calls: Vec<_> = (0..1_000).map(|number| client.call::<usize>(&context(), "m", &number)).collect();
        for call in &mut calls {
            assert!(poll_once(pin!(call)).is_pending());
        }
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), number);
        }
    });
    assert_eq!(broker.connections(), 1);
}

#[test]
fn a_first_lookup_that_hangs_stops_no_other_task() {
    let broker = Broker::start(answer);
    let (directory, go) = Hanging::at(broker.node("n1"));
    let client = builder([]).matchmaker(directory).build().unwrap();
    let (notifier, client) = (client.notifier("p").asynchronous(), client.asynchronous());
    runtime().block_on(async {
        // Only the other task lets the directory answer. If the first one blocked, that would never
        // happen, and the messages would end as `DirectorySilent`.
        let call = tokio::spawn(client.call::<u8>(&context(), "m", &7));
        ticks().await;
        assert!(!call.is_finished());
        go.send(()).unwrap();
        assert_eq!(call.await.unwrap().unwrap(), 7);

        for topic in ["cast", "fanout", "notify"] {
            let client = client.blocking().prepare().topic(topic).unwrap().asynchronous();
            let notifier = notifier.blocking().prepare().topics([topic]).unwrap().asynchronous();
            let sent = tokio::spawn(async move {
                match topic {
                    "cast" => client.cast(&context(), "m", &7).await.unwrap().await.is_acked(),
                    "fanout" => client.fanout(&context(), "m", &7).await.unwrap().await.all_acked(),
                    _ => notifier.info(&context(), "e", &7).await.unwrap().await.all_taken_over(),
                }
            });
            ticks().await;
            assert!(!sent.is_finished(), "{topic}");
            go.send(()).unwrap();
            assert!(sent.await.unwrap(), "{topic}");
        }
    });
}

#[test]
fn a_client_that_is_full_stops_no_other_task() {
    let broker = holding_broker();
    runtime().block_on(async {
        let (client, held) = full(&broker).await;
        let notifier = client.blocking().notifier("p").asynchronous();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move {
                let call = client.call::<u8>(&context(), "m", &7).await.unwrap();
                let cast = client.cast(&context(), "m", &8).await.unwrap().await.is_acked();
                (call, cast)
            }
        });
        let fanout = tokio::spawn(client.fanout(&context(), "m", &9));
        let notified = tokio::spawn(notifier.info(&context(), "e", &9));
        ticks().await;
        assert!(!waiting.is_finished() && !fanout.is_finished() && !notified.is_finished());
        assert_eq!(broker.requests(), 1);
        release(&broker).await;
        assert_eq!(held.await.unwrap().unwrap(), 1);
        assert_eq!(waiting.await.unwrap(), (7, true));
        assert!(fanout.await.unwrap().unwrap().await.all_acked());
        assert!(notified.await.unwrap().unwrap().await.all_taken_over());
    });
}

#[test]
fn tasks_that_wait_for_room_get_it_in_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen_order = Arc::clone(&order);
    let broker = Broker::start(move |seen| match seen.request.method.as_str() {
        "hold" => Act::Hold,
        "release" => Act::Both(Box::new(Act::ReleaseHeld), Box::new(seen.good())),
        _ => {
            seen_order.lock().unwrap().push(seen.request.args::<usize>().unwrap());
            seen.good()
        }
    });
    runtime().block_on(async {
        let (client, held) = full(&broker).await;
        let casts: Vec<_> = (0..100).map(|number| tokio::spawn(client.cast(&context(), "m", &number))).collect();
        ticks().await;
        release(&broker).await;
        assert_eq!(held.await.unwrap().unwrap(), 1);
        for cast in casts {
            assert!(cast.await.unwrap().unwrap().await.is_acked());
        }
    });
    assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..100));
}

#[test]
fn a_dropped_future_leaves_no_trace() {
    let broker = holding_broker();
    runtime().block_on(async {
        let (client, held) = full(&broker).await;
        let mut waiting: Vec<_> = (0..10).map(|number| client.call::<u8>(&context(), "m", &number)).collect();
        for call in &mut waiting {
            assert!(poll_once(pin!(call)).is_pending());
        }
        let last = waiting.pop().unwrap();
        drop(waiting);
        release(&broker).await;
        assert_eq!(held.await.unwrap().unwrap(), 1);
        assert_eq!(last.await.unwrap(), 9, "it is the first now");
        // One that has room and does not know it yet gives it back.
        let (client, held) = full(&broker).await;
        let mut granted = client.call::<u8>(&context(), "m", &1);
        assert!(poll_once(pin!(&mut granted)).is_pending());
        release(&broker).await;
        assert_eq!(held.await.unwrap().unwrap(), 1);
        drop(granted);
        assert_eq!(client.call::<u8>(&context(), "m", &2).await.unwrap(), 2);
        assert_eq!(client.blocking().counters().open, 0);
    });
    // Those that were dropped never left: two pairs of held and release, and two calls.
    assert_eq!(broker.requests(), 6);
}

#[test]
fn a_future_that_is_dropped_gives_its_call_up() {
    let broker = holding_broker();
    let client = builder([broker.node("n1")]).build().unwrap().asynchronous();
    runtime().block_on(async {
        let call = tokio::spawn(client.call::<u8>(&context(), "hold", &1));
        until("the broker has it", || broker.requests() == 1).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        until("the call has ended", || client.blocking().counters().open == 0).await;
    });
    let counters = client.blocking().counters();
    assert_eq!((counters.accepted, counters.unacknowledged), (1, 1), "{counters:?}");
}

#[test]
fn a_timeout_is_kept_without_timers_of_the_executor() {
    let timeout = Duration::from_millis(100);
    let broker = holding_broker();
    let runtime = runtime();
    let (client, _held) = runtime.block_on(full(&broker));
    let brief = client.blocking().prepare().timeout(timeout).asynchronous();
    let (error, _) = punctual(timeout, || runtime.block_on(brief.call::<u8>(&context(), "m", &1)).unwrap_err());
    assert!(matches!(error, CallError::NotSent(SendError::Full { open: 1, .. })), "{error}");
    let (error, _) = punctual(timeout, || runtime.block_on(brief.cast(&context(), "m", &1)).unwrap_err());
    assert!(matches!(error, SendError::Full { .. }), "{error}");

    let (directory, _go) = Hanging::at(broker.node("n1"));
    let silent = builder([]).matchmaker(directory).build().unwrap();
    let brief = silent.prepare().timeout(timeout).asynchronous();
    let (error, _) = punctual(timeout, || runtime.block_on(brief.call::<u8>(&context(), "m", &1)).unwrap_err());
    assert!(matches!(error, CallError::NotSent(SendError::DirectorySilent { .. })), "{error}");
    let (error, _) = punctual(timeout, || runtime.block_on(brief.fanout(&context(), "m", &1)).unwrap_err());
    assert!(matches!(error, SendError::DirectorySilent { .. }), "{error}");
}

#[test]
fn a_full_client_that_refuses_does_so_at_once() {
    let broker = holding_broker();
    let client = builder([broker.node("n1")]).max_outstanding(1).when_full(WhenFull::Refuse).build().unwrap();
    let client = client.asynchronous();
    runtime().block_on(async {
        let mut held = pin!(client.call::<u8>(&context(), "hold", &1));
        assert!(poll_once(held.as_mut()).is_pending());
        for error in [
            poll_once(pin!(client.cast(&context(), "m", &2))).map(Result::unwrap_err),
            poll_once(pin!(client.fanout(&context(), "m", &2))).map(Result::unwrap_err),
        ] {
            assert!(matches!(error, Poll::Ready(SendError::Full { open: 1, .. })), "{error:?}");
        }
    });
}

#[test]
fn closing_ends_every_future_that_waits() {
    let broker = holding_broker();
    runtime().block_on(async {
        let (client, _held) = full(&broker).await;
        let notifier = client.blocking().notifier("p").asynchronous();
        let call = tokio::spawn(client.call::<u8>(&context(), "m", &1));
        let notified = tokio::spawn(notifier.info(&context(), "e", &1));
        ticks().await;
        let (directory, _go) = Hanging::at(broker.node("n1"));
        let looking = builder([]).matchmaker(directory).build().unwrap().asynchronous();
        let lookup = tokio::spawn(looking.cast(&context(), "m", &1));
        ticks().await;
        for client in [client, looking] {
            std::thread::spawn(move || client.blocking().close(Duration::ZERO)).join().unwrap();
        }
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::NotSent(SendError::Closed { .. })), "{error}");
        for error in [notified.await.unwrap().unwrap_err(), lookup.await.unwrap().unwrap_err()] {
            assert!(matches!(error, SendError::Closed { .. }), "{error}");
        }
    });
}

#[test]
fn a_future_may_be_polled_by_the_thread_that_wakes_it() {
    // An executor that polls at once, on the thread that wakes: here the I/O thread.
    let broker = holding_broker();
    let (client, held) = runtime().block_on(async {
        let (client, held) = full(&broker).await;
        (client, held)
    });
    drop(held);
    let (done, result) = mpsc::channel();
    let waiting = client.clone();
    std::thread::spawn(move || {
        futures_inline(async move {
            let _ = done.send(waiting.call::<u8>(&context(), "m", &7).await);
        });
    });
    runtime().block_on(release(&broker));
    assert_eq!(result.recv_timeout(LONG).unwrap().unwrap(), 7);
}

/// Runs a future: each wake polls it at once.
fn futures_inline(future: impl Future<Output = ()> + Send + 'static) {
    struct Inline(Mutex<Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>>);
    impl std::task::Wake for Inline {
        fn wake(self: Arc<Self>) {
            let waker = Waker::from(Arc::clone(&self));
            let mut future = self.0.lock().unwrap();
            let ended =
                future.as_mut().is_some_and(|future| future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
            if ended {
                *future = None;
            }
        }
    }
    std::task::Wake::wake(Arc::new(Inline(Mutex::new(Some(Box::pin(future))))));
}

#[test]
fn what_cannot_be_encoded_is_an_error_of_the_first_poll() {
    let client = RpcClient::builder(Target::topic("t").unwrap()).matchmaker(support::Fixed::at([])).build().unwrap();
    let client = client.asynchronous();
    runtime().block_on(async {
        let error = client.call::<u8>(&context(), "", &1).await.unwrap_err();
        assert!(matches!(error, CallError::NotSent(SendError::InvalidName(_))), "{error}");
        let mut again = client.cast(&context(), "", &1);
        assert!(poll_once(pin!(&mut again)).is_ready());
        assert!(poll_once(pin!(&mut again)).is_pending(), "it gives its result once");
        poll_fn(|_| Poll::Ready(())).await;
    });
}
