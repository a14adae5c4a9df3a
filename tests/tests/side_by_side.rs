//! Proves that both drivers can run on the same nodes, and that a service moves from one to the
//! other, node by node, as `docs/migrating.md` says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_proto::Config;
use zmqv2_tests::kernel::{is_alive, names_in};
use zmqv2_tests::messaging::{Driver, DriverCluster, Failed, Handler, Messaging, OverZmqv2, Running, To};
use zmqv2_tests::notifications::NotificationLog;
use zmqv2_tests::{Finished, PATIENCE, Process, binary, eventually};

/// The page that says what to start, with the names of its files.
const PAGE: &str = include_str!("../../docs/migrating.md");

/// Two nodes with the receivers of the legacy driver, and the files that zmqv2 needs.
struct Nodes {
    nodes: DriverCluster,
    dir: PathBuf,
}

impl Nodes {
    fn start() -> Self {
        let nodes = DriverCluster::start(Driver::Legacy, 2, &["t"], &[]);
        let dir = nodes.cluster().node(0).ring_file().parent().expect("a directory").to_owned();
        let nodes = Self { nodes, dir };
        for n in 0..2 {
            // The configuration file of the existing services.
            let options = nodes.nodes.cluster().node(n).options();
            let (ring, others): (Vec<_>, Vec<_>) = options.iter().partition(|option| option.starts_with("ringfile="));
            let others: Vec<&str> = others.iter().map(|option| option.as_str()).collect();
            let text = format!("[DEFAULT]\n{}\n[matchmaker_ring]\n{}\n", others.join("\n"), ring[0]);
            std::fs::write(nodes.service_file(n), text).expect("a file");
        }
        nodes.write_zmqv2_file(9502);
        nodes
    }

    fn service_file(&self, n: usize) -> PathBuf {
        self.dir.join(format!("service-{n}.conf"))
    }

    fn zmqv2_file(&self) -> PathBuf {
        self.dir.join("zmqv2.conf")
    }

    fn ring_file(&self) -> PathBuf {
        self.dir.join("zmqv2_ring.json")
    }

    /// Writes the differences for zmqv2: its port and its own ring file.
    fn write_zmqv2_file(&self, port: u16) {
        let ring = self.ring_file();
        let text = format!("[DEFAULT]\nrpc_zmq_port={port}\n[matchmaker_ring]\nringfile={}\n", ring.display());
        std::fs::write(self.zmqv2_file(), text).expect("a file");
    }

    /// Writes the nodes of the topic, for zmqv2.
    fn write_ring(&self, ports: &[(usize, u16)]) {
        let places: Vec<_> = ports.iter().map(|(n, port)| format!("{}:{port}", self.nodes.host(*n))).collect();
        let next = self.ring_file().with_extension("next");
        std::fs::write(&next, json!({"t": places}).to_string()).expect("a file");
        std::fs::rename(next, self.ring_file()).expect("a file");
    }

    fn command(&self, n: usize, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(binary(program));
        command.args(words).arg("--config-file").arg(self.service_file(n)).arg("--config-file").arg(self.zmqv2_file());
        // Settings in the environment of the test run are not meant for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
            command.env_remove(name);
        }
        command
    }

    fn broker(&self, n: usize) -> Process {
        Process::start(&format!("broker {n}"), &mut self.command(n, "zmqv2-broker", &[])).ready()
    }

    fn tool(&self, n: usize, words: &[&str]) -> Finished {
        Process::run(&mut self.command(n, "zmqv2", words))
    }

    fn zmqv2(&self, n: usize, patient: bool) -> OverZmqv2 {
        let config =
            Config::builder().file(self.service_file(n)).file(self.zmqv2_file()).build().expect("options").config;
        OverZmqv2::with(config, self.nodes.cluster().node(n).ipc_dir.clone(), patient)
    }

    /// A server at node `n`, with the node's name, that returns who it is.
    fn server(&self, driver: &dyn Messaging, name: &str, n: usize, ran: &NotificationLog<String>) -> Box<dyn Running> {
        let (own, ran) = (format!("{name} {n}"), ran.clone());
        let handler: Handler = Arc::new(move |method, _| {
            if method == "note" {
                ran.add(own.clone());
            }
            Some(Ok(own.as_str().into()))
        });
        driver.serve(&To::topic("t").at(self.nodes.host(n)), 4, handler)
    }
}

/// Calls without a pause, from its own thread.
struct Calls {
    stop: Arc<AtomicBool>,
    made: NotificationLog<Result<Value, Failed>>,
    thread: Option<JoinHandle<()>>,
}

impl Calls {
    fn start(driver: Box<dyn Messaging>) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), NotificationLog::default());
        let (stopped, note) = (Arc::clone(&stop), made.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                note.add(driver.call(&To::topic("t"), "who", &json!({}), None));
            }
        });
        Self { stop, made, thread: Some(thread) }
    }

    /// Waits until `more` further calls were made, so that earlier changes have affected some.
    fn go_on(&self, more: usize) {
        let before = self.made.len();
        eventually("calls go on", || self.made.len() >= before + more);
    }

    /// Stops. A server of this driver must have answered every call.
    fn all_answered_by(mut self, name: &str) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("no panic");
        let made = self.made.all();
        let others: Vec<_> = made.iter().filter(|answer| !answered_by(answer, name)).collect();
        assert!(others.is_empty(), "of {} calls over {name}: {others:?}", made.len());
    }
}

fn answered_by(answer: &Result<Value, Failed>, name: &str) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.as_str().is_some_and(|answer| answer.starts_with(name)))
}

fn who(driver: &dyn Messaging, to: &To) -> String {
    let answer = driver.call(to, "who", &json!({}), None);
    answer.unwrap_or_else(|error| panic!("{to:?}: {error}")).as_str().expect("a name").to_owned()
}

/// The names of files in a directory of sockets, by driver.
fn sockets(dir: &Path) -> (usize, usize) {
    let (legacy, others): (Vec<_>, Vec<_>) = names_in(dir).into_iter().partition(|name| name.starts_with("zmq_topic_"));
    assert!(others.iter().all(|name| name.starts_with("zmqv2-")), "{others:?}");
    (legacy.len(), others.len())
}

#[test]
fn a_service_moves_to_zmqv2_node_by_node_and_nobody_notices() {
    let mut nodes = Nodes::start();
    let ran = NotificationLog::default();
    let legacy: Vec<_> = (0..2).map(|n| nodes.server(&*nodes.nodes.at(n), "legacy", n, &ran)).collect();
    let old_calls = Calls::start(nodes.nodes.at(0));
    old_calls.go_on(2);

    // 1. Brokers, beside the receivers.
    nodes.write_ring(&[]);
    let mut brokers: Vec<_> = (0..2).map(|n| nodes.broker(n)).collect();
    for n in 0..2 {
        let status = nodes.tool(n, &["status"]);
        assert_eq!(status.code(), 0, "{status:?}");
    }
    old_calls.go_on(2);

    // 2. Servers, one node after the other.
    let new: Vec<OverZmqv2> = (0..2).map(|n| nodes.zmqv2(n, false)).collect();
    let mut servers = Vec::new();
    for (n, places) in [(1, vec![(1, 9502)]), (0, vec![(1, 9502), (0, 9502)])] {
        servers.push(nodes.server(&new[n], "zmqv2", n, &ran));
        nodes.write_ring(&places);
        eventually("it answers", || nodes.tool(0, &["ping", "t", "--server", nodes.nodes.host(n)]).code() == 0);
        old_calls.go_on(2);
    }

    // 3. Callers. Each driver reaches all of its own servers, and no others.
    let new_calls = Calls::start(Box::new(nodes.zmqv2(0, true)));
    let old = nodes.nodes.at(0);
    for n in 0..2 {
        let there = To::topic("t").at(nodes.nodes.host(n));
        assert_eq!((who(&*old, &there), who(&new[0], &there)), (format!("legacy {n}"), format!("zmqv2 {n}")));
    }
    let told = new[0].fanout(&To::topic("t"), "note", &json!({}));
    assert_eq!(told.len(), 2, "{told:?}");
    // The first fanout may come before the PUB socket has subscribers.
    eventually("the legacy servers have one, too", || {
        drop(old.send_to_all(&To::topic("t"), "note", &json!({})));
        (0..2).all(|n| ran.all().contains(&format!("legacy {n}")))
    });
    let of_new = |n: usize| ran.all().iter().filter(|name| **name == format!("zmqv2 {n}")).count();
    eventually("each server of zmqv2 runs it once", || (of_new(0), of_new(1)) == (1, 1));
    new_calls.go_on(50);
    old_calls.go_on(2);
    for (n, broker) in brokers.iter().enumerate() {
        let (of_legacy, of_zmqv2) = sockets(&nodes.nodes.cluster().node(n).ipc_dir);
        assert!(of_legacy > 0 && of_zmqv2 > 0, "both have sockets in one directory");
        assert!(is_alive(nodes.nodes.process(n).id()) && is_alive(broker.id()));
    }

    // 5. The end of the legacy driver. Brokers move to its port.
    old_calls.all_answered_by("legacy");
    drop((old, legacy));
    for (n, broker) in brokers.iter_mut().enumerate() {
        nodes.nodes.stop_daemon(n);
        let other = if n == 0 { (1, 9502) } else { (0, 9501) };
        nodes.write_ring(&[(n, 9501), other]);
        nodes.write_zmqv2_file(9501);
        broker.signal(Signal::TERM);
        assert!(broker.wait_end(PATIENCE).success());
        *broker = nodes.broker(n);
        let answers = || nodes.tool(1 - n, &["ping", "t", "--server", nodes.nodes.host(n)]).code() == 0;
        eventually("its server has registered again", answers);
        new_calls.go_on(50);
    }
    new_calls.all_answered_by("zmqv2");
}

#[test]
fn the_page_says_what_this_test_does() {
    for words in [
        "zmqv2-broker --config-file /etc/service.conf --config-file /etc/zmqv2.conf",
        "rpc_zmq_port = 9502",
        "ringfile = /etc/zmqv2_ring.json",
        "\"node:9502\"",
        "zmqv2 ping TOPIC",
    ] {
        assert!(PAGE.contains(words), "docs/migrating.md has no {words}");
    }
}
