//! Notifications: every pool of every topic has an outcome.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::json;
use support::{Act, Broker, Fixed, Seen, builder, dead_node, punctual};
use zmqv2_client::{ClientError, Config, Notifier, NotifierBuilder, NotifyReport, Outcome, SendError, WhenFull};
use zmqv2_proto::{Address, Exchange, Flags, Header, Kind, Notification, Priority, Reason, RequestContext, control};

const LONG: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn notifier(directory: Arc<Fixed>) -> NotifierBuilder {
    Notifier::builder("compute.node-7").matchmaker(directory).timeout(LONG)
}

/// A broker that says what it got, and then does as it is told.
fn telling(mut act: impl FnMut(&Seen) -> Act + Send + 'static) -> (Broker, mpsc::Receiver<(Header, Notification)>) {
    let (saw, seen) = mpsc::channel();
    let broker = Broker::start(move |message| {
        let _ = saw.send((message.header.clone(), message.notification.clone().unwrap()));
        act(message)
    });
    (broker, seen)
}

/// The pool that the message is for.
fn pool(seen: &Seen) -> String {
    seen.header.server.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn stored(seen: &Seen, node: &str) -> Act {
    Act::Several(vec![seen.word(Kind::Stored, node, &pool(seen), 0)])
}

/// Every result as `topic pool word`, sorted.
fn show(report: &NotifyReport) -> Vec<String> {
    let mut all: Vec<String> = report
        .results
        .iter()
        .map(|result| {
            let word = match &result.outcome {
                Outcome::Acked { node, .. } => format!("acked at {node}"),
                Outcome::Stored { node, .. } => format!("stored at {node}"),
                Outcome::Refused { refusal, .. } => refusal.reason.to_string(),
                Outcome::Unacknowledged { sent, .. } => format!("unacknowledged {sent}"),
                other => panic!("{other}"),
            };
            format!("{} {} {word}", result.topic, result.pool.as_ref().map_or("-", |pool| pool.as_str()))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_notification_says_who_what_and_when_rg39() {
    let (broker, seen) = telling(|seen| seen.acks("n1", &["default"], 0));
    let notifier = notifier(Fixed::at([broker.node("n1")])).build().unwrap();
    let payload = json!({"id": 7});
    let handle = notifier.warn(&context().with("user", "ann"), "instance.slow", &payload).unwrap();
    let report = handle.wait(LONG).unwrap();
    assert_eq!(show(&report), ["notifications default acked at n1"]);
    assert!(report.all_acked() && report.all_taken_over());

    let (header, sent) = seen.recv().unwrap();
    assert_eq!((header.kind, header.server, header.flags), (Kind::Notify, None, Flags::BUNDLES));
    assert_eq!(header.key.unwrap().as_str(), "openstack/notifications.warn");
    let ttl = Duration::from(header.ttl);
    assert!(ttl <= HOUR && ttl > HOUR - LONG, "it is kept for longer than its sender waits: {ttl:?}");
    assert_eq!((sent.publisher_id.as_str(), sent.event_type.as_str()), ("compute.node-7", "instance.slow"));
    assert_eq!((sent.priority, sent.payload.get()), (Priority::Warn, payload.to_string().as_str()));
    assert_eq!((&sent.message_id, sent.unique_id), (&handle.message_id(), Some(header.id)));
    assert_eq!(sent.message_id.replace('-', ""), header.id.to_string());
    assert_eq!(sent.message_id.matches('-').count(), 4);
    assert_eq!((sent.timestamp.len(), &sent.timestamp[10..11]), (26, " "), "{}", sent.timestamp);
    assert_eq!(sent.context.get("user"), Some("ann".into()));

    let other = notifier.prepare().publisher_id("other").time_to_live(HOUR / 2).retry(1);
    let (context, event, payload) = (context(), "e", &1);
    let handles = [
        other.audit(&context, event, payload),
        other.debug(&context, event, payload),
        other.info(&context, event, payload),
        other.warn(&context, event, payload),
        other.error(&context, event, payload),
        other.critical(&context, event, payload),
        other.sample(&context, event, payload),
    ];
    for (priority, handle) in Priority::ALL.into_iter().zip(handles) {
        assert!(handle.unwrap().wait(LONG).unwrap().all_acked());
        let (header, sent) = seen.recv().unwrap();
        assert_eq!((sent.priority, sent.publisher_id.as_str()), (priority, "other"));
        assert_eq!(header.key.unwrap().topic(), format!("notifications.{priority}"));
        assert!(Duration::from(header.ttl) <= HOUR / 2 && header.flags.contains(Flags::MAY_REPEAT));
    }
}

#[test]
fn every_pool_of_every_topic_gets_one_in_turn_among_its_nodes() {
    let answer = |node: &'static str| {
        move |seen: &Seen| if pool(seen) == "billing" { stored(seen, node) } else { seen.acks(node, &[&pool(seen)], 0) }
    };
    let brokers = ["n1", "n2"].map(|node| telling(answer(node)));
    let [(one, _), (other, _)] = &brokers;
    let nodes = [(one.node("n1"), &["default", "billing"][..]), (other.node("n2"), &["billing", "default"][..])];
    let told = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&told);
    let notifier = notifier(Fixed::listing(&nodes))
        .topics(["a", "b", "a"])
        .unwrap()
        .exchange(Exchange::new("nova").unwrap())
        .observer(move |target, outcome| observed.lock().unwrap().push((target.to_string(), outcome.is_taken_over())))
        .build()
        .unwrap();
    let mut reached = HashSet::new();
    for _ in 0..2 {
        let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
        assert_eq!(report.to_string(), "accepted by 2 of 4, 2 stored, 0 refused, 0 unacknowledged");
        assert_eq!((report.stored(), report.all_acked(), report.all_taken_over()), (2, false, true));
        for line in show(&report) {
            assert!(reached.insert(line.clone()), "the same node for the same pool twice: {line}");
        }
    }
    let node =
        |topic: &str, pool: &str, word: &str| ["n1", "n2"].map(|node| format!("{topic} {pool} {word} at {node}"));
    let expected = ["a", "b"].map(|topic| [node(topic, "default", "acked"), node(topic, "billing", "stored")]);
    assert_eq!(reached, expected.into_iter().flatten().flatten().collect());

    // All pools of a topic get one id, and each topic has its own, so a listener of both takes both.
    let all: Vec<_> = brokers.iter().flat_map(|(_, seen)| seen.try_iter()).collect();
    let ids = |topic: &str| {
        let of = all.iter().filter(|(header, _)| header.key.as_ref().unwrap().as_str() == format!("nova/{topic}.info"));
        of.map(|(header, sent)| (header.id, sent.unique_id.unwrap())).collect::<HashSet<_>>()
    };
    assert!(ids("a").len() == 2 && ids("b").len() == 2 && ids("a").is_disjoint(&ids("b")));
    assert_eq!(all.iter().map(|(_, sent)| &sent.message_id).collect::<HashSet<_>>().len(), 2);
    let told = told.lock().unwrap();
    assert!(told.len() == 8 && told.contains(&("nova/b.info at billing".to_owned(), true)), "{told:?}");
    let counters = notifier.counters();
    assert_eq!((counters.accepted, counters.copies, counters.acked, counters.stored, counters.open), (8, 0, 4, 4, 0));
}

#[test]
fn a_broker_that_knows_the_pools_answers_for_each() {
    let (broker, seen) = telling(|seen| {
        Act::Several(vec![
            seen.word(Kind::Stored, "n1", "billing", 2),
            seen.word(Kind::Ack, "n1", "default", 1),
            seen.refused_word(Reason::Busy, "n1", "audit", 0),
        ])
    });
    // One of the two does not list its pools.
    let nodes = [(broker.node("n1"), &["default"][..]), (broker.node("n2"), &[][..])];
    let notifier = notifier(Fixed::listing(&nodes)).build().unwrap();
    let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(
        show(&report),
        ["notifications audit Busy", "notifications billing stored at n1", "notifications default acked at n1"]
    );
    assert!(format!("{report:#}").contains("\npool audit of notifications: refused"), "{report:#}");
    assert!(!report.all_taken_over());
    assert_eq!((seen.recv().unwrap().0.server, broker.requests()), (None, 1));
    let counters = notifier.counters();
    assert_eq!(
        (counters.accepted, counters.copies, counters.acked, counters.stored, counters.refused),
        (1, 2, 1, 1, 1)
    );
}

#[test]
fn without_a_listener_the_broker_of_this_node_keeps_the_notification() {
    let dir = tempfile::tempdir().unwrap();
    let socket = control::broker_socket(dir.path()).unwrap();
    let broker = Broker::start_at(&socket, |seen| stored(seen, "here"));
    assert!(matches!(broker.address, Address::Ipc(_)));
    let notifier = notifier(Fixed::at([])).ipc_dir(dir.path()).build().unwrap();
    let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["notifications - stored at here"]);
    assert!(report.all_taken_over() && !report.all_acked());
}

#[test]
fn another_node_of_the_pool_takes_a_notification_that_the_first_refuses() {
    let busy = Broker::start(|seen| seen.refusal(Reason::Busy, "full"));
    let named = Broker::start(|seen| Act::Several(vec![seen.refused_word(Reason::ShuttingDown, "n2", "default", 0)]));
    let good = Broker::start(|seen| stored(seen, "n3"));
    let nodes = [
        (busy.node("n1"), &["default"][..]),
        (named.node("n2"), &["default"]),
        (dead_node("n4"), &["default"]),
        (good.node("n3"), &["default"]),
    ];
    let mut config = Config::default();
    config.connect_timeout = millis(100);
    let sending = notifier(Fixed::listing(&nodes)).config(config).build().unwrap();
    for _ in 0..4 {
        let report = sending.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
        assert_eq!(show(&report), ["notifications default stored at n3"]);
    }
    let nodes = &nodes[..2];
    let report =
        notifier(Fixed::listing(nodes)).build().unwrap().info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["notifications default Busy"]);
}

#[test]
fn a_missing_answer_ends_at_the_timeout_and_a_retry_doubles_no_outcome() {
    let (broker, seen) = telling(|_| Act::Ignore);
    let directory = Fixed::listing(&[(broker.node("n1"), &["default", "billing"])]);
    let silent = notifier(directory).timeout(millis(150)).build().unwrap();
    let notify = || silent.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    let (report, attempts) = punctual(millis(150), notify);
    assert_eq!(
        show(&report),
        ["notifications billing unacknowledged true", "notifications default unacknowledged true"]
    );
    assert_eq!(seen.try_iter().count(), 2 * attempts);
    // It is not waited for beyond its own time.
    let brief = silent.prepare().timeout(LONG).time_to_live(millis(100));
    assert!(!brief.info(&context(), "e", &()).unwrap().wait(LONG / 2).unwrap().all_taken_over());

    let mut asked = 0;
    let (broker, seen) = telling(move |seen| {
        asked += 1;
        match asked {
            1 => Act::Several(vec![seen.word(Kind::Stored, "n1", "billing", 1)]),
            _ => Act::Several(vec![seen.word(Kind::Ack, "n1", "billing", 1), seen.word(Kind::Ack, "n1", "default", 0)]),
        }
    });
    let notifier = notifier(Fixed::at([broker.node("n1")])).retry(1).timeout(millis(300)).build().unwrap();
    let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!(show(&report), ["notifications billing acked at n1", "notifications default acked at n1"]);
    let ids: HashSet<_> = seen.try_iter().map(|(header, _)| header.id).collect();
    assert_eq!((ids.len(), broker.requests()), (1, 2));
    assert_eq!((notifier.counters().acked, notifier.counters().stored), (2, 0));
}

#[test]
fn a_notifier_through_a_client_shares_what_it_has_open() {
    let broker =
        Broker::start(
            |seen| {
                if seen.header.kind == Kind::Notify { seen.acks("n1", &["default"], 0) } else { seen.good() }
            },
        );
    let client = builder([broker.node("n1")]).build().unwrap();
    let notifier = client.notifier("p");
    assert!(client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    assert!(notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap().all_acked());
    assert_eq!((broker.connections(), broker.requests()), (1, 2));
    assert_eq!((client.counters().acked, notifier.counters()), (2, client.counters()));
    // It lives as long as either of them.
    drop(client);
    let last = notifier.info(&context(), "e", &()).unwrap();
    drop(notifier);
    assert!(last.report().unwrap().all_acked());
}

#[test]
fn a_notifier_through_a_client_honours_every_setter_that_it_has() {
    let (broker, seen) = telling(|_| Act::Ignore);
    let mut config = Config::default();
    config.control_exchange = "nova".parse().unwrap();
    let client = builder([broker.node("n1")]).config(config).build().unwrap();
    let plain = client.notifier("p");
    let none: [&str; 0] = [];
    assert!(matches!(plain.prepare().topics(none), Err(ClientError::NoTopic)));
    assert!(matches!(plain.prepare().topics(["a/b"]), Err(ClientError::InvalidName(_))));
    let changed = plain.prepare().topics(["a", "b"]).unwrap().exchange(Exchange::new("glance").unwrap());
    let changed = changed.publisher_id("q").time_to_live(HOUR / 2).retry(1).timeout(millis(100));

    let report = changed.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!((report.results.len(), report.unacknowledged()), (2, 2));
    let mut keys = HashSet::new();
    for (header, sent) in seen.try_iter() {
        assert_eq!(sent.publisher_id, "q");
        assert!(Duration::from(header.ttl) <= HOUR / 2 && header.flags.contains(Flags::MAY_REPEAT));
        keys.insert(header.key.unwrap().to_string());
    }
    assert_eq!(keys, HashSet::from(["glance/a.info".to_owned(), "glance/b.info".to_owned()]));

    // The copy has changed, the notifier that it was made from has not.
    drop(plain.timeout(millis(100)).info(&context(), "e", &()).unwrap().wait(LONG));
    let (header, sent) = seen.recv().unwrap();
    assert_eq!((header.key.unwrap().as_str(), sent.publisher_id.as_str()), ("nova/notifications.info", "p"));
    assert!(Duration::from(header.ttl) > HOUR / 2 && !header.flags.contains(Flags::MAY_REPEAT));
}

#[test]
fn a_notification_that_cannot_be_sent_is_an_error_at_once_for_all_topics() {
    let broker = Broker::start(|seen| seen.acks("n1", &["default"], 0));
    let mut config = Config::default();
    config.max_message_bytes = 1024;
    let directory = Fixed::at([broker.node("n1")]);
    let long = "t".repeat(250);
    let sending =
        notifier(directory.clone()).config(config).topics(["t", &long]).unwrap().when_full(WhenFull::Refuse).build();
    let sending = sending.unwrap();
    assert!(sending.info(&context(), "e", &1).is_ok_and(|handle| handle.wait(LONG).is_some()));
    assert!(matches!(sending.critical(&context(), "e", &1), Err(SendError::InvalidName(_))));
    let error = sending.info(&context(), "e", &"x".repeat(2_000)).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { size: 2001.., limit: 1024, .. }), "{error:?}");
    let error = sending.info(&context(), "e.f", &std::collections::HashMap::from([((1, 2), 3)])).unwrap_err();
    assert_eq!(error.to_string(), "payload of e.f for openstack/t.info cannot be written");
    assert_eq!((sending.close(LONG).open, sending.counters().accepted), (0, 2));
    assert!(matches!(sending.info(&context(), "e", &1), Err(SendError::Closed { .. })));
    let none: [&str; 0] = [];
    let error = notifier(directory.clone()).topics(none).unwrap_err();
    assert!(matches!(error, ClientError::NoTopic), "{error}");
    assert!(notifier(directory).topics(["a/b"]).is_err());
}

#[test]
fn an_answer_of_the_wrong_kind_is_ignored() {
    let broker = Broker::start(|seen| {
        let mut answers = vec![seen.word(Kind::Reply, "n1", "default", 0)];
        if seen.header.kind == Kind::Cast {
            answers.push(seen.word(Kind::Stored, "n1", "default", 0));
        } else {
            answers.push(seen.word(Kind::Ack, "n1", "", 0));
        }
        answers.push(seen.word(Kind::Ack, "n1", "default", 0));
        Act::Several(answers)
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    assert!(client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    let notifier = client.notifier("p");
    assert!(notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap().all_acked());
    assert_eq!(client.counters().ignored, 4);
}
