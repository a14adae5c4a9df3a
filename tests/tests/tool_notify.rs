//! Proves for `zmqv2 notify` and `zmqv2 listen` that a notification reaches every pool, and that
//! none is lost on its way to a pipe.

use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_tests::{Cluster, Finished, Node, PATIENCE, Process, eventually};

fn listen(node: &Node, arguments: &[&str]) -> Process {
    Process::start("listener", &mut node.command("zmqv2", &[&["listen"], arguments].concat())).ready()
}

#[track_caller]
fn notify(node: &Node, arguments: &[&str], code: i32) -> Finished {
    let finished = node.tool(&[&["notify"], arguments].concat());
    assert_eq!(finished.code(), code, "{arguments:?}: {finished:?}");
    finished
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_listener_prints_what_was_said_in_its_order_and_ends_after_as_many_as_it_was_told() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let mut listener = listen(node, &["events", "alarms", "--count", "3"]);
    let ready = listener.wait_for_line("ready");
    assert_eq!(ready, "ready: pool default listens to events, alarms (any priority)");

    let payload = "{\"id\":\n 123456789012345678901234567890,\r\n \"text\": \"a\\nb\"}";
    let told = notify(node, &["events", "instance.created", payload, "--publisher", "compute.node-7"], 0);
    let accepted = format!("accepted by pool default at node {} in ", node.host);
    assert!(told.stdout.starts_with(&accepted) && told.stdout.ends_with(" ms\n"), "{told:?}");
    assert_eq!(told.stderr, "");
    let told = notify(node, &["events", "disk.full", "\"/var\"", "--priority", "error", "--json"], 0);
    let said = parsed(&told.stdout);
    assert_eq!(
        (&said["outcome"], &said["pool"], &said["node"]),
        (&json!("acked"), &json!("default"), &json!(node.host))
    );
    assert_eq!(said["topic"], "events");
    assert!(said["after_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{said}");
    notify(node, &["alarms", "last"], 0);

    assert_eq!(listener.wait_end(PATIENCE).code(), Some(0), "{}", listener.stderr());
    let output = listener.stdout_to_end();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    // Digits beyond those of a float arrive as they were sent.
    assert!(
        lines[0].contains(r#""payload":{"id":  123456789012345678901234567890,   "text": "a\nb"}"#),
        "{}",
        lines[0]
    );
    let lines: Vec<_> = lines.into_iter().map(parsed).collect();
    let fields: Vec<_> = lines[1].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields.len(), 6, "{fields:?}");
    let shown =
        |line: &Value| ["event_type", "publisher_id", "priority"].map(|name| line[name].as_str().unwrap().to_owned());
    assert_eq!(shown(&lines[0]), ["instance.created", "compute.node-7", "info"]);
    assert_eq!(shown(&lines[1]), ["disk.full", &format!("zmqv2.{}", node.host), "error"]);
    assert_eq!((&lines[1]["payload"], &lines[1]["message_id"]), (&json!("/var"), &said["message_id"]));
    assert_eq!((&lines[2]["event_type"], &lines[2]["payload"]), (&json!("last"), &json!({})));
    assert!(lines.iter().all(|line| line["timestamp"].as_str().is_some_and(|time| time.starts_with("20"))), "{output}");
}

#[test]
fn every_pool_gets_it_and_a_listener_only_the_priorities_it_wants() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let bad = listen(node, &["events", "--pool", "bad", "--priority", "error", "--priority", "critical"]);
    assert_eq!(bad.wait_for_line("ready"), "ready: pool bad listens to events (error, critical)");
    let all = listen(node, &["events", "--pool", "all"]);
    let info = notify(node, &["events", "one"], 0);
    assert!(info.stdout.starts_with("accepted by pool all ") && info.stdout.lines().count() == 1, "{info:?}");
    let error = notify(node, &["events", "two", "--priority", "ERROR"], 0);
    let mut lines: Vec<_> = error.stdout.lines().collect();
    lines.sort_unstable();
    assert!(lines.len() == 2 && lines[0].starts_with("accepted by pool all "), "{error:?}");
    assert!(lines[1].starts_with("accepted by pool bad "), "{error:?}");
    let events = |process: &Process, count| -> Vec<_> {
        process.wait_for_output(count).iter().map(|line| parsed(line)["event_type"].clone()).collect()
    };
    assert_eq!((events(&all, 2), events(&bad, 1)), (vec![json!("one"), json!("two")], vec![json!("two")]));
    for (mut process, signal) in [(bad, Signal::TERM), (all, Signal::INT)] {
        process.signal(signal);
        assert_eq!(process.wait_end(PATIENCE).code(), Some(0), "{}", process.stderr());
    }
}

#[test]
fn a_notification_without_a_listener_is_stored_for_the_first_one() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let stored = format!("stored at node {} for the first pool that comes\n", node.host);
    for number in 1..=6 {
        assert_eq!(notify(node, &["events", &format!("e{number}")], 0).stdout, stored);
    }
    let said = parsed(&notify(node, &["events", "e7", "--json"], 0).stdout);
    assert_eq!((&said["outcome"], &said["pool"], &said["node"]), (&json!("stored"), &Value::Null, &json!(node.host)));
    let text = node.tool(&["status"]);
    assert!(text.stdout.contains("7 notifications kept in memory\n"), "{}", text.stdout);

    // A listener that ends after a few leaves the rest unchanged, even if more listeners end than a
    // notification has deliveries.
    let mut seen = Vec::new();
    for _ in 0..6 {
        let mut listener = listen(node, &["events", "--count", "1"]);
        assert_eq!(listener.wait_end(PATIENCE).code(), Some(0), "{}", listener.stderr());
        seen.push(parsed(&listener.stdout_to_end())["event_type"].as_str().unwrap().to_owned());
    }
    eventually("one is left", || node.status().notifications == 1);
    seen.sort_unstable();
    let mut rest = listen(node, &["events", "--count", "1"]);
    assert_eq!(rest.wait_end(PATIENCE).code(), Some(0));
    seen.push(parsed(&rest.stdout_to_end())["event_type"].as_str().unwrap().to_owned());
    seen.sort_unstable();
    assert_eq!(seen, ["e1", "e2", "e3", "e4", "e5", "e6", "e7"]);
    eventually("nothing is left", || node.status().notifications == 0);
    let counters = node.status().counters;
    assert_eq!((counters["notifications_requeued"], counters["dead_letters"]), (0, 0), "{counters:?}");
}

/// A listener whose stdout nobody reads.
fn deaf_listener(node: &Node) -> Child {
    let mut command = node.command("zmqv2", &["listen", "events"]);
    let mut deaf =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a listener");
    drop(deaf.stdout.take());
    eventually("it listens", || !node.status().topics.is_empty());
    deaf
}

#[test]
fn a_notification_that_could_not_be_written_comes_again() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let deaf = deaf_listener(node);
    assert!(notify(node, &["events", "precious"], 0).stdout.starts_with("accepted by pool default "));
    let ended = deaf.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write a notification, which is delivered again: "), "{told}");
    let other = listen(node, &["events"]);
    assert_eq!(parsed(&other.wait_for_output(1)[0])["event_type"], "precious");
}

#[test]
fn status_shows_where_notifications_are_kept_and_which_were_given_up() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let store = node.file("store");
    let stored = format!("rpc_zmq_notification_store={}", store.display());
    let _broker = node.broker_with(&["--set", &stored, "--set", "rpc_zmq_max_deliveries=1"]);
    notify(node, &["calm", "kept"], 0);
    let deaf = deaf_listener(node);
    notify(node, &["events", "never.read", r#""\u001b[2J""#], 0);
    assert_eq!(deaf.wait_with_output().unwrap().status.code(), Some(1));
    eventually("it is given up", || !node.status().dead_letters.is_empty());
    let text = node.tool(&["status"]).stdout;
    for part in [
        &format!("1 notifications kept in {}\n", store.display())[..],
        "dead letters, the latest last:\n",
        "  openstack/events.info, pool default, message ",
        "; delivered 1 times, given up ",
        "never.read",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let report: Value = parsed(&node.tool(&["status", "--json"]).stdout);
    assert_eq!(
        (&report["notifications"], &report["dead_letters"][0]["deliveries"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
}

#[test]
fn the_result_of_a_notification_decides_the_exit_code() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let silent = notify(node, &["events", "e", "--timeout", "0.3"], 5);
    assert!(silent.stderr.starts_with("Unacknowledged: "), "{silent:?}");
    assert!(silent.stdout.starts_with("unacknowledged: "), "{silent:?}");
    let _broker = node.broker();
    let big = format!("\"{}\"", "x".repeat(5_000));
    let refused = notify(node, &["events", "e", &big, "--set", "rpc_zmq_max_message_bytes=1024"], 4);
    assert!(refused.stderr.starts_with("TooLarge: "), "{refused:?}");
    for arguments in [
        &["notify", "events"][..],
        &["notify", "a/b", "e"],
        &["notify", "events", "e", "{bad"],
        &["notify", "events", "e", "--priority", "loud"],
        &["notify", "events", "e", "--ttl", "0"],
        &["listen"],
        &["listen", "a/b"],
        &["listen", "events", "--pool", "a b"],
        &["listen", "events", "--priority", "loud"],
        &["listen", "events", "--count", "0"],
    ] {
        let told = node.tool(arguments);
        assert_eq!((told.code(), told.stdout.as_str()), (2, ""), "{arguments:?}: {told:?}");
    }
    // Nobody listens before it expires. On its way to the broker it does not.
    notify(node, &["events", "brief", "--ttl", "1"], 0);
    eventually("it is not kept any longer", || node.status().notifications == 0);
}

#[test]
fn notifications_are_measured_with_and_without_a_listener() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let bench = || {
        let arguments =
            ["bench", "notify", "events", "--duration", "0.3", "--concurrency", "4", "--rate", "100", "--json"];
        let finished = node.tool(&arguments);
        assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
        let result = parsed(&finished.stdout);
        assert_eq!(result["pattern"], "notify");
        assert!(result["ok"].as_u64().is_some_and(|ok| (20..=30).contains(&ok)), "{result}");
        result["ok"].as_u64().unwrap()
    };
    let stored = bench();
    // And the one from before the measurement.
    assert_eq!(node.status().notifications, stored + 1);
    let listener = listen(node, &["events", "--priority", "info"]);
    let accepted = bench();
    let lines = listener.wait_for_output((stored + accepted + 2) as usize);
    assert!(lines.iter().all(|line| parsed(line)["event_type"] == "bench"), "{lines:?}");
}
