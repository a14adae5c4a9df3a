//! Runs one suite of notification tests with both drivers, modelled on the original project's
//! functional tests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use zmqv2_proto::Priority;
use zmqv2_tests::messaging::Expected::{Differs, Pass};
use zmqv2_tests::messaging::{
    Driver, DriverCluster, Messaging, Notification, NotificationHandler, Running, SendOutcome,
};
use zmqv2_tests::notifications::NotificationLog;
use zmqv2_tests::{PATIENCE, eventually, suite, within};

suite! {
    listeners_get_their_priorities: legacy Pass, zmqv2 Pass;
    a_listener_gets_several_topics: legacy Pass, zmqv2 Pass;
    two_listeners_share_the_notifications: legacy Pass, zmqv2 Pass;
    many_notifiers_at_several_nodes: legacy Pass, zmqv2 Pass;
    a_notification_without_a_listener_is_kept: legacy Pass, zmqv2 Pass;
    every_pool_gets_a_copy: legacy Differs {
        because: "there are no pools: all listeners of a node share the notifications",
        with: "have a copy each",
    }, zmqv2 Pass;
    a_requeued_notification_comes_again: legacy Differs {
        because: "requeueing is not supported",
        with: "comes again",
    }, zmqv2 Pass;
    the_notifier_learns_the_outcome: legacy Differs {
        because: "PUSH has no return path",
        with: "the notifier is told",
    }, zmqv2 Pass;
}

/// A listener that logs its notifications.
fn listen(
    at: &dyn Messaging,
    topics: &[&str],
    priorities: &[Priority],
    pool: &str,
) -> (NotificationLog<Notification>, Box<dyn Running>) {
    let received: NotificationLog<Notification> = NotificationLog::default();
    let note = received.clone();
    let handler: NotificationHandler = Arc::new(move |notification| {
        note.add(notification.clone());
        true
    });
    let running = at.listen(topics, priorities, pool, handler);
    (received, running)
}

fn events(received: &NotificationLog<Notification>) -> Vec<String> {
    received.all().into_iter().map(|notification| notification.event_type).collect()
}

/// Whether `received` has `count` entries in time. The legacy driver is documented not to, so its wait
/// is shorter.
fn has(driver: Driver, received: &NotificationLog<Notification>, count: usize) -> bool {
    let patience = if driver == Driver::Legacy { Duration::from_secs(3) } else { PATIENCE };
    within(patience, || received.len() >= count)
}

fn listeners_get_their_priorities(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let (info, _info) = listen(&*node, &["t"], &[Priority::Info], "p");
    let (bad, _bad) = listen(&*node, &["t"], &[Priority::Error, Priority::Critical], "p");
    for (priority, event) in [
        (Priority::Info, "info.1"),
        (Priority::Error, "error.1"),
        (Priority::Debug, "debug.1"),
        (Priority::Critical, "critical.1"),
        (Priority::Info, "info.2"),
    ] {
        node.notify("t", priority, event, &json!({"k": event}));
    }
    assert_eq!((info.wait(2).len(), bad.wait(2).len()), (2, 2));
    assert_eq!(events(&info), ["info.1", "info.2"]);
    let mut both = events(&bad);
    both.sort();
    assert_eq!(both, ["critical.1", "error.1"]);
    let notification = info.all()[0].clone();
    assert_eq!((notification.priority, notification.payload), (Priority::Info, json!({"k": "info.1"})));
}

fn a_listener_gets_several_topics(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["a", "b", "c"], &[]);
    let node = nodes.at(0);
    let (both, _both) = listen(&*node, &["a", "b"], &[Priority::Info], "p");
    let (one, _one) = listen(&*node, &["c"], &[Priority::Info], "p");
    for topic in ["a", "b", "c", "a"] {
        node.notify(topic, Priority::Info, topic, &json!(null));
    }
    both.wait(3);
    one.wait(1);
    let mut received = events(&both);
    received.sort();
    assert_eq!((received, events(&one)), (vec!["a".to_owned(), "a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
}

fn two_listeners_share_the_notifications(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let (one, _one) = listen(&*node, &["t"], &[Priority::Info], "p");
    // A new listener may not have joined yet, so the first notification is for any of them.
    let (two, _two) = listen(&*node, &["t"], &[Priority::Info], "p");
    eventually("both are there", || {
        node.notify("t", Priority::Info, "hello", &json!(null));
        !one.is_empty() && !two.is_empty()
    });
    for number in 0..8 {
        node.notify("t", Priority::Info, "number", &json!(number));
    }
    let numbers = |received: &NotificationLog<Notification>| {
        let notification = received.all().into_iter().filter(|notification| notification.event_type == "number");
        notification.map(|notification| notification.payload.as_u64().expect("a number")).collect::<Vec<_>>()
    };
    eventually("all are received", || numbers(&one).len() + numbers(&two).len() >= 8);
    let mut both = [numbers(&one), numbers(&two)].concat();
    both.sort_unstable();
    assert_eq!(both, (0..8).collect::<Vec<_>>(), "each once");
    assert!(!numbers(&one).is_empty() && !numbers(&two).is_empty(), "one gets nothing");
}

fn many_notifiers_at_several_nodes(driver: Driver) {
    let nodes = DriverCluster::start(driver, 2, &["t"], &[]);
    let listeners = [0, 1].map(|n| listen(&*nodes.at(n), &["t"], &[Priority::Warn], "p"));
    std::thread::scope(|scope| {
        for notifier in 0..6 {
            let node = nodes.at(notifier % 2);
            scope.spawn(move || {
                for number in 0..5 {
                    node.notify("t", Priority::Warn, "notification", &json!(notifier * 5 + number));
                }
            });
        }
    });
    let numbers = || {
        let all = listeners.iter().flat_map(|(received, _)| received.all());
        let mut numbers: Vec<_> = all.map(|notification| notification.payload.as_u64().expect("a number")).collect();
        numbers.sort_unstable();
        numbers
    };
    eventually("all are received", || numbers().len() >= 30);
    assert_eq!(numbers(), (0..30).collect::<Vec<_>>());
}

fn a_notification_without_a_listener_is_kept(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    for number in 0..3 {
        node.notify("t", Priority::Info, "early", &json!(number));
    }
    let (received, _running) = listen(&*node, &["t"], &[Priority::Info], "p");
    let numbers: Vec<_> = received.wait(3).into_iter().map(|notification| notification.payload).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

fn every_pool_gets_a_copy(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let (audit, _audit) = listen(&*node, &["t"], &[Priority::Info], "audit");
    let (billing, _billing) = listen(&*node, &["t"], &[Priority::Info], "billing");
    for number in 0..4 {
        node.notify("t", Priority::Info, "notification", &json!(number));
    }
    for (pool, received) in [("audit", &audit), ("billing", &billing)] {
        assert!(has(driver, received, 4), "the pools have a copy each, {pool} has {}", received.len());
        assert_eq!(received.len(), 4);
    }
}

fn a_requeued_notification_comes_again(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let received: NotificationLog<Notification> = NotificationLog::default();
    let note = received.clone();
    let handler: NotificationHandler = Arc::new(move |notification| {
        note.add(notification.clone());
        note.len() > 1
    });
    let _running = node.listen(&["t"], &[Priority::Info], "p", handler);
    node.notify("t", Priority::Info, "notification", &json!(7));
    received.wait(1);
    assert!(has(driver, &received, 2), "what is given back comes again");
    assert_eq!(received.all()[0], received.all()[1]);
}

fn the_notifier_learns_the_outcome(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let kept = node.notify("t", Priority::Info, "early", &json!(1));
    assert_eq!(kept, [SendOutcome::Stored], "the notifier is told that it is stored");
    let (received, _running) = listen(&*node, &["t"], &[Priority::Info], "p");
    received.wait(1);
    let taken = node.notify("t", Priority::Info, "notification", &json!(2));
    assert!(matches!(taken[..], [SendOutcome::Accepted | SendOutcome::Stored]), "{taken:?}");
}
