//! Proves that the daemon starts where it can, and that it names the obstacle and the remedy where
//! it cannot.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use zmqv2_tests::kernel::names_in;
use zmqv2_tests::{Cluster, Finished, Node, PATIENCE, Process, binary, in_namespaces, skip};

/// Runs a daemon that cannot start. It exits with `code` and without a panic, and its last line has
/// `parts`.
#[track_caller]
fn refuses(node: &Node, flags: &[&str], code: i32, parts: &[&str]) {
    let finished = Process::run(&mut node.command("zmqv2-broker", flags));
    assert_refused(&finished, code, parts);
}

#[track_caller]
fn assert_refused(finished: &Finished, code: i32, parts: &[&str]) {
    assert_eq!(finished.code(), code, "{finished:?}");
    let last_line = finished.stderr.lines().last().unwrap_or_default();
    assert!(!finished.stderr.contains("panicked") && !finished.stderr.contains("\nready"), "{}", finished.stderr);
    assert!(parts.iter().all(|part| last_line.contains(part)), "not all of {parts:?} in {last_line:?}");
    assert_eq!(last_line.matches("os error").count().max(1), 1, "printed twice: {last_line}");
}

/// The same with an option that replaces the node's own flag.
fn bind(address: &str) -> String {
    format!("rpc_zmq_bind_address={address}")
}

#[test]
fn an_address_that_cannot_be_listened_at_is_named_with_what_to_do() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let taken = TcpListener::bind((node.host.as_str(), 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let address = format!("tcp://{}:{port}", node.host);
    refuses(node, &["--port", &port], 1, &["cannot bind", &address, "in use", "rpc_zmq_port"]);
    drop(taken);
    // An address that is reserved for documentation, so no machine has it.
    refuses(
        node,
        &["--set", &bind("192.0.2.1")],
        1,
        &["cannot bind", "192.0.2.1:9501", "this machine has no such address"],
    );
    refuses(
        node,
        &["--set", &bind("no.such.host.invalid")],
        2,
        &["cannot find an address of no.such.host.invalid", "rpc_zmq_bind_address"],
    );
    refuses(node, &["--set", &bind("a b")], 2, &["rpc_zmq_bind_address = \"a b\"", "allowed: "]);
    refuses(node, &["--set", &bind("[::1")], 2, &["rpc_zmq_bind_address", "allowed: "]);
    // None of the failed starts left a lock or a socket that would prevent the next start.
    drop(node.broker_with(&["--port", &port]));
}

#[test]
fn a_socket_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let with = |dir: &str| {
        let set = format!("rpc_zmq_ipc_dir={dir}");
        Process::run(&mut node.command("zmqv2-broker", &["--set", &set]))
    };
    let file = node.file("file");
    std::fs::write(&file, "").unwrap();
    let shown = file.to_str().unwrap();
    assert_refused(&with(shown), 2, &[shown, "is not a directory", "rpc_zmq_ipc_dir"]);
    assert_refused(&with(&format!("{shown}/below")), 2, &[shown, "cannot create", "rpc_zmq_ipc_dir"]);
    assert_refused(&with("/proc/none"), 2, &["/proc/none", "cannot create", "rpc_zmq_ipc_dir"]);
    let long = format!("/tmp/{}", "d".repeat(120));
    assert_refused(&with(&long), 2, &["rpc_zmq_ipc_dir", "125 bytes", "at most 74 bytes"]);
    // Clients and servers print the same.
    let set = format!("rpc_zmq_ipc_dir={long}");
    for command in [&["status"][..], &["call", "demo", "echo"], &["serve", "demo"]] {
        let finished = node.tool(&[command, &["--set", &set]].concat());
        assert_refused(&finished, 2, &["125 bytes", "at most 74 bytes"]);
    }
    // The longest allowed path works, with every socket in it.
    let longest = cluster_dir_of(node).join("e".repeat(74 - cluster_dir_of(node).as_os_str().len() - 1));
    let set = format!("rpc_zmq_ipc_dir={}", longest.display());
    let broker = node.broker_with(&["--set", &set]);
    let server = node.serve("demo", "s1", &["--set", &set, "--workers", "12"]);
    let answer = node.tool(&["call", "demo", "echo", "1", "--set", &set]);
    assert_eq!((answer.code(), answer.stdout.as_str()), (0, "1\n"), "{answer:?}");
    drop((server, broker));
}

fn cluster_dir_of(node: &Node) -> &Path {
    node.ipc_dir.parent().expect("a node's directory is in the cluster's")
}

#[test]
fn a_socket_directory_without_permission_is_refused() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let closed = tempfile::Builder::new().prefix("zq").tempdir().unwrap();
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let set = format!("--set=rpc_zmq_ipc_dir={}", closed.path().display());
    let mut command = Command::new(binary("zmqv2-broker"));
    command.args(["--bind", &node.host, "--port=0", &set]).env_clear();
    let Some(finished) = run_without_privileges(&mut command) else {
        return skip("a_socket_directory_without_permission_is_refused", "the binaries are not readable by others");
    };
    assert_refused(&finished, 2, &["cannot use socket directory", "Permission denied", "rpc_zmq_ipc_dir"]);
}

/// Runs a command as the user nobody if this is root. `None`: that user cannot run the program.
fn run_without_privileges(command: &mut Command) -> Option<Finished> {
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
        let program = Path::new(command.get_program()).to_owned();
        let mut probe = Command::new(program);
        probe.arg("--version").uid(65534).gid(65534);
        probe.output().ok().filter(|output| output.status.success())?;
    }
    Some(Process::run(command))
}

#[test]
fn a_second_broker_on_one_socket_directory_names_the_first_and_leaves_it_alone() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let mut first = node.broker();
    let server = node.serve("demo", "s1", &[]);
    let (pid, address) = (format!("process {}", first.id()), format!("tcp://{}:9501", node.host));
    let dir = node.ipc_dir.to_str().unwrap();
    for _ in 0..3 {
        refuses(node, &["--port", "9502"], 1, &["another broker", dir, &pid, &address, "rpc_zmq_ipc_dir"]);
        let answer = node.tool(&["call", "demo", "echo", "7"]);
        assert_eq!((answer.code(), answer.stdout.as_str()), (0, "7\n"), "{answer:?}");
    }
    // The lock and the sockets of a killed broker do not stop the next one, and the server finds
    // it.
    first.kill9();
    let second = node.broker();
    let answer = node.tool(&["call", "demo", "echo", "8", "--server", "s1"]);
    let answer = if answer.code() == 0 { answer } else { retried(node) };
    assert_eq!(answer.stdout, "8\n", "{answer:?}");
    refuses(node, &["--port", "9502"], 1, &[&format!("process {}", second.id())]);
    drop(server);
}

/// The server may need a moment to find the new broker.
fn retried(node: &Node) -> Finished {
    let mut last = None;
    zmqv2_tests::eventually("the server is back", || {
        let answer = node.tool(&["call", "demo", "echo", "8", "--server", "s1"]);
        last = Some(answer);
        last.as_ref().is_some_and(|answer| answer.code() == 0)
    });
    last.unwrap()
}

#[test]
fn sockets_of_crashed_servers_are_removed_and_nothing_else() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (mut broker, mut server) = (node.broker(), node.serve("demo", "s1", &["--workers", "3"]));
    // Both are killed, so nobody cleans up.
    broker.kill9();
    server.kill9();
    let left = names_in(&node.ipc_dir);
    let workers = left.iter().filter(|name| name.starts_with("zmqv2-") && !name.starts_with("zmqv2-broker")).count();
    // One directory for all three.
    assert_eq!(workers, 1, "{left:?}");
    let living = UnixListener::bind(node.file("zmqv2-0123456789abcdef.0")).unwrap();
    drop(UnixListener::bind(node.file("of-somebody-else.sock")).unwrap());
    std::fs::write(node.file("zmqv2-notes"), "mine").unwrap();
    let mut broker = node.broker();
    let kept =
        ["of-somebody-else.sock", "zmqv2-0123456789abcdef.0", "zmqv2-broker.lock", "zmqv2-broker.sock", "zmqv2-notes"];
    assert_eq!(names_in(&node.ipc_dir), kept);
    drop(living);
    broker.signal(Signal::TERM);
    assert!(broker.wait_end(PATIENCE).success());
}

/// Starts server and broker and makes two calls, without any flag. The server starts first, so it
/// must make the directory.
const WALK_THROUGH: &str = r#"
    "$Z" serve demo 2>serve.log & serve=$!
    "$B" 2>broker.log & broker=$!
    trap 'kill $serve $broker; wait' EXIT
    until grep -q ^ready serve.log; do kill -0 $serve; kill -0 $broker; sleep 0.01; done
    "$Z" call demo echo '{"x": 1}'
    "$Z" ping demo >/dev/null
    grep 'socket directory' broker.log
"#;

#[track_caller]
fn walk_through(prepare: &str, dir: &str, why: &str) {
    let scratch = tempfile::Builder::new().prefix("zq").tempdir().unwrap();
    std::fs::write(scratch.path().join("walk"), WALK_THROUGH).unwrap();
    let Some(mut command) = in_namespaces(&prepare.replace("WALK", "sh -e walk")) else {
        return skip("nothing configured", "no namespaces (unshare) here");
    };
    let finished = Process::run(command.current_dir(scratch.path()));
    let log = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap_or_default();
    assert_eq!(finished.code(), 0, "{finished:?}\n{}\n{}", log("broker.log"), log("serve.log"));
    let (reply, rest) = finished.stdout.split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(reply).unwrap(), json!({"x": 1}));
    assert!(rest.contains(&format!("socket directory {dir}")) && rest.contains(why), "{rest}");
    assert!(log("broker.log").contains("listens at tcp://*:9501, directory local"), "{}", log("broker.log"));
}

#[test]
fn nothing_configured_works_in_the_system_directory() {
    walk_through("WALK", "/var/run/openstack: ", "the default");
}

#[test]
fn nothing_configured_works_in_the_users_runtime_directory() {
    let prepare = "mkdir -m 700 /run/user; touch /run/openstack; XDG_RUNTIME_DIR=/run/user WALK";
    walk_through(prepare, "/run/user/zmqv2: ", "in XDG_RUNTIME_DIR, because");
}

#[test]
fn nothing_configured_works_in_the_temporary_directory() {
    let prepare = "touch /run/openstack; mkdir /run/tmp; XDG_RUNTIME_DIR=/no/such/dir TMPDIR=/run/tmp WALK";
    let uid = if rustix::process::geteuid().is_root() { rustix::process::geteuid().as_raw() } else { 0 };
    walk_through(prepare, &format!("/run/tmp/zmqv2-{uid}: "), "in the temporary directory, because");
}
