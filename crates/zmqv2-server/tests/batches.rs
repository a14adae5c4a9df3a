//! Batches of notifications: when they run, and how each notification ends.

mod support;

use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use support::{Broker, LONG, SHORT, body, delivery, now};
use tempfile::TempDir;
use zmqv2_proto::{Kind, Priority, Reason, Ttl};
use zmqv2_server::{
    Handler, Notice, NotificationFilter, NotificationListener, NotificationListenerBuilder, ServerError, Verdict,
};

fn builder(dir: &TempDir, size: usize, timeout: Duration) -> NotificationListenerBuilder {
    NotificationListener::builder().topic("t").unwrap().ipc_dir(dir.path()).batch(size, timeout)
}

fn events(batch: &[&Notice]) -> Vec<String> {
    batch.iter().map(|notice| notice.event_type().to_owned()).collect()
}

/// A handler, and the events of each batch that it gets.
fn recording_handler() -> (impl Fn(&[&Notice]) + Send + Sync + 'static, Receiver<Vec<String>>) {
    let (ran, runs) = unbounded();
    (move |batch: &[&Notice]| ran.send(events(batch)).unwrap(), runs)
}

/// Delivers notifications whose event is their tag, and waits for the acknowledgements.
fn deliver(broker: &Broker, tags: impl IntoIterator<Item = u64>) {
    for tag in tags {
        broker.deliver(0, &delivery(tag), &body(Priority::Info, &tag.to_string()));
        assert_eq!(broker.answer(0).summary(), (Kind::Ack, tag, 0));
    }
}

/// The tags of the next reports of the listener, and whether the notification is requeued.
fn ends(broker: &mut Broker, count: usize) -> Vec<(u64, bool)> {
    let mut next = || {
        let got = broker.next();
        assert_eq!((got.header.kind, got.header.count), (Kind::Handled, 1));
        (got.header.tag, got.requeue())
    };
    (0..count).map(|_| next()).collect()
}

fn stop(listener: NotificationListener, mut broker: Broker) {
    let stopping = std::thread::spawn(move || listener.stop().unwrap());
    assert!(broker.release().is_empty());
    stopping.join().unwrap();
}

#[test]
fn a_batch_runs_when_it_is_full() {
    let dir = TempDir::new().unwrap();
    let (handler, runs) = recording_handler();
    let listener = builder(&dir, 3, Duration::MAX).on_batch(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    assert_eq!((broker.registration.workers, broker.registration.credit), (1, 3));
    deliver(&broker, 1..=2);
    assert!(broker.next_within(SHORT).is_none() && runs.is_empty());
    deliver(&broker, 3..=6);
    assert_eq!(ends(&mut broker, 6), [1, 2, 3, 4, 5, 6].map(|tag| (tag, false)));
    assert_eq!(runs.try_iter().collect::<Vec<_>>(), [["1", "2", "3"], ["4", "5", "6"]]);
    stop(listener, broker);
}

#[test]
fn a_batch_that_is_not_full_runs_after_its_timeout() {
    let dir = TempDir::new().unwrap();
    let (handler, runs) = recording_handler();
    let timeout = Duration::from_millis(800);
    let listener = builder(&dir, 10, timeout).on_batch(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    for round in [0, 10] {
        let start = now();
        deliver(&broker, round + 1..=round + 3);
        assert_eq!(ends(&mut broker, 3).len(), 3);
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        assert_eq!(runs.try_iter().map(|batch| batch.len()).collect::<Vec<_>>(), [3]);
    }
    stop(listener, broker);
}

#[test]
fn a_verdict_is_for_the_whole_batch_or_for_each_notification() {
    let dir = TempDir::new().unwrap();
    let all =
        |batch: &[&Notice]| if events(batch).contains(&"2".to_owned()) { Verdict::Requeue } else { Verdict::Handled };
    let each = |batch: &[&Notice]| -> Vec<Verdict> {
        // A batch with "5" gets one verdict too few. That is an error, which counts as handled.
        let short = usize::from(events(batch).contains(&"5".to_owned()));
        let again = |notice: &&Notice| if notice.event_type() == "4" { Verdict::Requeue } else { Verdict::Handled };
        batch[short..].iter().map(again).collect()
    };
    let listener = builder(&dir, 2, Duration::MAX).on_batch(Priority::Info, all).on_batch(Priority::Info, each);
    let listener = listener.start().unwrap();
    let mut broker = Broker::start(dir.path());
    deliver(&broker, 1..=6);
    let expected = [(1, true), (2, true), (3, false), (4, true), (5, false), (6, false)];
    assert_eq!(ends(&mut broker, 6), expected);
    stop(listener, broker);
}

#[test]
fn an_endpoint_gets_the_notifications_of_a_batch_that_it_wants() {
    let dir = TempDir::new().unwrap();
    let ((whole, wholes), (part, parts), (ran, runs)) = (recording_handler(), recording_handler(), unbounded());
    let odd = NotificationFilter::new().event_type("1|3").unwrap();
    let one = move |notice: &Notice| {
        ran.send(notice.event_type().to_owned()).unwrap();
        assert!(notice.event_type() != "2", "bang");
        Verdict::Requeue
    };
    let never = |_: &[&Notice]| -> Verdict { panic!("it wants nothing of this") };
    let listener = builder(&dir, 4, Duration::MAX).on_batch(Priority::Info, whole).on(Priority::Info, one);
    let listener = listener.batch_endpoint(Handler::batch([Priority::Info, Priority::Warn], part).filter(odd));
    let listener = listener.on_batch(Priority::Error, never).start().unwrap();
    let mut broker = Broker::start(dir.path());
    deliver(&broker, 1..=3);
    broker.deliver(0, &delivery(4), &body(Priority::Warn, "4"));
    assert_eq!(ends(&mut broker, 4), [(1, true), (2, false), (3, true), (4, false)]);
    assert_eq!(wholes.try_iter().collect::<Vec<_>>(), [["1", "2", "3"]]);
    assert_eq!(parts.try_iter().collect::<Vec<_>>(), [["1", "3"]]);
    // They run one by one: the panic of the second does not stop the third.
    assert_eq!(runs.try_iter().collect::<Vec<_>>(), ["1", "2", "3"]);
    stop(listener, broker);
}

#[test]
fn refused_and_repeated_notifications_take_no_place_in_a_batch() {
    let dir = TempDir::new().unwrap();
    let (handler, runs) = recording_handler();
    let listener = builder(&dir, 2, Duration::MAX).on_batch(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    let (mut first, mut expired) = (delivery(1), delivery(2));
    broker.deliver(0, &first, &body(Priority::Info, "a"));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 1, 0));
    expired.ttl = Ttl::ZERO;
    broker.deliver(0, &expired, &body(Priority::Info, "b"));
    let refusal = broker.answer(0);
    assert_eq!((refusal.summary(), refusal.header.reason), ((Kind::Refusal, 2, 1), Some(Reason::Expired)));
    // The first comes again while it waits in the batch, as after a restart of the broker.
    first.tag = 3;
    broker.deliver(0, &first, &body(Priority::Info, "a"));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 3, 0));
    deliver(&broker, [4]);
    assert_eq!(ends(&mut broker, 3), [(1, false), (3, false), (4, false)]);
    assert_eq!(runs.recv_timeout(LONG).unwrap(), ["a", "4"]);
    stop(listener, broker);
}

#[test]
fn batches_have_a_size_within_bounds() {
    let dir = TempDir::new().unwrap();
    for (size, workers) in [(0, 1), (8193, 1), (2049, 4)] {
        let builder = builder(&dir, size, Duration::MAX).workers(workers).on(Priority::Info, |_| ());
        let error = builder.start().unwrap_err();
        assert!(matches!(error, ServerError::Batch { size: s, .. } if s == size), "{error}");
        assert!(error.to_string().contains("8192"), "{error}");
    }
}
