//! Proves that no socket file of a dead server stays: however it died, and whether a broker was
//! there or not.

use std::os::unix::net::UnixListener;

use zmqv2_tests::kernel::names_in;
use zmqv2_tests::{Cluster, Node, Process, eventually};

/// The socket files of servers.
fn worker_files(node: &Node) -> Vec<String> {
    names_in(&node.ipc_dir)
        .into_iter()
        .filter(|name| name.starts_with("zmqv2-") && !name.starts_with("zmqv2-broker"))
        .collect()
}

fn all_gone(node: &Node, why: &str) {
    eventually(&format!("no file is left: {why}"), || worker_files(node).is_empty());
}

#[test]
fn files_of_killed_servers_and_listeners_are_removed() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let broker = node.broker();
    for round in 0..10 {
        let mut server = node.serve("demo", "s1", &["--workers", "4"]);
        let mut listener = Process::start("listener", &mut node.command("zmqv2", &["listen", "events"])).ready();
        assert!(!worker_files(node).is_empty());
        server.kill9();
        listener.kill9();
        all_gone(node, &format!("killed in round {round}"));
    }
    // Killed at any moment of the start, also before the broker knows the server.
    for _ in 0..5 {
        let mut early = Process::start("early", &mut node.command("zmqv2", &["serve", "demo"]));
        eventually("it has bound", || !worker_files(node).is_empty());
        early.kill9();
        all_gone(node, "killed at the start");
    }
    drop(broker);
}

#[test]
fn files_of_servers_that_never_registered_are_removed_while_a_broker_runs() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    // Before the broker starts, and while it runs.
    drop(UnixListener::bind(node.file("zmqv2-00112233445566aa.0")).unwrap());
    let _broker = node.broker();
    assert_eq!(worker_files(node), Vec::<String>::new());
    drop(UnixListener::bind(node.file("zmqv2-00112233445566ab.63")).unwrap());
    let alive = UnixListener::bind(node.file("zmqv2-00112233445566ac.0")).unwrap();
    eventually("only the living one is left", || worker_files(node) == ["zmqv2-00112233445566ac.0"]);
    drop(alive);
}
