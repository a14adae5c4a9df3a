//! Proves that no number of connections, and no process that has used up its descriptors, ends a
//! broker or a server: what is too much is refused, those of the node are served, and all goes on
//! when descriptors are free again (P9).

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_server::Verdict;
use zmqv2_tests::kernel::names_in;
use zmqv2_tests::notifications::NotificationLog;
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually, now, wait_until};

/// The same command with this limit of open files, which it cannot raise.
fn limited(limits: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{limits} && exec \"$0\" \"$@\"")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn start(name: &str, limits: &str, command: &Command) -> Process {
    Process::start(name, &mut limited(limits, command)).ready()
}

fn open_files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("a living process").count()
}

fn refused(node: &Node) -> u64 {
    node.status().counters["connections_refused"]
}

/// The processes of the node are served, also those that start now.
fn assert_local_is_served(node: &Node, number: usize) {
    let name = format!("late-{number}");
    let server = node.serve("demo", &name, &["--workers", "8"]);
    let answer = node.tool(&["call", "demo", "echo", "7", "--server", &name]);
    assert_eq!((answer.code(), answer.stdout.as_str()), (0, "7\n"), "{answer:?}");
    drop(server);
}

fn assert_network_is_served(node: &Node) {
    let address = format!("{}:9501", node.host);
    eventually("a new connection is accepted", || Zmtp::tcp(&address, "DEALER").is_ok());
}

#[test]
fn connections_up_to_the_limit_leave_room_for_the_node_and_end_nothing() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let broker = start("broker", "ulimit -n 256", &node.command("zmqv2-broker", &[]));
    let address = format!("{}:9501", node.host);
    let open: Vec<_> = (0..400).filter_map(|_| Zmtp::tcp(&address, "DEALER").ok()).collect();
    assert!((100..256).contains(&open.len()), "{} were accepted", open.len());
    assert!(refused(node) >= 100);
    assert!(open_files(&broker) < 256 - 64, "{} are open", open_files(&broker));
    for number in 0..3 {
        assert_local_is_served(node, number);
    }
    // It does not spin while it is full.
    let before = broker.cpu_seconds();
    wait_until(now() + Duration::from_secs(2));
    let used = broker.cpu_seconds() - before;
    assert!(used < 0.5, "{used} s of processor time in 2 s");
    eventually("the log says it", || broker.stderr().contains("connections were refused"));
    drop(open);
    assert_network_is_served(node);
}

#[test]
fn a_storm_of_silent_connections_is_survived_and_passes() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = start("broker", "ulimit -n 160", &node.command("zmqv2-broker", &[]));
    let _server = node.serve("demo", "s1", &["--workers", "4"]);
    let address = format!("{}:9501", node.host);
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || (0..500).filter_map(|_| TcpStream::connect(&address).ok()).collect::<Vec<_>>())
        })
        .collect();
    let open: Vec<_> = storm.into_iter().flat_map(|thread| thread.join().expect("a client")).collect();
    eventually("all are looked at", || refused(node) > 1_000);
    assert_local_is_served(node, 0);
    // Silent connections are closed after a while, though their clients keep them.
    assert_network_is_served(node);
    drop(open);
}

#[test]
fn connections_to_the_sockets_of_the_node_end_nothing_either() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let mut broker = start("broker", "ulimit -n 160", &node.command("zmqv2-broker", &[]));
    let mut server = start("server", "ulimit -n 128", &node.command("zmqv2", &["serve", "demo", "--workers", "4"]));
    let call = || node.tool(&["call", "demo", "echo", "7"]);
    eventually("a call is answered", || call().code() == 0);
    let worker = names_in(&node.ipc_dir).into_iter().find(|name| name.ends_with(".0")).expect("a worker's socket");
    let connect = |name: &str| (0..300).filter_map(|_| UnixStream::connect(node.file(name)).ok()).collect::<Vec<_>>();
    let open = [connect(&worker), connect("zmqv2-broker.sock")];
    drop(open);
    eventually("a call is answered again", || call().code() == 0);
    for process in [&mut server, &mut broker] {
        process.signal(Signal::TERM);
        assert!(process.wait_end(PATIENCE).success());
    }
}

/// Takes all free descriptors from a running process, or gives them back.
fn limit(process: &Process, current: u64) {
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap());
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(4_096) });
    assert!(before.is_ok(), "{before:?}");
}

#[test]
fn a_broker_and_a_server_without_any_descriptor_go_on_when_there_are_some_again() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let mut broker = node.broker();
    let server = node.serve("demo", "s1", &["--workers", "4"]);
    let client = node.client(Target::topic("demo").unwrap());
    let call = || client.call::<u8>(&RequestContext::new(), "echo", &7).is_ok();
    assert!(call());

    // Connections that are there work on. A new one is refused, and nothing spins.
    limit(&broker, 4);
    let before = broker.cpu_seconds();
    let refused = node.tool(&["call", "demo", "echo", "7", "--timeout", "2"]);
    assert_ne!(refused.code(), 0, "{refused:?}");
    assert!(call());
    assert!(broker.cpu_seconds() - before < 1.0, "it spins");
    limit(&broker, 1_024);
    eventually("a new client is served", || node.tool(&["call", "demo", "echo", "7"]).code() == 0);

    // The server cannot open a socket for the next broker until it has descriptors again.
    limit(&server, 4);
    broker.kill9();
    let _next = node.broker();
    eventually("the server says so", || server.stderr().contains("cannot connect to the broker, trying again"));
    limit(&server, 1_024);
    eventually("the server is back", call);
}

#[test]
fn listeners_with_many_workers_take_few_descriptors() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    cluster.write_ring([("events.info".to_owned(), json!([node.host]))].into_iter().collect());
    let broker = start("broker", "ulimit -n 1024", &node.command("zmqv2-broker", &[]));
    let heard = NotificationLog::default();
    let listeners: Vec<_> = (0..5)
        .map(|n| {
            let heard = heard.clone();
            let builder = node.listener_builder("events", &format!("pool-{n}")).workers(64);
            builder.on(zmqv2_server::Priority::Info, move |_| {
                heard.add(n);
                Verdict::Handled
            })
        })
        .map(|builder| builder.start().expect("a listener"))
        .collect();
    for listener in &listeners {
        listener.wait_ready(PATIENCE).expect("the broker connects to it");
    }
    assert!(open_files(&broker) < 200, "{} are open", open_files(&broker));
    let sent = node.tool(&["notify", "events", "something", "{}"]);
    assert_eq!(sent.code(), 0, "{sent:?}");
    let mut pools = heard.wait(5);
    pools.sort_unstable();
    assert_eq!(pools, [0, 1, 2, 3, 4]);
}

#[test]
fn a_broker_with_too_few_descriptors_says_what_it_needs() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let finished = Process::run(&mut limited("ulimit -n 100", &node.command("zmqv2-broker", &[])));
    let last = finished.stderr.lines().last().unwrap_or_default();
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(["100", "128", "ulimit -n", "LimitNOFILE"].iter().all(|part| last.contains(part)), "{last}");
    // A client warns, and works.
    let _others = (node.broker(), node.serve("demo", "s1", &[]));
    let answer = Process::run(&mut limited("ulimit -n 80", &node.command("zmqv2", &["call", "demo", "echo", "7"])));
    assert_eq!(answer.stdout, "7\n", "{answer:?}");
    assert!(answer.stderr.contains("may open only 80 files"), "{answer:?}");
}

#[test]
fn the_programs_raise_their_limit_to_what_the_system_allows() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let limits = "ulimit -Sn 140 && ulimit -Hn 512";
    let broker = start("broker", limits, &node.command("zmqv2-broker", &[]));
    let server = start("server", limits, &node.command("zmqv2", &["serve", "demo"]));
    for process in [&broker, &server] {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).expect("limits");
        let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
        assert_eq!(line.split_whitespace().nth(3), Some("512"), "{line}");
    }
    assert!(node.client(Target::topic("demo").unwrap()).call::<u8>(&RequestContext::new(), "echo", &7).is_ok());
}
