//! Proves what the tool `zmqv2` prints, where it prints it, and its exit codes.

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_tests::{Cluster, Finished, Node, PATIENCE, Process, binary, eventually};

fn json_of(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[track_caller]
fn succeeds(node: &Node, arguments: &[&str]) -> Value {
    let finished = node.tool(arguments);
    assert_eq!(finished.code(), 0, "{arguments:?}: {finished:?}");
    assert_eq!(finished.stderr, "", "{arguments:?}: something beside the reply");
    json_of(&finished)
}

/// The exit code is `code`, nothing is on stdout, and stderr starts with `start`.
#[track_caller]
fn fails(node: &Node, arguments: &[&str], code: i32, start: &str) -> String {
    let finished = node.tool(arguments);
    assert_eq!(finished.code(), code, "{arguments:?}: {finished:?}");
    assert_eq!(finished.stdout, "", "{arguments:?}");
    assert!(finished.stderr.starts_with(start), "{arguments:?}: {}", finished.stderr);
    finished.stderr
}

#[test]
fn a_reply_is_the_only_thing_on_stdout() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    assert_eq!(succeeds(node, &["call", "demo", "echo"]), json!({}));
    let args = json!({"text": "line\nbreak \u{e9}\u{1f980} \u{0}", "deep": [[[1.5, null, true]]]});
    assert_eq!(succeeds(node, &["call", "demo", "echo", &args.to_string()]), args);
    // Digits beyond those of a float, and the order of keys, come back as they were sent.
    let exact = r#"{"z": 123456789012345678901234567890, "a": 1.10}"#;
    let finished = node.tool(&["call", "demo", "echo", exact]);
    assert_eq!((finished.code(), finished.stdout.trim_end()), (0, exact));
    let slept = succeeds(node, &["call", "demo", "sleep", "0.05"]);
    assert!(slept["slept_s"].as_f64().is_some_and(|s| s >= 0.05), "{slept}");

    let told = node.tool(&["call", "demo", "echo", "1", "--verbose"]);
    assert_eq!((told.code(), told.stdout.as_str()), (0, "1\n"));
    assert!(told.stderr.contains("answered by s1 at node") && told.stderr.contains(" ms"), "{}", told.stderr);
}

#[test]
fn mistakes_of_the_caller_exit_with_2_before_anything_is_sent() {
    // No broker runs, so anything that is sent would end with 5.
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    fails(node, &["call", "demo", "echo", "{bad"], 2, "the arguments are not JSON");
    fails(node, &["call", "demo", "echo", "1 2"], 2, "the arguments are not JSON");
    let long = "x".repeat(10_000);
    for topic in ["../x", "", ".", "..", "a/b", "a\\b", "a b", "a\u{e9}", "a\n", &long] {
        let told = fails(node, &["call", topic, "echo"], 2, "invalid topic");
        assert!(told.len() < 300, "{} bytes for a bad name", told.len());
        fails(node, &["serve", topic], 2, "invalid topic");
        fails(node, &["ping", topic], 2, "invalid topic");
        fails(node, &["call", "demo", "echo", "--server", topic], 2, "invalid server");
        fails(node, &["call", "demo", "echo", "--exchange", topic], 2, "invalid exchange");
        fails(node, &["call", "demo", "echo", "--namespace", topic], 2, "invalid namespace");
        fails(node, &["call", "demo", topic], 2, "invalid method");
    }
    assert!(fails(node, &["call", &long, "echo"], 2, "").contains("10000 bytes, the limit is 255"));
    for timeout in ["0", "-1", "x", "", "nan", "inf", "1e99", "99999999999"] {
        let flag = format!("--timeout={timeout}");
        assert!(fails(node, &["call", "demo", "echo", &flag], 2, "error: ").contains("seconds"), "{timeout}");
    }
    for version in ["1", "1.2.3", "x", "-1.0", "1.99999999999"] {
        let flag = format!("--version={version}");
        assert!(fails(node, &["call", "demo", "echo", &flag], 2, "error: ").contains("MAJOR.MINOR"), "{version}");
    }
    for workers in ["0", "4097"] {
        assert!(
            fails(node, &["serve", "demo", "--workers", workers], 2, "")
                .contains(&format!("\n{workers} workers asked for; allowed are 1 to 4096"))
        );
    }
    assert!(fails(node, &["status", "--log-level", "loud"], 2, "error: ").contains("allowed are off, error, warn"));
    fails(node, &["call", "demo"], 2, "error: ");
    fails(node, &["call", "demo", "echo", "--set", "no_such_option=1"], 2, "flag --set: there is no option");
    fails(node, &["nothing"], 2, "error: ");
    fails(node, &[], 2, "");
}

#[test]
fn the_result_of_a_call_decides_the_exit_code() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let call = |more: &[&'static str]| [&["call"], more].concat();
    for arguments in [call(&["demo", "echo", "--timeout", "0.2"]), vec!["ping", "demo", "--timeout", "0.2"]] {
        let told = fails(node, &arguments, 5, "Unreachable: ");
        assert!(told.contains("zmqv2-broker"), "{told}");
    }
    assert!(fails(node, &["status"], 5, "Unreachable: ").contains("is zmqv2-broker running there"));

    let _broker = node.broker();
    fails(node, &call(&["demo", "echo"]), 4, "NoRoute: ");
    // The directory knows no node for it.
    fails(node, &call(&["elsewhere", "echo"]), 4, "NoRoute: ");
    let mut server = node.serve("demo", "s1", &["--namespace", "ns", "--version", "1.3"]);
    let ns = |more: &[&'static str]| [&["call", "demo", "--namespace", "ns"], more].concat();
    assert_eq!(succeeds(node, &ns(&["echo", "1", "--version", "1.3"])), 1);
    assert_eq!(succeeds(node, &ns(&["echo", "1", "--server", "s1"])), 1);
    fails(node, &ns(&["echo", "1", "--server", "s2"]), 4, "NoRoute: ");
    fails(node, &ns(&["echo", "1", "--exchange", "other"]), 4, "NoRoute: ");

    let told = fails(node, &ns(&["fail", "\"as asked\""]), 3, "remote error: ");
    assert!(told.contains("as asked"), "{told}");
    for (arguments, class) in [
        (ns(&["nothing"]), "NoSuchMethod"),
        (ns(&["echo", "1", "--version", "1.4"]), "UnsupportedVersion"),
        (ns(&["echo", "1", "--version", "2.0"]), "UnsupportedVersion"),
        (call(&["demo", "echo"]), "UnsupportedVersion"),
    ] {
        fails(node, &arguments, 3, class);
    }
    fails(node, &ns(&["sleep", "30", "--timeout", "1"]), 5, "Timeout: ");
    let big = format!("\"{}\"", "x".repeat(5_000));
    let told = fails(node, &["call", "demo", "echo", &big, "--set", "rpc_zmq_max_message_bytes=1024"], 4, "TooLarge: ");
    assert!(told.contains("1024"), "{told}");

    server.kill9();
    eventually("the broker notices", || node.tool(&ns(&["echo"])).code() == 4);
}

#[test]
fn a_monitored_call_ends_soon_when_its_broker_falls_silent() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (broker, _server) = (node.broker(), node.serve("demo", "s1", &[]));
    let arguments = ["call", "demo", "sleep", "100", "--timeout", "200", "--call-monitor-timeout", "0.5"];
    let mut call = Process::start("call", &mut node.command("zmqv2", &arguments));
    eventually("the call is in flight", || node.status().in_flight == 1);
    broker.signal(Signal::STOP);
    assert_eq!(call.wait_end(PATIENCE).code(), Some(5), "{}", call.stderr());
    call.wait_for_line("Timeout: ");
    fails(node, &["call", "demo", "echo", "--call-monitor-timeout", "0"], 2, "error: ");
}

#[test]
fn ping_says_who_answered() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _one, _two) = (node.broker(), node.serve("demo", "s1", &[]), node.serve("demo", "host@backend", &[]));
    let pong = node.tool(&["ping", "demo", "--server", "host@backend"]);
    assert_eq!(pong.code(), 0, "{pong:?}");
    assert!(pong.stdout.starts_with("pong, answered by host@backend at node "), "{pong:?}");
    assert_eq!(node.tool(&["ping", "demo"]).code(), 0);
    fails(node, &["ping", "demo", "--server", "s3"], 4, "NoRoute: ");
}

#[test]
fn status_shows_what_the_broker_holds() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (broker, server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    // The process of the server outlives the caller, so it is still busy.
    let sleeper = Process::start("caller", &mut node.command("zmqv2", &["call", "demo", "sleep", "20"]));
    eventually("the sleep is in flight", || node.status().in_flight == 1);
    fails(node, &["call", "nobody", "echo"], 4, "NoRoute: ");

    let report = succeeds(node, &["status", "--json"]);
    assert_eq!((&report["version"], &report["pid"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(broker.id())));
    assert_eq!((&report["node"], &report["draining"]), (&json!(node.host), &json!(false)));
    assert!(report["uptime_s"].as_f64().is_some_and(|s| s > 0.0 && s < 60.0), "{report}");
    assert_eq!(report["listening"][0], format!("tcp://{}:9501", node.host));
    assert_eq!((&report["in_flight"], &report["queued"]), (&json!(1), &json!(0)));
    let shown = &report["topics"][0];
    assert_eq!((&shown["exchange"], &shown["topic"]), (&json!("openstack"), &json!("demo")));
    let shown = &shown["servers"][0];
    assert_eq!((&shown["server"], &shown["pid"]), (&json!("s1"), &json!(server.id())));
    assert_eq!((&shown["workers_ready"], &shown["workers_busy"]), (&json!(1), &json!(1)));
    let counters = &report["counters"];
    assert_eq!((&counters["delivered"], &counters["servers_registered"]), (&json!(1), &json!(1)), "{counters}");

    let text = node.tool(&["status"]);
    assert_eq!((text.code(), text.stderr.as_str()), (0, ""));
    for part in [
        format!("broker of node {}, version {}, process {}", node.host, env!("CARGO_PKG_VERSION"), broker.id()),
        "1 requests in flight, 0 waiting".to_owned(),
        "openstack/demo: 0 waiting".to_owned(),
        format!("s1: 1 workers ready, 1 busy, 0 waiting for it, process {}", server.id()),
        "delivered 1".to_owned(),
    ] {
        assert!(text.stdout.contains(&part), "no {part:?} in:\n{}", text.stdout);
    }
    drop(sleeper);
}

#[test]
fn ready_lines_name_what_is_ready_and_where() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    // Clients of the same node do not need the port, so any will do in the ring.
    cluster.write_ring([("demo".to_owned(), json!([format!("{}:9", node.host)]))].into_iter().collect());
    let broker = node.broker_with(&["--port", "0"]);
    let line = broker.wait_for_line("ready");
    let port = line.split(&format!("listens at tcp://{}:", node.host)).nth(1).and_then(|rest| rest.split(',').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
    assert!(port > 0);
    std::net::TcpStream::connect((node.host.as_str(), port)).expect("the port that was named is open");
    let server = node.serve("demo", "s1", &["--exchange", "nova"]);
    assert_eq!(server.wait_for_line("ready"), "ready: nova/demo at s1 takes requests");
    assert_eq!(succeeds(node, &["call", "demo", "echo", "--exchange", "nova"]), json!({}));
    fails(node, &["call", "demo", "echo"], 4, "NoRoute: ");
}

#[test]
fn every_command_explains_itself() {
    let commands: [(&str, &[&str]); 13] = [
        ("zmqv2-broker", &[]),
        ("zmqv2", &[]),
        ("zmqv2", &["demo"]),
        ("zmqv2", &["broker"]),
        ("zmqv2", &["serve"]),
        ("zmqv2", &["call"]),
        ("zmqv2", &["cast"]),
        ("zmqv2", &["fanout"]),
        ("zmqv2", &["notify"]),
        ("zmqv2", &["listen"]),
        ("zmqv2", &["bench"]),
        ("zmqv2", &["ping"]),
        ("zmqv2", &["status"]),
    ];
    for (program, command) in commands {
        let help = Process::run(std::process::Command::new(binary(program)).args(command).arg("--help"));
        assert_eq!((help.code(), help.stderr.as_str()), (0, ""), "{program} {command:?}");
        for flag in ["Usage: ", "--config-file", "--ipc-dir", "--log-level"] {
            assert!(help.stdout.contains(flag), "{program} {command:?} has no {flag}");
        }
        if ["fanout", "notify", "listen", "bench"].iter().any(|new| command.first() == Some(new)) {
            assert!(help.stdout.contains("Exit codes: 0 "), "{command:?} does not say what its exit codes mean");
        }
    }
    for program in ["zmqv2", "zmqv2-broker"] {
        let version = Process::run(std::process::Command::new(binary(program)).arg("--version"));
        assert_eq!(version.stdout.trim_end(), format!("{program} {}", env!("CARGO_PKG_VERSION")));
        assert_eq!(version.code(), 0);
    }
}
