//! Proves what the programs that run long do at signals: SIGHUP, SIGUSR1 and SIGUSR2 end none of
//! them, and do what the help says.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_tests::{Cluster, PATIENCE, Process, eventually};

fn wait_for(process: &Process, part: &str) {
    eventually(&format!("{part:?} is in the log"), || process.stderr().contains(part));
}

/// Asks for the state, and returns it.
fn state(process: &Process) -> Value {
    process.signal(Signal::USR2);
    let line = process.wait_for_line("state: ");
    serde_json::from_str(line.trim_start_matches("state: ")).expect("JSON")
}

fn end(mut process: Process) {
    process.signal(Signal::TERM);
    assert!(process.wait_end(PATIENCE).success());
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("a file");
}

#[test]
fn a_broker_reloads_what_can_be_reloaded_and_names_the_rest() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let file = node.file("broker.conf");
    write(&file, "[DEFAULT]\nrpc_zmq_log_level = warn\n");
    let mut broker = node.broker_with(&["--config-file", file.to_str().unwrap()]);
    let server = node.serve("demo", "s1", &["--workers", "2"]);
    assert!(!broker.stderr().contains("s1 serves"), "{}", broker.stderr());

    write(&file, "[DEFAULT]\nrpc_zmq_log_level = info\nrpc_zmq_topic_backlog = 7\n");
    cluster.write_ring([("other".to_owned(), json!([node.host]))].into_iter().collect());
    broker.signal(Signal::HUP);
    wait_for(&broker, "the level of the log is INFO now");
    wait_for(&broker, "rpc_zmq_topic_backlog is 7 now");
    wait_for(&broker, "stays in use until a restart");
    wait_for(&broker, "read again");
    end(node.serve("demo", "s2", &["--workers", "2"]));
    wait_for(&broker, "s2 serves");

    broker.signal(Signal::USR1);
    wait_for(&broker, "SIGUSR1");
    let state = state(&broker);
    assert_eq!(state["node"], node.host.as_str());
    assert_eq!(state["topics"][0]["servers"][0]["server"], "s1");

    write(&file, "[DEFAULT]\nrpc_zmq_log_level = warn\n");
    broker.signal(Signal::HUP);
    wait_for(&broker, "the level of the log is WARN now");
    write(&file, "[DEFAULT]\nrpc_zmq_log_level = loud\n");
    broker.signal(Signal::HUP);
    wait_for(&broker, "the configuration stays as it was");
    wait_for(&broker, "\"loud\"");
    // The reload before this one has ended, so its level counts. The line about SIGUSR1 is INFO.
    broker.signal(Signal::USR1);
    end(server);
    broker.signal(Signal::TERM);
    assert!(broker.wait_end(PATIENCE).success());
    assert_eq!(broker.stderr().matches("SIGUSR1").count(), 1, "{}", broker.stderr());
}

#[test]
fn servers_and_listeners_take_the_same_signals() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let file = node.file("tool.conf");
    write(&file, "[DEFAULT]\nrpc_zmq_log_level = warn\n");
    let flags = ["--config-file", file.to_str().unwrap()];
    let server = node.serve("demo", "s1", &flags);
    let mut listen = node.command("zmqv2", &["listen", "events"]);
    let listener = Process::start("listener", listen.args(flags)).ready();

    write(&file, "[DEFAULT]\nrpc_zmq_log_level = info\nrpc_thread_pool_size = 3\n");
    for process in [&server, &listener] {
        process.signal(Signal::HUP);
        wait_for(process, "the level of the log is INFO now");
        wait_for(process, "rpc_thread_pool_size is 3 now");
        process.signal(Signal::USR1);
        wait_for(process, "SIGUSR1");
    }
    let (served, listened) = (state(&server), state(&listener));
    assert_eq!((&served["ready"], &listened["ready"]), (&json!(true), &json!(true)));
    assert!(served["target"].as_str().is_some_and(|target| target.contains("demo")), "{served}");
    assert_eq!(listened["topics"], json!(["events"]));
    assert_eq!(node.tool(&["call", "demo", "echo", "7"]).stdout, "7\n");
    end(listener);
    end(server);
}

#[test]
fn a_flag_wins_over_a_reloaded_level() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let file = node.file("broker.conf");
    write(&file, "");
    let broker = node.broker_with(&["--config-file", file.to_str().unwrap(), "--log-level", "info"]);
    write(&file, "[DEFAULT]\nrpc_zmq_log_level = error\n");
    broker.signal(Signal::HUP);
    wait_for(&broker, "no option has changed that needs a restart");
    broker.signal(Signal::USR1);
    wait_for(&broker, "SIGUSR1");
    end(broker);
}
