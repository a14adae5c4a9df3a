//! Proves that `zmqv2 fanout` prints a line for every server, and that its exit code is that of the
//! worst.

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_tests::{Cluster, Finished, Node};

fn fanout(node: &Node, arguments: &[&str]) -> Finished {
    node.tool(&[&["fanout"], arguments].concat())
}

/// The output of `--json`, in the order of nodes and servers.
#[track_caller]
fn objects(finished: &Finished) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let mut objects: Vec<Value> = finished.stdout.lines().map(parse).collect();
    objects.sort_by_key(|object| (object["node"].to_string(), object["server"].to_string()));
    objects
}

#[test]
fn every_server_of_every_node_has_a_line() {
    let cluster = Cluster::new(2, &["demo"]);
    let (one, two) = (cluster.node(0), cluster.node(1));
    let _brokers = (one.broker(), two.broker());
    let workers = ["--workers", "2"];
    let _servers = [one.serve("demo", "s1", &workers), one.serve("demo", "s2", &workers), two.serve("demo", "s3", &[])];

    let text = fanout(one, &["demo", "echo", r#"{"n": 1}"#]);
    assert_eq!((text.code(), text.stderr.as_str()), (0, ""), "{text:?}");
    let mut lines: Vec<_> = text.stdout.lines().collect();
    let summary = lines.pop();
    assert_eq!(summary, Some("accepted by 3 of 3, 0 refused, 0 unacknowledged"), "{text:?}");
    lines.sort_unstable();
    for (line, start) in lines.iter().zip([(&one.host, "s1"), (&one.host, "s2"), (&two.host, "s3")]) {
        let (node, server) = start;
        assert!(line.starts_with(&format!("{node}  {server}  acked in ")) && line.ends_with(" ms"), "{line}");
    }
    assert_eq!(lines.len(), 3, "{text:?}");

    let told = fanout(two, &["demo", "echo", "--json"]);
    assert_eq!((told.code(), told.stderr.as_str()), (0, ""), "{told:?}");
    let objects = objects(&told);
    let shown: Vec<_> = objects.iter().map(|object| (&object["node"], &object["server"], &object["outcome"])).collect();
    let expected = [(&one.host, "s1"), (&one.host, "s2"), (&two.host, "s3")];
    let expected = expected.map(|(node, server)| (json!(node), json!(server), json!("acked")));
    assert_eq!(shown, expected.each_ref().map(|(node, server, outcome)| (node, server, outcome)));
    assert!(objects.iter().all(|object| object["after_ms"].as_f64().is_some_and(|ms| ms > 0.0)), "{told:?}");
}

#[test]
fn one_refusal_is_enough_for_exit_code_4() {
    let cluster = Cluster::new(2, &["demo"]);
    let (one, two) = (cluster.node(0), cluster.node(1));
    // The second node has a broker, but no server.
    let _processes = (one.broker(), two.broker(), one.serve("demo", "s1", &[]));
    let told = fanout(one, &["demo", "echo", "--json"]);
    assert_eq!(told.code(), 4, "{told:?}");
    assert!(told.stderr.starts_with("NoRoute: ") && told.stderr.contains("accepted by 1 of 2"), "{told:?}");
    let objects = objects(&told);
    assert_eq!((objects.len(), &objects[0]["outcome"]), (2, &json!("acked")), "{told:?}");
    let refused = &objects[1];
    assert_eq!((&refused["node"], &refused["server"]), (&json!(two.host), &Value::Null), "{refused}");
    assert_eq!((&refused["outcome"], &refused["reason"]), (&json!("refused"), &json!("NoRoute")), "{refused}");

    let nowhere = fanout(one, &["elsewhere", "echo"]);
    assert_eq!(nowhere.code(), 4, "{nowhere:?}");
    assert!(nowhere.stderr.starts_with("NoRoute: ") && nowhere.stdout.contains("-  -  refused after "), "{nowhere:?}");
}

#[test]
fn a_missing_answer_is_exit_code_5() {
    let cluster = Cluster::new(2, &["demo"]);
    let (one, two) = (cluster.node(0), cluster.node(1));
    let _one = (one.broker(), one.serve("demo", "s1", &[]));
    let (_broker, server) = (two.broker(), two.serve("demo", "s2", &[]));
    // The server is connected and does not answer.
    server.signal(Signal::STOP);
    let told = fanout(one, &["demo", "echo", "--timeout", "2"]);
    assert_eq!(told.code(), 5, "{told:?}");
    assert!(told.stderr.starts_with("Unacknowledged: "), "{told:?}");
    assert!(told.stdout.contains("s1  acked in ") && told.stdout.contains("unacknowledged: "), "{told:?}");
    assert!(told.stdout.contains("accepted by 1 of 2, 0 refused, 1 unacknowledged"), "{told:?}");
}

#[test]
fn mistakes_of_the_caller_exit_with_2() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    for arguments in [
        &["demo", "echo", "{bad"][..],
        &["a/b", "echo"],
        &["demo", "a b"],
        &["demo"],
        &["demo", "echo", "--server", "s1"],
    ] {
        let told = fanout(node, arguments);
        assert_eq!((told.code(), told.stdout.as_str()), (2, ""), "{arguments:?}: {told:?}");
    }
}
