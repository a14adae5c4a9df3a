//! Proves for `zmqv2 bench`: every message counts once, no waiting time is left out of the latency,
//! and it ends in order.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use zmqv2_tests::terminal::{Stream, run_at_terminal};
use zmqv2_tests::{Cluster, Finished, Node, PATIENCE, Process, eventually, now};

const FIELDS: [&str; 13] = [
    "pattern",
    "duration_s",
    "rate",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "ok",
    "refused",
    "unacknowledged",
    "timeouts",
    "errors",
];

/// The one object of the result, which has exactly its fields.
#[track_caller]
fn result(text: &str) -> Value {
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    let result: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut names: Vec<_> = result.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = FIELDS.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    result
}

#[track_caller]
fn bench(node: &Node, arguments: &[&str], code: i32) -> (Value, String) {
    let finished = node.tool(&[&["bench"], arguments, &["--json"]].concat());
    assert_eq!(finished.code(), code, "{arguments:?}: {finished:?}");
    (result(&finished.stdout), finished.stderr)
}

fn number(result: &Value, name: &str) -> f64 {
    result[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {result}"))
}

/// The number of messages that have ended in any way.
fn total(result: &Value) -> u64 {
    ["ok", "refused", "unacknowledged", "timeouts", "errors"].iter().map(|name| number(result, name) as u64).sum()
}

fn counter(node: &Node, name: &str) -> u64 {
    node.status().counters.get(name).copied().unwrap_or(0)
}

#[test]
fn every_message_is_counted_once() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "4"]));
    // The messages before the measurement: one of each thread.
    for (pattern, concurrency, warm_up) in [("call", "3", 3), ("cast", "8", 1), ("fanout", "8", 1)] {
        let before = counter(node, "delivered");
        let arguments = [pattern, "demo", "--duration", "0.5", "--concurrency", concurrency];
        let (result, told) = bench(node, &arguments, 0);
        assert_eq!(told, "", "{result}");
        let sent = counter(node, "delivered") - before - warm_up;
        assert_eq!((total(&result), number(&result, "ok") as u64), (sent, sent), "{result}");
        assert_eq!(result["pattern"], pattern);
        let span = number(&result, "duration_s");
        assert!((0.5..5.0).contains(&span), "{result}");
        let rate = number(&result, "rate");
        assert!(rate > 0.0 && rate * span <= sent as f64 * 1.01, "{result}");
        let latencies = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| number(&result, name));
        assert!(latencies[0] > 1.0 && latencies.is_sorted(), "{result}");
        assert!(latencies[4] < 1e6 * (span + 5.0), "{result}");
    }
}

#[test]
fn a_rate_is_held() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "4"]));
    for pattern in ["call", "cast", "fanout"] {
        let (result, _) = bench(node, &[pattern, "demo", "--duration", "1", "--rate", "50"], 0);
        let ok = number(&result, "ok");
        assert!((40.0..=50.0).contains(&ok), "50 are due in a second: {result}");
        assert!((ok - 10.0..=50.0).contains(&number(&result, "rate")), "{result}");
    }
}

#[test]
fn a_slow_service_does_not_hide_behind_a_sender_that_waits_for_it() {
    let cluster = Cluster::new(1, &["slow"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _server = node.serve("slow", "s1", &["--workers", "1", "--exec", "sleep 0.1; echo 1"]);
    let common = ["--duration", "1", "--concurrency", "1"];
    let (closed, _) = bench(node, &[&["call", "slow"][..], &common].concat(), 0);
    let (open, _) = bench(node, &[&["call", "slow", "--rate", "100"][..], &common].concat(), 0);
    // A call takes a tenth of a second, but the tenth message was due after a tenth of a second.
    assert!(number(&open, "rate") < 20.0 && number(&open, "p50_us") > 100_000.0, "{open}");
    assert!(number(&open, "max_us") > 600_000.0, "closed: {closed}, open: {open}");
}

#[test]
fn failures_are_counted_by_kind_and_decide_the_exit_code() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let run = |arguments: &[&str], code, kind: &str, start: &str| {
        let (result, told) = bench(node, &[arguments, &["--duration", "0.3"]].concat(), code);
        assert!(number(&result, kind) > 0.0, "{arguments:?}: {result}");
        assert_eq!(total(&result), number(&result, kind) as u64, "{arguments:?}: {result}");
        assert_eq!((number(&result, "rate"), &result["p50_us"]), (0.0, &Value::Null), "{result}");
        let lines: Vec<_> = told.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with(start), "the first of its kind, and the sum: {told}");
        assert!(lines[0].contains(kind) && lines[1].starts_with("nothing was ok; "), "{told}");
    };
    run(&["call", "demo", "--timeout", "0.2"], 5, "errors", "Unreachable: ");
    run(&["cast", "demo", "--timeout", "0.2"], 5, "unacknowledged", "Unacknowledged: ");
    run(&["fanout", "demo", "--timeout", "0.2"], 5, "unacknowledged", "Unacknowledged: ");
    let broker = node.broker();
    for pattern in ["call", "cast", "fanout"] {
        run(&[pattern, "demo"], 4, "refused", "NoRoute: ");
        // The directory knows no node for it.
        run(&[pattern, "elsewhere"], 4, "refused", "NoRoute: ");
        run(
            &[pattern, "demo", "--set", "rpc_zmq_max_message_bytes=1024", "--size", "2000"],
            4,
            "refused",
            "TooLarge: ",
        );
    }
    // More workers than sleeping calls, so that none waits for a worker until it expires.
    let server = node.serve("demo", "s1", &["--workers", "32"]);
    run(&["call", "demo", "fail"], 3, "errors", "remote error: ");
    // A call of `sleep` takes a second.
    run(&["call", "demo", "sleep", "--timeout", "0.4", "--concurrency", "2"], 5, "timeouts", "Timeout: ");
    drop((server, broker));
}

#[test]
fn one_success_is_enough_for_exit_code_0() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    // The warm-up and the first message succeed, all others fail.
    let script = format!("echo >> {0}; test $(wc -l < {0}) -le 2 || exit 1; echo 1", seen.display());
    let _server = node.serve("demo", "s1", &["--workers", "1", "--exec", &script]);
    let (result, told) = bench(node, &["call", "demo", "--duration", "0.5"], 0);
    assert_eq!(number(&result, "ok"), 1.0, "{result}");
    assert!(number(&result, "errors") > 0.0, "{result}");
    assert!(told.lines().count() == 1 && told.starts_with("remote error: "), "{told}");
}

fn interrupted(node: &Node, arguments: &[&str], ready: impl FnMut() -> bool) -> (i32, Value, String) {
    let mut run = Process::start("bench", &mut node.command("zmqv2", &[&["bench"], arguments].concat()));
    eventually("the run is under way", ready);
    run.signal(Signal::INT);
    let began = now();
    let code = run.wait_end(PATIENCE).code().unwrap_or(-1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    (code, result(&run.stdout_to_end()), run.stderr())
}

#[test]
fn an_interrupted_run_prints_its_result() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    let mut before = 0;
    for pattern in ["call", "cast"] {
        let arguments = [pattern, "demo", "--duration", "600", "--rate", "200", "--json"];
        // More messages than the warm-up of both patterns.
        let (code, result, told) = interrupted(node, &arguments, || counter(node, "delivered") > before + 80);
        assert_eq!((code, told.as_str()), (0, ""), "{result}");
        assert!(number(&result, "duration_s") < 60.0 && number(&result, "ok") > 0.0, "{result}");
        assert_eq!(total(&result), number(&result, "ok") as u64, "what was on its way has ended well: {result}");
        before = counter(node, "delivered");
    }
}

#[test]
fn an_interrupted_run_does_not_wait_for_a_service_that_does_not_answer() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let dir = tempfile::tempdir().unwrap();
    let warm = dir.path().join("warm");
    let script = format!("test -e {0} && sleep 1000; touch {0}; echo 1", warm.display());
    let _server = node.serve("demo", "s1", &["--workers", "1", "--exec", &script]);
    let arguments = ["call", "demo", "--duration", "600", "--timeout", "300", "--json"];
    let (code, result, told) = interrupted(node, &arguments, || counter(node, "delivered") == 2);
    assert_eq!((code, total(&result), &result["timeouts"]), (5, 1, &Value::from(1)), "{result}");
    assert_eq!(told, "nothing was ok; timeouts: 1");
}

#[test]
fn a_run_prints_a_table() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "1"]));
    let Finished { stdout, stderr, .. } = node.tool(&["bench", "call", "demo", "--duration", "0.2", "--size", "0"]);
    assert_eq!(stderr, "", "stderr is no terminal");
    let names: Vec<_> = stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected =
        ["rate", "p50", "p90", "p99", "p99.9", "max", "ok", "refused", "unacknowledged", "timeouts", "errors"];
    assert_eq!(names, expected, "{stdout}");
    assert!(stdout.lines().all(|line| line == line.trim_end()), "{stdout:?}");
}

#[test]
fn a_terminal_shows_progress() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    let command = node.command("zmqv2", &["bench", "call", "demo", "--duration", "2.5", "--rate", "100", "--json"]);
    let (status, shown, stdout) = run_at_terminal(command, Stream::Stderr);
    assert!(status.success());
    result(&stdout);
    for part in ["\r\x1b[K1 s: ", "\r\x1b[K2 s: ", " ok, ", " in the last second", "p99 "] {
        assert!(shown.contains(part), "no {part:?} in {shown:?}");
    }
    assert!(shown.ends_with("\r\x1b[K") && !shown.contains('\n'), "one line, cleared at the end: {shown:?}");
}

#[test]
fn mistakes_of_the_caller_exit_with_2_before_anything_is_sent() {
    // No broker runs, so anything that is sent would end with 5.
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    for (flag, values) in [
        ("--rate", &["0", "-1", "x", "nan", "inf", ""][..]),
        ("--concurrency", &["0", "-1", "x", "10001"]),
        ("--size", &["-1", "x", "1073741825"]),
        ("--duration", &["0", "-1", "x", "nan"]),
        ("--timeout", &["0", "x"]),
    ] {
        for value in values {
            let finished = node.tool(&["bench", "call", "demo", &format!("{flag}={value}")]);
            assert_eq!(finished.code(), 2, "{flag} {value}: {finished:?}");
            assert!(finished.stdout.is_empty() && finished.stderr.contains(flag), "{finished:?}");
        }
    }
    for arguments in [
        &["call", "a/b"][..],
        &["cast", "demo", "a b"],
        &["fanout", "demo", "--server", "s1"],
        &["call"],
        &["shout", "demo"],
        &[],
    ] {
        let finished = node.tool(&[&["bench"], arguments].concat());
        assert_eq!((finished.code(), finished.stdout.as_str()), (2, ""), "{arguments:?}: {finished:?}");
    }
}
