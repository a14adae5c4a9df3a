//! Proves for `zmqv2 serve --exec` that any script is a service, and that no script outlives its
//! deadline.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::{RequestContext, Target};
use zmqv2_tests::kernel::is_alive;
use zmqv2_tests::{Cluster, PATIENCE, Process, eventually, now};

/// A node with one server that runs `command` with one worker, and a client of it.
struct Script {
    _cluster: Cluster,
    _broker: Process,
    server: Process,
    client: RpcClient,
}

fn script(command: &str) -> Script {
    let cluster = Cluster::new(1, &["script"]);
    let node = cluster.node(0);
    let broker = node.broker();
    let server = node.serve("script", "s1", &["--workers", "1", "--exec", command]);
    let client = node.client(Target::topic("script").unwrap());
    Script { _cluster: cluster, _broker: broker, server, client }
}

impl Script {
    fn call(&self, args: &Value) -> Result<Value, CallError> {
        self.client.call(&RequestContext::new().with("user", "ann"), "method", args)
    }

    fn call_within(&self, timeout: Duration, args: &Value) -> Result<Value, CallError> {
        self.client.prepare().timeout(timeout).call(&RequestContext::new(), "method", args)
    }
}

#[track_caller]
fn remote(result: Result<Value, CallError>) -> (String, String) {
    match result {
        Err(CallError::Remote(error)) => (error.original_class().to_owned(), error.message().to_owned()),
        other => panic!("no remote error but {other:?}"),
    }
}

/// The process id that a script wrote into `file`.
fn pid_in(file: &Path) -> u32 {
    let mut pid = None;
    eventually("the script prints its process id", || {
        pid = std::fs::read_to_string(file)
            .ok()
            .filter(|text| text.ends_with('\n'))
            .and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    pid.unwrap()
}

#[test]
fn the_command_reads_the_request_and_its_output_is_the_reply() {
    let cat = script("cat");
    let seen = cat.call(&json!({"x": [1, 2]})).unwrap();
    assert_eq!((&seen["method"], &seen["args"]), (&json!("method"), &json!({"x": [1, 2]})));
    assert_eq!((&seen["context"]["user"], &seen["version"]), (&json!("ann"), &json!("1.0")));
    assert_eq!(seen["namespace"], Value::Null);
    assert!(seen["seconds_left"].as_f64().is_some_and(|s| s > 0.0), "{seen}");
    assert_eq!(seen["message_id"].as_str().map(str::len), Some(32));
}

#[test]
fn a_megabyte_goes_through_both_pipes() {
    let cat = script("cat");
    let big = json!("x".repeat(1 << 20));
    assert_eq!(cat.call(&big).unwrap()["args"], big);
    // The command fills its output before it reads any of its input.
    let eager = script("head -c 1000000 /dev/zero | tr '\\0' 1; cat >/dev/null");
    assert_eq!(
        eager.client.call::<Box<serde_json::value::RawValue>>(&RequestContext::new(), "m", &big).unwrap().get().len(),
        1_000_000
    );
}

#[test]
fn a_command_may_ignore_its_input() {
    let deaf = script("echo '\"done\"'");
    let big = json!("x".repeat(1 << 20));
    for _ in 0..3 {
        assert_eq!(deaf.call(&big).unwrap(), "done");
    }
    let closed = script("exec <&-; echo 7");
    assert_eq!(closed.call(&big).unwrap(), 7);
}

#[test]
fn a_failure_carries_what_the_command_printed_on_stderr() {
    let broken = script("echo '{\"never\": \"seen\"}'; echo 'disk on fire' >&2; exit 7");
    let Err(CallError::Remote(error)) = broken.call(&json!({})) else { panic!("no remote error") };
    assert_eq!((error.original_class(), error.message()), ("CommandFailed", "disk on fire"));
    assert!(error.to_string().contains("disk on fire"), "{error}");
    let (class, message) = remote(script("exit 3").call(&json!({})));
    assert_eq!((class.as_str(), message.as_str()), ("CommandFailed", "exit 3: exit status 3"));
    let (class, message) = remote(script("kill -9 $$").call(&json!({})));
    assert_eq!((class.as_str(), message.as_str()), ("CommandFailed", "kill -9 $$: signal 9"));
    let (_, message) = remote(script("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1").call(&json!({})));
    assert_eq!(message.len(), 64 * 1024, "stderr is bounded");
    let (class, _) = remote(script("no-such-command-anywhere").call(&json!({})));
    assert_eq!(class, "CommandFailed");
}

#[test]
fn output_that_is_no_json_is_an_error_that_says_so() {
    for command in ["echo hello there", "true", "echo 1 2", "printf '\\377'"] {
        let (class, message) = remote(script(command).call(&json!({})));
        assert_eq!(class, "InvalidReply", "{command}");
        assert!(message.contains("did not print JSON") && message.contains(command), "{message}");
    }
}

#[test]
fn a_command_past_its_deadline_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let (parent, child) = (dir.path().join("parent"), dir.path().join("child"));
    let line = format!("echo $$ > {}; sleep 1000 & echo $! > {}; wait", parent.display(), child.display());
    let late = script(&line);
    let began = now();
    // Long enough that the command has written both files.
    let result = late.call_within(Duration::from_secs(2), &json!({}));
    assert!(matches!(result, Err(CallError::Timeout { .. } | CallError::Remote(_))), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for file in [parent, child] {
        let pid = pid_in(&file);
        eventually("the command and its child are gone", || !is_alive(pid));
    }
    assert!(is_alive(late.server.id()));
}

#[test]
fn a_background_process_that_holds_the_output_delays_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("child");
    // The shell ends at once, but its background `sleep` keeps the pipes open. On the second call
    // the file exists.
    let line =
        format!("test -e {0} && echo 2 && exit; sleep 1000 & echo $! > {0}; echo '{{\"a\":1}}'", child.display());
    let leaving = script(&line);
    let began = now();
    // The deadline is far away, so the answers do not wait for it.
    let result = leaving.call_within(Duration::from_secs(8), &json!({}));
    assert_eq!(result.unwrap(), json!({"a": 1}));
    assert_eq!(leaving.call_within(Duration::from_secs(8), &json!({})).unwrap(), 2, "its only worker is free");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let pid = pid_in(&child);
    eventually("what stayed in the background is killed at the deadline", || !is_alive(pid));
    assert!(began.elapsed() > Duration::from_secs(6), "{:?}: it may run until the deadline", began.elapsed());
}

#[test]
fn the_end_of_a_command_is_its_answer_however_it_printed() {
    for (command, expected) in [
        ("printf 12; sleep 1000 &", json!(12)),
        ("printf '[1,'; printf '2]'; sleep 1000 &", json!([1, 2])),
        ("sleep 1000 & head -c 300000 /dev/zero >&2; echo 3", json!(3)),
        // The rest comes from the background.
        ("printf '[1,'; (sleep 0.2; printf '2]') &", json!([1, 2])),
        ("(sleep 0.2; echo 5) &", json!(5)),
    ] {
        let began = now();
        assert_eq!(script(command).call(&json!({})).unwrap(), expected, "{command}");
        assert!(began.elapsed() < Duration::from_secs(20), "{command}: {:?}", began.elapsed());
    }
    for (command, class, part) in [
        ("sleep 1000 & echo broken >&2; exit 3", "CommandFailed", "broken"),
        ("sleep 1000 & echo hello there", "InvalidReply", "did not print JSON"),
        ("sleep 1000 & kill -9 $$", "CommandFailed", "signal 9"),
        ("yes", "InvalidReply", "printed more than"),
    ] {
        let began = now();
        let (got, message) = remote(script(command).call(&json!({})));
        assert!(got == class && message.contains(part), "{command}: {got}: {message}");
        assert!(began.elapsed() < Duration::from_secs(20), "{command}: {:?}", began.elapsed());
    }
    let partial = script("printf '[1,'; sleep 1000 &");
    let result = partial.call_within(Duration::from_secs(1), &json!({}));
    assert!(matches!(result, Err(CallError::Timeout { .. } | CallError::Remote(_))), "{result:?}");
}

#[test]
fn a_request_reaches_the_command_as_it_came() {
    let foreign = r#"{"a":1e999,"b":"\ud800","c":123456789012345678901234567890,"a":2}"#;
    let args: Box<RawValue> = serde_json::from_str(foreign).unwrap();
    let context = RequestContext::new().with("deep", &args);
    let cat = script("cat");
    let seen = cat.client.call::<Box<RawValue>>(&context, "method", &args).unwrap();
    assert_eq!(seen.get().matches(foreign).count(), 2, "{}", seen.get());
}

#[test]
fn no_command_outlives_its_service_however_it_ends() {
    for signal in [Signal::TERM, Signal::KILL] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let line = format!(
            "trap '' TERM; read -r request; case $request in *leave*) sleep 1000 & echo $! > {}; echo 1; exit ;; esac; \
             sleep 1000 & echo $! > {}; echo $$ > {}; wait",
            path("left").display(),
            path("child").display(),
            path("command").display()
        );
        let cluster = Cluster::new(1, &["script"]);
        let node = cluster.node(0);
        let _broker = node.broker();
        let flags = ["--workers", "2", "--set", "rpc_zmq_drain_timeout=0.2", "--exec", &line];
        let mut server = node.serve("script", "s1", &flags);
        let client = node.client(Target::topic("script").unwrap());
        let call = |method: &str| client.call::<Value>(&RequestContext::new(), method, &json!({}));
        assert_eq!(call("leave").unwrap(), 1);
        let pids = std::thread::scope(|scope| {
            let running = scope.spawn(|| call("stay"));
            let pids = ["left", "child", "command"].map(|name| pid_in(&path(name)));
            assert!(pids.iter().all(|pid| is_alive(*pid)));
            server.signal(signal);
            assert!(running.join().unwrap().is_err());
            pids
        });
        server.wait_end(PATIENCE);
        for pid in pids {
            eventually("the processes of the commands are gone", || !is_alive(pid));
        }
    }
}
