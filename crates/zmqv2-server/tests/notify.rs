//! A listener that takes notifications one by one.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use support::{Broker, LONG, SHORT, body, delivery, request, until};
use tempfile::TempDir;
use zmqv2_proto::{Kind, MessageId, Reason, RequestContext, TopicKey, Ttl};
use zmqv2_server::{
    Config, Handler, Notice, Notification, NotificationFilter, NotificationListener, NotificationListenerBuilder,
    Priority, ServerError, Target, Verdict,
};

fn builder(dir: &TempDir) -> NotificationListenerBuilder {
    NotificationListener::builder().topic("t").unwrap().ipc_dir(dir.path()).workers(1)
}

/// A handler, the events that it gets, and the verdicts that it waits for.
fn waiting_handler() -> (impl Fn(&Notice) -> Verdict + Send + Sync + 'static, Receiver<String>, Sender<Verdict>) {
    let ((ran, runs), (verdict, verdicts)) = (unbounded(), unbounded());
    let handler = move |notice: &Notice| {
        ran.send(notice.event_type().to_owned()).unwrap();
        verdicts.recv_timeout(LONG).unwrap()
    };
    (handler, runs, verdict)
}

/// A handler, and the events that it gets.
fn recording_handler() -> (impl Fn(&Notice) + Send + Sync + 'static, Receiver<String>) {
    let (ran, runs) = unbounded();
    (move |notice: &Notice| ran.send(notice.event_type().to_owned()).unwrap(), runs)
}

fn stop(listener: NotificationListener, mut broker: Broker) {
    let stopping = std::thread::spawn(move || listener.stop().unwrap());
    assert!(broker.release().is_empty());
    stopping.join().unwrap();
}

#[test]
fn one_registration_stands_for_all_topics_and_priorities() {
    let dir = TempDir::new().unwrap();
    let mut config = Config::default();
    config.control_exchange = "nova".parse().unwrap();
    let builder = NotificationListener::builder().topic("a").unwrap();
    let builder = builder.target(Target::topic("b").unwrap().with_exchange("openstack").unwrap());
    let builder = builder.pool("audit").unwrap().config(config).ipc_dir(dir.path()).workers(2);
    let builder = builder.on([Priority::Error, Priority::Info], |_| ()).on(Priority::Info, |_| ());
    let listener = builder.topic("a").unwrap().start().unwrap();
    let broker = Broker::start(dir.path());
    let (header, registration) = (&broker.header, &broker.registration);
    assert_eq!(header.key.as_ref().unwrap().as_str(), "nova/a.info");
    assert_eq!(header.server.as_ref().unwrap().as_str(), "audit");
    let also: Vec<_> = registration.also.iter().map(TopicKey::as_str).collect();
    assert_eq!(also, ["nova/a.error", "openstack/b.info", "openstack/b.error"]);
    assert_eq!((registration.workers, registration.credit), (2, 1));
    assert_eq!((listener.keys().len(), listener.pool().as_str()), (4, "audit"));
    listener.wait_ready(LONG).unwrap();
    stop(listener, broker);
}

#[test]
fn a_notification_is_acknowledged_then_run_then_handled() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    let header = delivery(5);
    broker.deliver(0, &header, &body(Priority::Info, "e"));
    let ack = broker.answer(0);
    assert_eq!((ack.summary(), ack.header.id), ((Kind::Ack, 5, 0), header.id));
    assert_eq!(ack.header.server.unwrap().as_str(), "default");
    assert_eq!(runs.recv_timeout(LONG).unwrap(), "e");
    assert!(broker.next_within(SHORT).is_none());
    verdict.send(Verdict::Handled).unwrap();
    let handled = broker.next();
    assert_eq!((handled.summary(), handled.requeue(), handled.body.len()), ((Kind::Handled, 5, 1), false, 0));
    assert_eq!((handled.header.id, &handled.header.key), (header.id, &header.key));
    assert_eq!(handled.header.server.unwrap().as_str(), "default");
    stop(listener, broker);
}

#[test]
fn a_requeued_notification_goes_back_with_its_body_and_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let (ran, runs) = unbounded();
    let again = move |notice: &Notice| {
        ran.send(notice.delivery).unwrap();
        if notice.delivery == 1 { Verdict::Requeue } else { Verdict::Handled }
    };
    let listener = builder(&dir).on(Priority::Info, again).start().unwrap();
    let mut broker = Broker::start(dir.path());
    let (mut header, sent) = (delivery(1), body(Priority::Info, "e"));
    broker.deliver(0, &header, &sent);
    broker.answer(0);
    let back = broker.next();
    assert_eq!((back.summary(), back.requeue(), &back.body), ((Kind::Handled, 1, 1), true, &sent));
    assert_eq!((back.header.id, &back.header.key), (header.id, &header.key));
    assert_eq!(back.header.server.unwrap().as_str(), "default");
    let left = back.header.ttl.as_millis();
    assert!((30_000..=60_000).contains(&left), "{left}");
    (header.tag, header.count) = (2, 2);
    broker.deliver(0, &header, &sent);
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 2, 0));
    let handled = broker.next();
    assert_eq!((handled.summary(), handled.requeue()), ((Kind::Handled, 2, 1), false));
    assert_eq!(runs.try_iter().collect::<Vec<_>>(), [1, 2]);
    stop(listener, broker);
}

#[test]
fn a_handled_notification_does_not_run_again() {
    let dir = TempDir::new().unwrap();
    let (handler, runs) = recording_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    let mut header = delivery(1);
    for tag in [1, 2, 3] {
        header.tag = tag;
        broker.deliver(0, &header, &body(Priority::Info, "e"));
        assert_eq!(broker.answer(0).summary(), (Kind::Ack, tag, 0));
        assert_eq!(broker.next().summary(), (Kind::Handled, tag, 1));
    }
    assert_eq!(runs.len(), 1);
    stop(listener, broker);
}

#[test]
fn a_delivery_that_comes_while_the_notification_runs_ends_with_it() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let listener = builder(&dir).workers(2).on(Priority::Info, handler).start().unwrap();
    let mut broker = Broker::start(dir.path());
    let (mut header, sent) = (delivery(1), body(Priority::Info, "e"));
    broker.deliver(0, &header, &sent);
    broker.answer(0);
    runs.recv_timeout(LONG).unwrap();
    header.tag = 2;
    broker.deliver(1, &header, &sent);
    assert_eq!(broker.answer(1).summary(), (Kind::Ack, 2, 0));
    assert!(broker.next_within(SHORT).is_none());
    verdict.send(Verdict::Requeue).unwrap();
    let (first, second) = (broker.next(), broker.next());
    assert_eq!((first.summary(), first.requeue()), ((Kind::Handled, 1, 1), false));
    assert_eq!((second.summary(), second.requeue(), &second.body), ((Kind::Handled, 2, 1), true, &sent));
    assert!(runs.is_empty());
    stop(listener, broker);
}

#[test]
fn a_restarted_broker_gets_requeued_notifications() {
    let dir = TempDir::new().unwrap();
    let (handler, runs, verdict) = waiting_handler();
    let listener = builder(&dir).workers(2).on(Priority::Info, handler).start().unwrap();
    let broker = Broker::start(dir.path());
    let (one, other) = (delivery(1), delivery(2));
    let sent = body(Priority::Info, "e");
    listener.wait_ready(LONG).unwrap();
    for (worker, header) in [(0, &one), (1, &other)] {
        broker.deliver(worker, header, &sent);
        broker.answer(worker);
        runs.recv_timeout(LONG).unwrap();
    }
    broker.die();
    until("the broker is gone", || !listener.is_ready());
    verdict.send(Verdict::Handled).unwrap();
    verdict.send(Verdict::Requeue).unwrap();
    let mut broker = Broker::start_unregistered(dir.path());
    // This broker does not need the end of the handled one. A slow handler may still report it.
    while let Some(early) = broker.next_within(SHORT) {
        assert!(!early.requeue(), "it has not taken the registration yet");
    }
    broker.register();
    let back = broker.next();
    assert_eq!((back.header.kind, back.requeue(), &back.body), (Kind::Handled, true, &sent));
    assert_eq!(back.header.key.unwrap().as_str(), "openstack/t.info");
    assert!(back.header.id == one.id || back.header.id == other.id);
    stop(listener, broker);
}

#[test]
fn a_panic_or_an_error_counts_as_handled_and_the_worker_goes_on() {
    let dir = TempDir::new().unwrap();
    let listener = builder(&dir)
        .on(Priority::Info, |notice| {
            if notice.event_type() == "panic" {
                panic!("bang")
            }
        })
        .on(Priority::Info, |notice| notice.payload::<u32>().map(|_| Verdict::Requeue));
    let listener = listener.start().unwrap();
    let mut broker = Broker::start(dir.path());
    for (tag, event) in [(1, "panic"), (2, "error")] {
        broker.deliver(0, &delivery(tag), &body(Priority::Info, event));
        assert_eq!(broker.answer(0).summary(), (Kind::Ack, tag, 0));
        let handled = broker.next();
        assert_eq!((handled.summary(), handled.requeue()), ((Kind::Handled, tag, 1), false));
    }
    stop(listener, broker);
}

#[test]
fn a_message_that_is_no_notification_is_refused_rg39() {
    let dir = TempDir::new().unwrap();
    let (handler, runs) = recording_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let broker = Broker::start(dir.path());
    let good = body(Priority::Info, "e");
    let mut keyless = delivery(1);
    keyless.key = None;
    let cases = [
        (delivery(1), b"x".to_vec(), "body is not a JSON object"),
        (delivery(1), br#"{"method": "m", "args": {}}"#.to_vec(), "missing field `event_type`"),
        (keyless, good.clone(), "without a topic"),
        (request(Kind::Call, 1), good.clone(), "default is a pool of listeners"),
        (request(Kind::Cast, 1), good.clone(), "a Cast goes to an RPC server"),
        (request(Kind::Fanout, 1), good, "a Fanout goes to an RPC server"),
    ];
    for (header, body, said) in cases {
        broker.deliver(0, &header, &body);
        let refusal = broker.answer(0);
        assert_eq!((refusal.summary(), refusal.header.reason), ((Kind::Refusal, 1, 1), Some(Reason::Malformed)));
        assert!(refusal.detail().contains(said), "{}", refusal.detail());
    }
    assert!(runs.is_empty());
    stop(listener, broker);
}

#[test]
fn an_expired_notification_is_refused_and_does_not_run() {
    let dir = TempDir::new().unwrap();
    let (handler, runs) = recording_handler();
    let listener = builder(&dir).on(Priority::Info, handler).start().unwrap();
    let broker = Broker::start(dir.path());
    let mut header = delivery(1);
    header.ttl = Ttl::from_millis(10);
    header.delivered = Ttl::monotonic_millis() - 10;
    broker.deliver(0, &header, &body(Priority::Info, "e"));
    let refusal = broker.answer(0);
    assert_eq!((refusal.summary(), refusal.header.reason), ((Kind::Refusal, 1, 1), Some(Reason::Expired)));
    assert!(runs.is_empty());
    stop(listener, broker);
}

#[test]
fn every_endpoint_that_wants_a_notification_gets_it_and_any_can_requeue_it() {
    let dir = TempDir::new().unwrap();
    let ((first, firsts), (second, seconds), (bad, bads)) =
        (recording_handler(), recording_handler(), recording_handler());
    let filter = NotificationFilter::new().event_type("again").unwrap();
    let again = Handler::new(Priority::Info, |_| Verdict::Requeue).filter(filter);
    let listener = builder(&dir).on(Priority::Info, first).endpoint(again);
    let listener = listener.on([Priority::Info, Priority::Warn], second).on(Priority::Error, bad).start().unwrap();
    let mut broker = Broker::start(dir.path());
    for (tag, priority, event) in [(1, Priority::Info, "again"), (2, Priority::Info, "e"), (3, Priority::Warn, "w")] {
        broker.deliver(0, &delivery(tag), &body(priority, event));
        broker.answer(0);
        assert_eq!(broker.next().requeue(), event == "again");
    }
    // No endpoint wants samples. The broker should not send one, and it counts as handled.
    broker.deliver(0, &delivery(4), &body(Priority::Sample, "s"));
    assert_eq!((broker.answer(0).summary(), broker.next().summary()), ((Kind::Ack, 4, 0), (Kind::Handled, 4, 1)));
    assert_eq!(firsts.try_iter().collect::<Vec<_>>(), ["again", "e"]);
    assert_eq!(seconds.try_iter().collect::<Vec<_>>(), ["again", "e", "w"]);
    assert!(bads.is_empty());
    stop(listener, broker);
}

#[test]
fn a_notice_shows_everything_about_a_notification() {
    let dir = TempDir::new().unwrap();
    static RIGHT: AtomicU32 = AtomicU32::new(0);
    let look = |notice: &Notice| {
        assert_eq!((notice.publisher_id(), notice.event_type()), ("compute.node-7", "made"));
        assert_eq!((notice.priority(), notice.delivery, notice.topic.as_str()), (Priority::Info, 4, "t"));
        assert_eq!((notice.message_id(), notice.timestamp()), ("m-1", "2015-06-12 10:11:12.123456"));
        assert_eq!(notice.context().get("user"), Some("ann".into()));
        assert_eq!((notice.payload::<Vec<u32>>()?, notice.notification.payload.get()), (vec![1, 2], "[1,2]"));
        assert_eq!(notice.id, MessageId::from_bytes([9; 16]));
        RIGHT.fetch_add(1, Ordering::SeqCst);
        Ok::<_, zmqv2_server::HandlerError>(())
    };
    let listener = builder(&dir).on(Priority::Info, look).start().unwrap();
    let mut broker = Broker::start(dir.path());
    let mut sent = Notification::new("compute.node-7", "made", Priority::Info, &[1, 2]).unwrap();
    (sent.message_id, sent.timestamp) = ("m-1".to_owned(), "2015-06-12 10:11:12.123456".to_owned());
    sent.context = RequestContext::new().with("user", "ann");
    let mut header = delivery(1);
    (header.id, header.count) = (MessageId::from_bytes([9; 16]), 4);
    broker.deliver(0, &header, &sent.encode().unwrap());
    broker.next();
    assert_eq!(RIGHT.load(Ordering::SeqCst), 1);
    stop(listener, broker);
}

#[test]
fn a_listener_that_could_never_work_does_not_start() {
    let dir = TempDir::new().unwrap();
    let error = |builder: NotificationListenerBuilder| builder.start().unwrap_err();
    let deaf = NotificationListener::builder().ipc_dir(dir.path()).on(Priority::Info, |_| ());
    assert!(matches!(error(deaf), ServerError::NoTopic));
    assert!(matches!(error(builder(&dir)), ServerError::NoEndpoint));
    assert!(matches!(error(builder(&dir).workers(0).on(Priority::Info, |_| ())), ServerError::Workers(0)));
    let many = (0..40).fold(builder(&dir), |builder, n| builder.topic(format!("topic-{n}")).unwrap());
    let said = error(many.on(Priority::ALL, |_| ())).to_string();
    assert!(said.contains("287 topics") && said.contains("256"), "{said}");
    let long = NotificationListener::builder().topic("t".repeat(255)).unwrap().on(Priority::Info, |_| ());
    assert!(matches!(error(long), ServerError::Name(_)));
}
