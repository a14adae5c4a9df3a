//! A listener that stops loses nothing that it has accepted.

mod support;

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use support::{Broker, LONG, SHORT, bind, body, delivery, receive, until};
use tempfile::TempDir;
use zmqv2_proto::Kind;
use zmqv2_server::{Config, Notice, NotificationListener, NotificationListenerBuilder, Priority, ServerError, Verdict};

fn builder(dir: &TempDir) -> NotificationListenerBuilder {
    NotificationListener::builder().topic("t").unwrap().ipc_dir(dir.path()).workers(1)
}

/// A handler, a message for each run that begins, and the verdicts that it waits for.
fn waiting_handler() -> (impl Fn(&Notice) -> Verdict + Send + Sync + 'static, Receiver<()>, Sender<Verdict>) {
    let ((ran, runs), (verdict, verdicts)) = (unbounded(), unbounded());
    let handler = move |_: &Notice| {
        ran.send(()).unwrap();
        verdicts.recv_timeout(LONG).unwrap()
    };
    (handler, runs, verdict)
}

/// Stops it in a thread, which returns the result.
fn stop(listener: NotificationListener) -> JoinHandle<Result<(), ServerError>> {
    std::thread::spawn(move || listener.stop())
}

fn deliver(broker: &Broker, tag: u64) {
    broker.deliver(0, &delivery(tag), &body(Priority::Info, "e"));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, tag, 0));
}

#[test]
fn a_batch_that_is_not_full_runs_when_the_listener_stops() {
    let dir = TempDir::new().unwrap();
    let (ran, runs) = unbounded();
    let listener = builder(&dir).batch(10, Duration::MAX);
    let listener = listener.on_batch(Priority::Info, move |batch| ran.send(batch.len()).unwrap()).start().unwrap();
    let mut broker = Broker::start(dir.path());
    for tag in [1, 2] {
        deliver(&broker, tag);
    }
    let stopping = stop(listener);
    assert_eq!(runs.recv_timeout(LONG), Ok(2));
    let mut reports: Vec<_> = (0..3).map(|_| broker.next().summary()).collect();
    reports.sort_by_key(|(_, tag, _)| *tag);
    assert_eq!(reports, [(Kind::Withdraw, 0, 0), (Kind::Handled, 1, 1), (Kind::Handled, 2, 1)]);
    // The broker sent one more before it had read the withdrawal.
    deliver(&broker, 3);
    assert_eq!((runs.recv_timeout(LONG), broker.next().summary()), (Ok(1), (Kind::Handled, 3, 1)));
    assert!(!stopping.is_finished());
    broker.withdrawn();
    stopping.join().unwrap().unwrap();
}

#[test]
fn a_running_notification_is_reported_even_after_the_broker_released_the_listener() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    deliver(&broker, 1);
    runs.recv_timeout(LONG).unwrap();
    let stopping = stop(listener);
    assert!(broker.release().is_empty());
    assert!(broker.next_within(SHORT).is_none() && !stopping.is_finished());
    verdict.send(Verdict::Requeue).unwrap();
    let back = broker.next();
    assert_eq!((back.summary(), back.requeue()), ((Kind::Handled, 1, 1), true));
    stopping.join().unwrap().unwrap();
}

#[test]
fn a_requeued_notification_waits_for_the_next_broker() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let broker = Broker::start(dir.path());
    listener.wait_ready(LONG).unwrap();
    deliver(&broker, 1);
    runs.recv_timeout(LONG).unwrap();
    broker.die();
    until("the broker is gone", || !listener.is_ready());
    let stopping = stop(listener);
    verdict.send(Verdict::Requeue).unwrap();
    // The listener may have sent a registration before it stopped.
    let (front, _transport) = bind(dir.path());
    let back = loop {
        let (_, got) = receive(&front, LONG).expect("what was requeued");
        if got.header.kind == Kind::Handled {
            break got;
        }
    };
    assert!(back.requeue() && back.body == body(Priority::Info, "e"));
    stopping.join().unwrap().unwrap();
}

#[test]
fn without_a_broker_and_without_requeued_notifications_a_listener_stops_at_once() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let broker = Broker::start(dir.path());
    listener.wait_ready(LONG).unwrap();
    deliver(&broker, 1);
    runs.recv_timeout(LONG).unwrap();
    broker.die();
    until("the broker is gone", || !listener.is_ready());
    let stopping = stop(listener);
    assert!(!stopping.is_finished());
    verdict.send(Verdict::Handled).unwrap();
    let start = support::now();
    stopping.join().unwrap().unwrap();
    assert!(start.elapsed() < LONG, "the time to drain is 30 s");
}

#[test]
fn a_stop_does_not_wait_for_a_handler_that_never_ends() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let mut config = Config::default();
    config.drain_timeout = Duration::from_millis(200);
    let listener = builder(&dir).config(config).on(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    deliver(&broker, 1);
    runs.recv_timeout(LONG).unwrap();
    let stopping = stop(listener);
    assert!(broker.release().is_empty());
    let error = stopping.join().unwrap().unwrap_err();
    assert!(matches!(error, ServerError::Unfinished { workers: 1, .. }), "{error}");
    verdict.send(Verdict::Handled).unwrap();
}
