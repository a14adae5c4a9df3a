//! Proves that no notification is lost, and none is repeated without need, when listeners and
//! brokers stop or die.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::process::Signal;
use zmqv2_client::Notifier;
use zmqv2_proto::Priority;
use zmqv2_server::Verdict;
use zmqv2_tests::checker::Expected;
use zmqv2_tests::notifications::{NotificationLog, report_of, send_number, started};
use zmqv2_tests::{Cluster, JournaledRun, Node, PATIENCE, Process, TOPIC, eventually, stop_all};

const CLIENT: &str = "c";

/// Sends a number, in the form that `journal-listener` expects.
fn send_to_process(notifier: &Notifier, number: u64) -> zmqv2_client::NotifyReport {
    let payload = (CLIENT, number, "");
    report_of(&notifier.info(&zmqv2_proto::RequestContext::new(), "run", &payload).expect("it is sent"))
}

/// Number and delivery of each line that a listener process has printed.
fn printed(lines: &[String]) -> Vec<(u64, u16)> {
    let parse = |line: &String| {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words.len(), words[0]), (3, CLIENT), "{line}");
        (words[1].parse().expect("a number"), words[2].parse().expect("a delivery"))
    };
    lines.iter().map(parse).collect()
}

/// How often each number was received.
fn times(received: &[(u64, u16)]) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for (number, _) in received {
        *times.entry(*number).or_default() += 1;
    }
    times
}

fn each(count: u64, times: usize) -> BTreeMap<u64, usize> {
    (0..count).map(|number| (number, times)).collect()
}

/// The flag that makes a broker keep notifications in a file.
fn durable(node: &Node) -> [String; 2] {
    let file: PathBuf = node.file("notifications.redb");
    ["--set".to_owned(), format!("rpc_zmq_notification_store={}", file.display())]
}

fn durable_broker(node: &Node) -> Process {
    let flags = durable(node);
    node.broker_with(&flags.each_ref().map(String::as_str))
}

#[test]
fn notifications_of_a_killed_listener_go_to_another_one_of_its_pool() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let journaled = JournaledRun::new();
    let notifier = node.notifier(&[TOPIC]);
    let mut first = journaled.listener(node, "p", &["--hold", "--workers", "3"]);
    for number in 0..3 {
        assert!(send_to_process(&notifier, number).all_acked());
    }
    first.wait_for_output(3);
    // These notifications wait for a worker.
    for number in 3..5 {
        assert_eq!(send_to_process(&notifier, number).stored(), 1);
    }
    first.kill9();
    // The next listener gets them.
    let mut second = journaled.listener(node, "p", &["--hold", "--workers", "5"]);
    let received = printed(&second.wait_for_output(5));
    let mut sorted = received.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [(0, 2), (1, 2), (2, 2), (3, 1), (4, 1)]);
    // A listener that runs already gets them at once.
    let third = journaled.listener(node, "p", &[]);
    second.kill9();
    let mut received = printed(&third.wait_for_output(5));
    received.sort_unstable();
    assert_eq!(received, [(0, 3), (1, 3), (2, 3), (3, 2), (4, 2)]);
    node.wait_all_handled();
}

#[test]
fn a_notification_that_kills_its_listeners_becomes_a_dead_letter() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker_with(&["--set", "rpc_zmq_max_deliveries=2"]);
    let journaled = JournaledRun::new();
    let notifier = node.notifier(&[TOPIC]);
    assert_eq!(send_to_process(&notifier, 0).stored(), 1);
    for delivery in 1..=2 {
        let mut victim = journaled.listener(node, "p", &["--hold"]);
        assert_eq!(printed(&victim.wait_for_output(1)), [(0, delivery)]);
        victim.kill9();
    }
    eventually("it is given up", || node.status().dead_letters.len() == 1);
    let survivor = journaled.listener(node, "p", &[]);
    assert!(send_to_process(&notifier, 1).all_taken_over());
    assert_eq!(printed(&survivor.wait_for_output(1)), [(1, 1)]);
    eventually("nothing is left", || node.status().notifications == 0);
}

#[test]
fn listeners_that_stop_in_order_lose_nothing_and_leave_nothing_to_be_repeated() {
    const COUNT: &str = "1500";
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let journaled = JournaledRun::new();
    let start = || journaled.listener(node, "p", &["--workers", "2", "--work", "2", "--requeue", "5"]);
    let mut listeners = vec![start()];
    let mut client = journaled.client(node, CLIENT, &["--how", "notify", "--count", COUNT, "--rate", "500"]);
    // Each listener gets some before the next one takes over.
    for _ in 0..5 {
        let next = start();
        let mut last = listeners.pop().expect("a listener");
        last.wait_for_output(20);
        stop_all(std::slice::from_mut(&mut last), PATIENCE);
        listeners.push(next);
    }
    let summary = zmqv2_tests::Summary::of(&mut client, PATIENCE * 2);
    node.wait_all_handled();
    stop_all(&mut listeners, PATIENCE);
    let (_, report) = journaled.check(&Expected::nothing().all_accepted(CLIENT));
    println!("{summary:?}\n{report}");
    report.assert_clean();
    let counts = &report.counts;
    assert_eq!((counts.runs, counts.killed), (6, 0));
    assert_eq!((counts.deliveries, counts.repeated), (1_500 + 300, 0), "{report}");
}

#[test]
fn a_listener_that_stops_finishes_what_it_has_accepted() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let journaled = JournaledRun::new();
    let notifier = node.notifier(&[TOPIC]);
    let mut first = journaled.listener(node, "p", &["--hold", "--workers", "2"]);
    for number in 0..5 {
        assert!(send_to_process(&notifier, number).all_taken_over());
    }
    first.wait_for_output(2);
    let second = journaled.listener(node, "p", &["--hold", "--workers", "3"]);
    assert_eq!(times(&printed(&second.wait_for_output(3))).len(), 3);
    first.signal(Signal::TERM);
    assert!(first.wait_end(PATIENCE).success(), "{}", first.stderr());
    assert_eq!(printed(&first.wait_for_output(2)).len(), 2);
    eventually("what the first had is handled", || node.status().notifications == 3);
    let mut both = [second];
    stop_all(&mut both, PATIENCE);
    node.wait_all_handled();
    let received = [first, both.into_iter().next().expect("one")].map(|process| printed(&process.wait_for_output(1)));
    assert_eq!(times(&received.concat()), each(5, 1));
}

/// A notification stored for a missing listener and one given to a blocked listener both survive,
/// whichever way the broker stops.
fn a_broker_goes(go: impl Fn(&mut Process)) -> (Cluster, Process) {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let mut broker = durable_broker(node);
    let journaled = JournaledRun::new();
    let notifier = node.notifier(&[TOPIC]);
    for number in 0..20 {
        let report = send_to_process(&notifier, number);
        assert_eq!(report.stored(), 1, "{report:#}");
    }
    go(&mut broker);
    broker = durable_broker(node);
    assert_eq!(node.status().notifications, 20);
    let text = node.tool(&["status"]).stdout;
    assert!(text.contains("20 notifications kept in ") && text.contains("notifications.redb"), "{text}");
    // Some are handled. One is held while the broker stops.
    let mut holder = journaled.listener(node, "p", &["--hold", "--workers", "20"]);
    assert_eq!(times(&printed(&holder.wait_for_output(20))), each(20, 1));
    holder.kill9();
    go(&mut broker);
    broker = durable_broker(node);
    let mut listener = [journaled.listener(node, "p", &[])];
    assert_eq!(times(&printed(&listener[0].wait_for_output(20))), each(20, 1));
    node.wait_all_handled();
    stop_all(&mut listener, PATIENCE);
    (cluster, broker)
}

#[test]
fn a_killed_broker_loses_no_notification_that_it_reported_as_stored() {
    // A notification that was handled just before a kill may still be in the file, and come again.
    let _ = a_broker_goes(Process::kill9);
}

#[test]
fn a_stopped_broker_loses_no_notification_that_it_reported_as_stored() {
    let stop = |broker: &mut Process| stop_all(std::slice::from_mut(broker), PATIENCE);
    let (cluster, mut broker) = a_broker_goes(stop);
    stop(&mut broker);
    let _broker = durable_broker(cluster.node(0));
    cluster.node(0).wait_all_handled();
}

#[test]
fn a_handled_notification_does_not_come_again_after_an_orderly_restart_of_the_broker() {
    const COUNT: u64 = 200;
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let mut broker = durable_broker(node);
    let received: NotificationLog<(u64, u16)> = NotificationLog::default();
    let listen = || {
        let note = received.clone();
        let listener = node.listener_builder("t", "p").workers(2);
        started(listener.on(Priority::Info, move |notice| note.add((notice.payload().unwrap(), notice.delivery))))
    };
    let listener = listen();
    let notifier = node.notifier(&["t"]);
    let handles: Vec<_> = (0..COUNT).map(|number| send_number(&notifier, number)).collect();
    assert!(handles.iter().all(|handle| report_of(handle).all_taken_over()));
    received.wait(COUNT as usize);
    // The handlers have run, but the broker may not know it of the last ones when it is stopped.
    stop_all(std::slice::from_mut(&mut broker), PATIENCE);
    listener.stop().unwrap();
    let _broker = durable_broker(node);
    // This listener has not had any of them.
    let _listener = listen();
    assert!(report_of(&send_number(&notifier, COUNT)).all_taken_over());
    node.wait_all_handled();
    assert_eq!(times(&received.all()), each(COUNT + 1, 1));
}

#[test]
fn a_broker_that_is_stopped_while_listeners_work_repeats_nothing() {
    const COUNT: u64 = 300;
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let mut broker = durable_broker(node);
    let notifier = node.notifier(&[TOPIC]);
    for number in 0..COUNT {
        assert_eq!(send_to_process(&notifier, number).stored(), 1);
    }
    let journaled = JournaledRun::new();
    let mut first = journaled.listener(node, "p", &["--work", "20", "--workers", "2"]);
    first.wait_for_output(20);
    stop_all(std::slice::from_mut(&mut broker), PATIENCE);
    stop_all(std::slice::from_mut(&mut first), PATIENCE);
    let done = printed(&first.wait_for_output(20));
    let _broker = durable_broker(node);
    assert_eq!(node.status().notifications, COUNT - done.len() as u64, "what was handled is not kept any more");
    let second = journaled.listener(node, "p", &["--workers", "2"]);
    let rest = printed(&second.wait_for_output(COUNT as usize - done.len()));
    node.wait_all_handled();
    assert_eq!(times(&[done, rest].concat()), each(COUNT, 1));
}

#[test]
fn a_notification_requeued_while_the_broker_is_down_comes_again() {
    for is_durable in [true, false] {
        let cluster = Cluster::new(1, &[]);
        let node = cluster.node(0);
        let start = || if is_durable { durable_broker(node) } else { node.broker() };
        let mut broker = start();
        let received: NotificationLog<(u64, u16)> = NotificationLog::default();
        let (note, (release, blocked)) = (received.clone(), std::sync::mpsc::channel::<()>());
        let blocked = std::sync::Mutex::new(blocked);
        let listener = started(node.listener_builder("t", "p").workers(1).on(Priority::Info, move |notice| {
            let number: u64 = notice.payload().unwrap();
            note.add((number, notice.delivery));
            if note.len() > 1 {
                return Verdict::Handled;
            }
            let _ = blocked.lock().unwrap().recv_timeout(PATIENCE);
            Verdict::Requeue
        }));
        let notifier = node.notifier(&["t"]);
        assert!(report_of(&send_number(&notifier, 7)).all_taken_over());
        received.wait(1);
        broker.kill9();
        release.send(()).unwrap();
        let _broker = start();
        received.wait(2);
        node.wait_all_handled();
        listener.stop().unwrap();
        assert_eq!(times(&received.all()), BTreeMap::from([(7, 2)]), "durable: {is_durable}, {:?}", received.all());
    }
}

#[test]
fn a_notification_still_running_when_the_broker_returns_is_not_run_again() {
    for is_killed in [true, false] {
        let cluster = Cluster::new(1, &[]);
        let node = cluster.node(0);
        let mut broker = durable_broker(node);
        let received: NotificationLog<(u64, u16)> = NotificationLog::default();
        let (note, (release, blocked)) = (received.clone(), std::sync::mpsc::channel::<()>());
        let blocked = std::sync::Mutex::new(blocked);
        let listener = started(node.listener_builder("t", "p").workers(2).on(Priority::Info, move |notice| {
            let number = notice.payload().unwrap();
            note.add((number, notice.delivery));
            // The first worker is free while the second one is blocked, and gets the notification
            // when it comes again.
            if number == 0 {
                return;
            }
            let _ = blocked.lock().unwrap().recv_timeout(PATIENCE);
        }));
        let notifier = node.notifier(&["t"]);
        for (number, count) in [(0, 1), (7, 2)] {
            assert!(report_of(&send_number(&notifier, number)).all_taken_over());
            received.wait(count);
        }
        eventually("the first is handled", || node.status().notifications == 1);
        if is_killed {
            broker.kill9();
        } else {
            stop_all(std::slice::from_mut(&mut broker), PATIENCE);
        }
        let _broker = durable_broker(node);
        eventually("the new broker delivers it", || node.status().counters["delivered"] == 1);
        assert_eq!(node.status().notifications, 1, "it is not handled before its handler has run");
        release.send(()).unwrap();
        node.wait_all_handled();
        listener.stop().unwrap();
        assert_eq!(received.all(), [(0, 1), (7, 1)], "killed: {is_killed}");
    }
}
