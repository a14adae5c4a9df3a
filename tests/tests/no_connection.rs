//! Proves that tool and library say why they cannot reach a broker, at once where it is certain.

use std::fs::{Permissions, set_permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::json;
use zmqv2_client::{CallError, Outcome, RpcClient};
use zmqv2_proto::{NoConnection, RequestContext, Target};
use zmqv2_server::{Methods, RpcServer};
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, binary, now};

/// Every command that sends, and how its error begins.
const SENDING: [(&[&str], &str); 5] = [
    (&["call", "demo", "echo", "--timeout", "600"], "Unreachable: "),
    (&["ping", "demo", "--timeout", "600"], "Unreachable: "),
    (&["cast", "demo", "echo", "--timeout", "600"], "Unacknowledged: "),
    (&["fanout", "demo", "echo", "--timeout", "600"], "Unacknowledged: "),
    (&["notify", "events", "e", "--timeout", "600"], "Unacknowledged: "),
];

/// Runs as a user who may not use what belongs to the user of this test.
fn as_a_stranger(mut command: Command) -> Command {
    if geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

/// The tool with a broker's socket in this directory, for any user.
fn tool_at(dir: &Path, arguments: &[&str], connect_timeout: &str) -> Command {
    let mut tool = Command::new(binary("zmqv2"));
    let timeout = format!("rpc_zmq_connect_timeout={connect_timeout}");
    tool.args(arguments).args(["--set", "rpc_zmq_matchmaker=local", "--set", &timeout, "--ipc-dir"]).arg(dir);
    tool
}

/// All commands fail with this text. `connect_timeout`: how long they may wait for a broker.
#[track_caller]
fn all_say(dir: &Path, connect_timeout: &str, part: &str) {
    let status: (&[&str], &str) = (&["status"], "Unreachable: ");
    for (command, start) in SENDING.into_iter().chain([status]) {
        let finished = Process::run(&mut as_a_stranger(tool_at(dir, command, connect_timeout)));
        assert_eq!(finished.code(), 5, "{command:?}: {finished:?}");
        assert!(finished.stderr.starts_with(start), "{command:?}: {finished:?}");
        assert!(finished.stderr.contains(part), "{command:?}: no {part:?} in {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{command:?}: {}", finished.stderr);
    }
}

fn shared_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory");
    set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("an own directory");
    dir
}

// A command that waited for a connection would wait longer than its test.
#[test]
fn a_local_socket_that_cannot_be_used_is_named_at_once() {
    let dir = shared_dir();
    let socket = dir.path().join("zmqv2-broker.sock");
    std::fs::write(&socket, "").expect("a file");
    all_say(dir.path(), "600", "is not a socket");
    std::fs::remove_file(&socket).expect("a file");
    let _broker = UnixListener::bind(&socket).expect("a socket");
    set_permissions(&socket, Permissions::from_mode(0o0)).expect("an own socket");
    all_say(dir.path(), "600", "permission denied: this user may not use");
}

#[test]
fn a_missing_local_broker_is_explained() {
    let dir = shared_dir();
    all_say(&dir.path().join("none"), "0.2", "there is no directory");
    all_say(dir.path(), "0.2", "there is no socket");
    let socket = dir.path().join("zmqv2-broker.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    set_permissions(&socket, Permissions::from_mode(0o777)).expect("an own socket");
    all_say(dir.path(), "0.2", "its broker has ended and left its socket");
}

#[test]
fn a_server_says_why_it_is_not_registered() {
    let dir = shared_dir();
    let socket = dir.path().join("zmqv2-broker.sock");
    let _broker = UnixListener::bind(&socket).expect("a socket");
    set_permissions(&socket, Permissions::from_mode(0o0)).expect("an own socket");
    set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("an own directory");
    for command in [&["serve", "demo"][..], &["listen", "events"]] {
        let mut tool = as_a_stranger(tool_at(dir.path(), command, "600"));
        let process = Process::start(command[0], &mut tool);
        zmqv2_tests::eventually("it says why", || {
            process.stderr().contains("permission denied: this user may not use")
        });
    }
    let target = Target::topic("demo").and_then(|target| target.with_server("s1")).expect("a target");
    let other = shared_dir();
    let server = RpcServer::builder(target).ipc_dir(other.path()).endpoint(Methods::new()).start().expect("a server");
    let error = server.wait_ready(Duration::from_millis(50)).expect_err("there is no broker").to_string();
    assert!(error.contains("there is no socket"), "{error}");
}

#[test]
fn a_node_that_cannot_be_reached_is_explained() {
    let cluster = Cluster::new(2, &[]);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    let node = cluster.node(0);
    for (place, connect_timeout, part) in [
        ("no-such-host.invalid:9501".to_owned(), "600", "no-such-host.invalid does not resolve"),
        ("127.0.0.1:1".to_owned(), "0.5", "connection refused"),
        (format!("127.0.0.1:{port}"), "0.5", "a program listens there, but does not answer as a broker of zmqv2 does"),
    ] {
        let ring = [("demo", json!([place])), ("events.info", json!([place]))];
        cluster.write_ring(ring.into_iter().map(|(topic, nodes)| (topic.to_owned(), nodes)).collect());
        let timeout = format!("rpc_zmq_connect_timeout={connect_timeout}");
        for (command, start) in SENDING {
            let finished = node.tool(&[command, &["--set", &timeout]].concat());
            assert_eq!(finished.code(), 5, "{command:?}: {finished:?}");
            assert!(finished.stderr.starts_with(start), "{command:?}: {finished:?}");
            assert!(finished.stderr.contains(part), "{command:?}: no {part:?} in {}", finished.stderr);
        }
    }
}

#[test]
fn an_error_of_the_directory_is_printed_once() {
    let dir = shared_dir();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let redis = format!("transport_url=zmqv2+redis://127.0.0.1:{free}");
    for (command, _) in SENDING {
        let mut tool = Command::new(binary("zmqv2"));
        tool.args(command).args(["--set", &redis, "--ipc-dir"]).arg(dir.path());
        let finished = Process::run(&mut tool);
        assert_eq!(finished.code(), 5, "{command:?}: {finished:?}");
        assert!(finished.stderr.starts_with("Directory: "), "{command:?}: {finished:?}");
        assert_eq!(finished.stderr.matches("Connection refused").count(), 1, "{command:?}: {}", finished.stderr);
    }
}

fn client(node: &Node, connect_timeout: Duration) -> RpcClient {
    let client = node.client_with(Target::topic("demo").expect("a topic"), |config| {
        config.connect_timeout = connect_timeout;
    });
    client.prepare().timeout(Duration::from_secs(600))
}

/// A call alone, calls and casts together, a fanout and a notification report this cause.
#[track_caller]
fn the_library_says(node: &Node, connect_timeout: Duration, cause: NoConnection, part: &str) {
    let (client, context) = (client(node, connect_timeout), RequestContext::new());
    let started = now();
    let unreachable = |error: CallError| {
        assert!(matches!(&error, CallError::Unreachable { cause: seen, .. } if *seen == cause), "{error}");
        assert!(error.to_string().contains(part) && !error.may_have_run(), "{error}");
    };
    let unsent = |outcome: &Outcome| {
        assert!(matches!(outcome, Outcome::Unacknowledged { sent: false, .. }), "{outcome}");
        assert!(outcome.to_string().contains(part), "{outcome}");
    };
    unreachable(client.call::<()>(&context, "m", &()).expect_err("nobody is there"));
    let calls: Vec<_> = (0..20).map(|_| client.call_async::<()>(&context, "m", &()).expect("a handle")).collect();
    let casts: Vec<_> = (0..20).map(|_| client.cast(&context, "m", &()).expect("a handle")).collect();
    let fanout = client.fanout(&context, "m", &()).expect("a handle");
    let notifier = client.notifier("here").topics(["events"]).expect("a topic").timeout(PATIENCE * 10);
    let notification = notifier.info(&context, "e", &()).expect("a handle");
    calls.into_iter().for_each(|call| unreachable(call.wait().expect_err("nobody is there")));
    casts.iter().for_each(|cast| unsent(&cast.wait(PATIENCE).expect("no outcome")));
    fanout.wait(PATIENCE).expect("no outcome").results.iter().for_each(|result| unsent(&result.outcome));
    notification.wait(PATIENCE).expect("no outcome").results.iter().for_each(|result| unsent(&result.outcome));
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[test]
fn the_library_names_every_cause_for_every_kind_of_message() {
    let cluster = Cluster::new(1, &["demo", "events.info"]);
    let node = cluster.node(0);
    let (long, brief) = (Duration::from_secs(600), Duration::from_millis(200));
    let socket = node.file("zmqv2-broker.sock");
    the_library_says(node, brief, NoConnection::NoSocket, "there is no socket");
    std::fs::write(&socket, "").expect("a file");
    the_library_says(node, long, NoConnection::NotASocket, "is not a socket");
    std::fs::remove_file(&socket).expect("a file");
    drop(UnixListener::bind(&socket).expect("a socket"));
    the_library_says(node, brief, NoConnection::Abandoned, "left its socket");
    // Root may use every socket. The tool, which uses the library, is tested as another user above.
    if !geteuid().is_root() {
        set_permissions(&socket, Permissions::from_mode(0o0)).expect("an own socket");
        the_library_says(node, long, NoConnection::NotPermitted, "permission denied");
    }
    std::fs::remove_dir_all(&node.ipc_dir).expect("a directory");
    the_library_says(node, brief, NoConnection::NoDirectory, "there is no directory");
}
