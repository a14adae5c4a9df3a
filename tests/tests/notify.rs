//! Proves for notifications through real brokers: who gets them, how often and in which order, and
//! what happens to those without a listener.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use zmqv2_client::{NotifyReport, Outcome};
use zmqv2_proto::{Priority, Reason, ReceiverKind, RequestContext, Target};
use zmqv2_server::{
    Handler, HandlerError, Methods, NotificationFilter, NotificationListener, NotificationListenerBuilder, RpcServer,
    Verdict,
};
use zmqv2_tests::notifications::{NotificationLog, report_of, send_number, started};
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually, now};

/// A listener that logs the number and the delivery of each notification.
fn logging(builder: NotificationListenerBuilder, received: &NotificationLog<(u64, u16)>) -> NotificationListener {
    let received = received.clone();
    let note = move |notice: &zmqv2_server::Notice| received.add((notice.payload().unwrap(), notice.delivery));
    started(builder.workers(1).on(Priority::Info, note))
}

fn numbers(received: &NotificationLog<(u64, u16)>) -> Vec<u64> {
    let mut numbers: Vec<_> = received.all().into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

fn refusals(report: &NotifyReport) -> Vec<(Reason, &str)> {
    let outcomes = report.results.iter().map(|result| &result.outcome);
    let refused = outcomes.filter_map(|outcome| match outcome {
        Outcome::Refused { refusal, .. } => Some((refusal.reason, refusal.detail.as_str())),
        _ => None,
    });
    refused.collect()
}

#[test]
fn every_pool_of_two_nodes_gets_one_copy_and_one_listener_of_it_takes_it_rg28() {
    const COUNT: u64 = 40;
    let cluster = Cluster::new(2, &[]);
    let (one, two) = (cluster.node(0), cluster.node(1));
    // The pool takes the place of a server's name.
    let entry = |node: &Node, pools: &[&str]| json!({"node": node.host, "address": format!("{}:9501", node.host), "servers": pools});
    let ring = json!({"t.info": [entry(one, &["audit"]), entry(two, &["audit", "billing"])]});
    cluster.write_ring_text(&ring.to_string());
    let _brokers = (one.broker(), two.broker());
    let (audit_one, audit_two, billing) =
        (NotificationLog::default(), NotificationLog::default(), NotificationLog::default());
    let _listeners = [
        logging(one.listener_builder("t", "audit"), &audit_one),
        logging(two.listener_builder("t", "audit"), &audit_two),
        logging(two.listener_builder("t", "billing"), &billing),
    ];
    let notifier = one.notifier(&["t"]);
    for number in all(COUNT) {
        let report = report_of(&send_number(&notifier, number));
        assert!(report.all_taken_over(), "{report:#}");
        let mut pools: Vec<_> = report.results.iter().map(|result| result.pool.as_ref().unwrap().as_str()).collect();
        pools.sort_unstable();
        assert_eq!(pools, ["audit", "billing"]);
    }
    for node in [one, two] {
        node.wait_all_handled();
    }
    assert_eq!(numbers(&billing), all(COUNT));
    let mut audit = [numbers(&audit_one), numbers(&audit_two)].concat();
    audit.sort_unstable();
    assert_eq!(audit, all(COUNT));
    assert!(
        !audit_one.is_empty() && !audit_two.is_empty(),
        "one node had nothing: {audit_one:?} {audit_two:?}",
        audit_one = audit_one.all(),
        audit_two = audit_two.all()
    );
}

#[test]
fn every_pool_of_a_node_that_only_knows_itself_gets_one_copy() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let local = ["--set", "rpc_zmq_matchmaker=local"];
    let _broker = node.broker_with(&local);
    let listen = |pool: &str| {
        let mut command = node.command("zmqv2", &["listen", "t", "--pool", pool]);
        Process::start(pool, command.args(local)).ready()
    };
    let (audit, billing) = (listen("audit"), listen("billing"));
    for number in 1..=5 {
        let payload = number.to_string();
        let finished = node.tool(&[&["notify", "t", "said", &payload, "--json"][..], &local].concat());
        assert_eq!((finished.code(), finished.stdout.lines().count()), (0, 2), "{finished:?}");
    }
    for process in [audit, billing] {
        let received = process.wait_for_output(5);
        let payload_of = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["payload"].clone();
        assert_eq!(received.iter().map(payload_of).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
    node.wait_all_handled();
}

#[test]
fn eight_notifications_reach_both_listeners_of_a_pool() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let logs: [NotificationLog<(u64, u16)>; 2] = [(); 2].map(|()| NotificationLog::default());
    // On a busy machine one of them could handle all before the other wakes up. So each waits with its
    // first two until the other has as many.
    let listen = |own: &NotificationLog<(u64, u16)>, other: &NotificationLog<(u64, u16)>| {
        let (own, other) = (own.clone(), other.clone());
        let note = move |notice: &zmqv2_server::Notice| {
            own.add((notice.payload().unwrap(), notice.delivery));
            eventually("the other listener gets some", || other.len() >= own.len().min(2));
        };
        started(node.listener_builder("t", "p").workers(1).on(Priority::Info, note))
    };
    let _listeners = [listen(&logs[0], &logs[1]), listen(&logs[1], &logs[0])];
    let [one, two] = logs;
    let notifier = node.notifier(&["t"]);
    let handles: Vec<_> = all(8).into_iter().map(|number| send_number(&notifier, number)).collect();
    assert!(handles.iter().all(|handle| report_of(handle).all_taken_over()));
    node.wait_all_handled();
    assert!(one.len() >= 2 && two.len() >= 2, "{:?} {:?}", one.all(), two.all());
    let mut both = [numbers(&one), numbers(&two)].concat();
    both.sort_unstable();
    assert_eq!(both, all(8));
}

#[test]
fn topics_priorities_and_filters_decide_what_an_endpoint_receives() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let received: NotificationLog<(&str, String, String)> = NotificationLog::default();
    let note = |who: &'static str| {
        let received = received.clone();
        move |notice: &zmqv2_server::Notice| {
            received.add((who, notice.topic.to_string(), notice.event_type().to_owned()));
        }
    };
    let filter = NotificationFilter::new().event_type("disk").unwrap().payload("state", "full$").unwrap();
    let listener = node.listener_builder("a", "p").topic("b").unwrap();
    let listener = listener.on([Priority::Error, Priority::Critical], note("bad"));
    let listener = started(listener.endpoint(Handler::new(Priority::Warn, note("full")).filter(filter)));
    let keys: Vec<_> = listener.keys().iter().map(|key| key.topic().to_owned()).collect();
    assert_eq!(keys, ["a.warn", "a.error", "a.critical", "b.warn", "b.error", "b.critical"]);

    let (both, context) = (node.notifier(&["a", "b"]), RequestContext::new());
    let full = json!({"state": "full"});
    let report = report_of(&both.error(&context, "error", &full).unwrap());
    assert!(report.all_acked() && report.results.len() == 2, "{report:#}");
    assert!(report_of(&both.critical(&context, "critical", &full).unwrap()).all_acked());
    // The filter passes one of three. All of them are handled.
    assert!(report_of(&both.warn(&context, "disk.1", &full).unwrap()).all_acked());
    assert!(report_of(&both.warn(&context, "disk.2", &json!({"state": "fuller"})).unwrap()).all_acked());
    assert!(report_of(&both.warn(&context, "net.1", &full).unwrap()).all_acked());
    node.wait_all_handled();
    // No listener wants these, so they wait for one that does.
    assert_eq!(report_of(&both.info(&context, "info", &full).unwrap()).stored(), 2);
    assert_eq!(report_of(&both.sample(&context, "sample", &full).unwrap()).stored(), 2);
    listener.stop().unwrap();
    assert_eq!(node.status().notifications, 4);
    let mut expected = Vec::new();
    for topic in ["a", "b"] {
        expected.extend(
            [("bad", "error"), ("bad", "critical"), ("full", "disk.1")]
                .map(|(who, what)| (who, topic.to_owned(), what.to_owned())),
        );
    }
    let (mut received, expected) = (received.all(), BTreeSet::from_iter(expected));
    received.sort();
    assert_eq!(received, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_sender_that_is_content_with_stored_does_not_wait_for_a_listener_that_hangs() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let listener = Process::start("listener", &mut node.command("zmqv2", &["listen", "t"])).ready();
    let notifier = node.notifier(&["t"]);
    eventually("its link is up", || report_of(&send_number(&notifier, 1)).stored() == 0);
    node.wait_all_handled();
    listener.signal(Signal::STOP);
    let waiting = send_number(&notifier, 2);
    let report = report_of(&send_number(&notifier.prepare().until_stored(true), 3));
    assert_eq!(report.stored(), 1, "{report:#}");
    let answered = waiting.wait(Duration::ZERO);
    assert!(answered.is_none(), "the listener of the first one answers nothing: {answered:?}");
    listener.signal(Signal::CONT);
    assert!(report_of(&waiting).all_taken_over());
    node.wait_all_handled();
}

#[test]
fn an_expired_notification_never_runs_and_is_shown_as_a_dead_letter() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let notifier = node.notifier(&["t"]);
    let brief = notifier.prepare().time_to_live(Duration::from_secs(1));
    for number in [1, 2] {
        assert_eq!(report_of(&send_number(&brief, number)).stored(), 1);
    }
    assert_eq!(report_of(&send_number(&notifier, 3)).stored(), 1);
    eventually("two are given up", || node.status().dead_letters.len() == 2);
    let received = NotificationLog::default();
    let _listener = logging(node.listener_builder("t", "p"), &received);
    nothing_but_letters_is_left(node);
    assert_eq!(received.all(), [(3, 1)]);
    let status = node.status();
    assert!(status.dead_letters.iter().all(|letter| letter.key.topic() == "t.info" && letter.deliveries == 0));
    assert_eq!(status.counters["dead_letters"], 2);
    let text = node.tool(&["status"]).stdout;
    assert!(text.contains("time to live ended") && text.contains("t.info"), "{text}");
}

fn nothing_but_letters_is_left(node: &Node) {
    eventually("every notification is handled or given up", || node.status().notifications == 0);
}

#[test]
fn a_full_backlog_refuses_at_once_by_count_and_by_bytes_rg38() {
    let bounds: [(&[&str], usize, &str); 2] = [
        (&["--set", "rpc_zmq_topic_backlog=5"], 0, "rpc_zmq_topic_backlog"),
        (
            &["--set", "rpc_zmq_backlog_bytes=65536", "--set", "rpc_zmq_max_message_bytes=16384"],
            12_000,
            "rpc_zmq_backlog_bytes",
        ),
    ];
    for (flags, padding, option) in bounds {
        let cluster = Cluster::new(1, &[]);
        let node = cluster.node(0);
        let _broker = node.broker_with(flags);
        let (notifier, context) = (node.notifier(&["t"]), RequestContext::new());
        let started_at = now();
        let send = |number: u64| report_of(&notifier.info(&context, "said", &(number, "x".repeat(padding))).unwrap());
        let reports: Vec<_> = (0..10).map(send).collect();
        assert!(started_at.elapsed() < PATIENCE / 3, "a refusal is no timeout: {:?}", started_at.elapsed());
        let kept = reports.iter().take_while(|report| report.stored() == 1).count();
        assert_eq!(kept, 5, "{option}: {reports:?}");
        for report in &reports[kept..] {
            let refused = refusals(report);
            assert!(matches!(refused[..], [(Reason::Busy, detail)] if detail.contains(option)), "{option}: {report:#}");
        }
        // The new listener gets the stored ones, and nothing else.
        let received = NotificationLog::<u64>::default();
        let note = received.clone();
        let listening = node.listener_builder("t", "p").workers(1);
        let listener =
            listening.on(Priority::Info, move |notice| note.add(notice.payload::<(u64, String)>().unwrap().0));
        let _listener = started(listener);
        node.wait_all_handled();
        assert_eq!(received.all(), all(5), "{option}");
        assert!(send(10).all_acked(), "there is room again");
    }
}

#[test]
fn a_requeued_notification_goes_behind_the_others_and_not_for_ever() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker_with(&["--set", "rpc_zmq_max_deliveries=3"]);
    let notifier = node.notifier(&["t"]);
    for number in all(4) {
        assert_eq!(report_of(&send_number(&notifier, number)).stored(), 1);
    }
    let received: NotificationLog<(u64, u16)> = NotificationLog::default();
    let note = received.clone();
    let listener = node.listener_builder("t", "p").workers(1).on(Priority::Info, move |notice| {
        let number: u64 = notice.payload().unwrap();
        note.add((number, notice.delivery));
        match (number, notice.delivery) {
            (0, 1) | (2, _) => Verdict::Requeue,
            _ => Verdict::Handled,
        }
    });
    let _listener = started(listener);
    nothing_but_letters_is_left(node);
    assert_eq!(received.all(), [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (2, 2), (2, 3)]);
    let letters = node.status().dead_letters;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0].deliveries, letters[0].pool.as_ref().unwrap().as_str()), (3, "p"), "{letters:?}");
    let text = node.tool(&["status"]).stdout;
    assert!(text.contains("delivered 3 times (rpc_zmq_max_deliveries)"), "{text}");
}

#[test]
fn an_rpc_server_and_a_listener_of_one_topic_are_two_services_rg39() {
    let cluster = Cluster::new(1, &["t.info"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let received = NotificationLog::default();
    let listener = logging(node.listener_builder("t", "p"), &received);
    let client = node.client(Target::topic("t.info").unwrap());
    let call = || client.call::<u64>(&RequestContext::new(), "said", &1);
    // Without an RPC server, nothing for one reaches the listener.
    assert_eq!(call().unwrap_err().reason(), Some(Reason::NoRoute));
    match client.cast(&RequestContext::new(), "said", &1).unwrap().wait(PATIENCE) {
        Some(Outcome::Refused { refusal, .. }) => assert_eq!(refusal.reason, Reason::NoRoute, "{refusal}"),
        other => panic!("{other:?}"),
    }
    let report = client.fanout(&RequestContext::new(), "said", &1).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(report.acked(), 0, "{report:#}");

    let server = RpcServer::builder(Target::topic("t.info").unwrap().with_server("p").unwrap());
    let methods = Methods::new().method("said", |number: u64| Ok::<_, HandlerError>(number + 1)).unwrap();
    let server = server.config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    let notifier = node.notifier(&["t"]);
    for number in 0..20 {
        assert_eq!(call().unwrap(), 2);
        // The broker keeps it for a moment if the worker has not finished the one before.
        assert!(report_of(&send_number(&notifier, number)).all_taken_over());
    }
    let report = client.fanout(&RequestContext::new(), "said", &1).unwrap().wait(PATIENCE).unwrap();
    assert_eq!((report.acked(), report.results.len()), (1, 1), "{report:#}");
    node.wait_all_handled();
    assert_eq!(received.all(), (0..20).map(|number| (number, 1)).collect::<Vec<_>>());
    let kinds: Vec<_> = node.status().topics.iter().map(|topic| (topic.topic.to_string(), topic.receivers)).collect();
    assert_eq!(kinds, [ReceiverKind::Server, ReceiverKind::Listener].map(|kind| ("t.info".to_owned(), kind)));

    // Without a listener, a notification waits for one, beside the RPC server.
    listener.stop().unwrap();
    assert!(report_of(&send_number(&notifier, 20)).all_taken_over());
    server.stop().unwrap();
    let listener = logging(node.listener_builder("t", "p"), &received);
    node.wait_all_handled();
    assert_eq!(received.len(), 21);
    listener.stop().unwrap();
}

#[test]
fn batches_are_exactly_as_large_as_they_should_be() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let notifier = node.notifier(&["t"]);
    for number in all(30) {
        assert!(report_of(&send_number(&notifier, number)).all_taken_over());
    }
    let received: NotificationLog<Vec<u64>> = NotificationLog::default();
    let note = received.clone();
    // No batch runs before it is full.
    let listener = node.listener_builder("t", "p").batch(10, Duration::MAX).on_batch(Priority::Info, move |batch| {
        note.add(batch.iter().map(|notice| notice.payload().unwrap()).collect());
    });
    let listener = started(listener);
    received.wait(3);
    for number in 30..37 {
        assert!(report_of(&send_number(&notifier, number)).all_acked());
    }
    assert_eq!(received.len(), 3, "seven are no batch of ten");
    // An incomplete batch runs at the end.
    listener.stop().unwrap();
    let batches = received.all();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10, 7]);
    assert_eq!(batches.concat(), all(37));
    node.wait_all_handled();
}

#[test]
fn a_slow_handler_delays_no_notification_that_another_worker_can_take_p10() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(Some(blocked));
    let received: NotificationLog<(u64, std::time::Instant)> = NotificationLog::default();
    let note = received.clone();
    let listener = node.listener_builder("t", "p").workers(2).on(Priority::Info, move |notice| {
        note.add((notice.payload().unwrap(), now()));
        let block = blocked.lock().unwrap().take();
        // The handler waits until the others have run.
        block.map(|block| block.recv_timeout(PATIENCE)).transpose().map(drop).unwrap_or_default();
    });
    let listener = started(listener);
    let notifier = node.notifier(&["t"]);
    assert!(report_of(&send_number(&notifier, 1_000)).all_acked());
    received.wait(1);
    for number in all(100) {
        let said_at = now();
        let report = report_of(&send_number(&notifier, number));
        assert!(report.all_taken_over(), "{report:#}");
        let (last, at) = *received.wait(number as usize + 2).last().unwrap();
        assert_eq!(last, number);
        assert!(at - said_at < PATIENCE / 3, "{number} took {:?}", at - said_at);
    }
    // All of them come at once: none goes to the busy worker.
    let said_at = now();
    let handles: Vec<_> = (100..200).map(|number| send_number(&notifier, number)).collect();
    assert!(handles.iter().all(|handle| report_of(handle).all_taken_over()));
    let at = received.wait(201).into_iter().map(|(_, at)| at).max().unwrap();
    assert!(at - said_at < PATIENCE / 3, "a hundred took {:?}", at - said_at);
    eventually("only the one that blocks is left", || node.status().notifications == 1);
    release.send(()).unwrap();
    node.wait_all_handled();
    listener.stop().unwrap();
}
