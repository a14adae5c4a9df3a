//! Proves that a log that nobody reads stops nothing: not a broker, not a server, not the end of
//! either (P9, P15).

use std::io::{BufRead, BufReader, PipeReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use zmqv2_client::RpcClient;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_server::NotificationListener;
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, eventually, now};

/// A process whose stderr is a full pipe.
struct Unread {
    child: Child,
    stderr: PipeReader,
}

impl Unread {
    fn start(command: &mut Command) -> Self {
        let (stderr, mut writer) = std::io::pipe().expect("a pipe");
        let flags = fcntl_getfl(&writer).expect("flags");
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("flags");
        while writer.write(b"filled before the start\n").is_ok() {}
        fcntl_setfl(&writer, flags).expect("flags");
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
        Self { child: command.spawn().expect("it starts"), stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn wait_end(&mut self, patience: Duration) -> ExitStatus {
        let end_at = now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(now() < end_at, "it did not end within {patience:?}");
            std::thread::yield_now();
        }
    }

    /// Reads the log until a line contains `part`, and returns that line.
    fn read_until(&self, part: &str) -> String {
        let (found, lines) = (part.to_owned(), BufReader::new(self.stderr.try_clone().expect("a pipe")));
        let (sender, receiver) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || {
            let line = lines.lines().map_while(Result::ok).find(|line| line.contains(&found));
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(PATIENCE).ok().flatten();
        line.unwrap_or_else(|| panic!("no line with {part:?}"))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn call(client: &RpcClient, method: &str) -> bool {
    client.call::<String>(&RequestContext::new(), method, "text").is_ok()
}

/// More than the queue of the log takes, by registering and withdrawing a listener of many topics.
fn make_broker_log_much(node: &Node) {
    for _ in 0..8 {
        let names = (0..36).map(|n| format!("topic-{n}"));
        let builder = NotificationListener::builder().config(node.config()).ipc_dir(&node.ipc_dir).workers(1);
        let builder = names.fold(builder, |builder, name| builder.topic(name).expect("a topic"));
        let listener = builder.on(zmqv2_server::Priorities::ALL, |_| {}).start().expect("a listener");
        listener.wait_ready(PATIENCE).expect("a broker");
        listener.stop().expect("it is idle");
    }
}

#[test]
fn a_full_pipe_stops_no_broker_and_no_server() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let mut broker = Unread::start(&mut node.command("zmqv2-broker", &["--log-level", "debug"]));
    let mut server = Unread::start(&mut node.command("zmqv2", &["serve", "demo", "--server", "s1", "--workers", "2"]));
    let client = node.client(Target::topic("demo").unwrap());
    eventually("a call is answered", || call(&client, "echo"));

    // Many peers with one malformed message each, and one with many.
    let address = format!("{}:9501", node.host);
    let mut noisy = Zmtp::tcp(&address, "DEALER").unwrap();
    for _ in 0..2_000 {
        noisy.send(&[b"no header", b"", b""]).unwrap();
    }
    for _ in 0..500 {
        Zmtp::tcp(&address, "DEALER").unwrap().send(&[b"no header", b"", b""]).unwrap();
    }
    eventually("all are counted", || node.status().counters["refused_malformed"] >= 2_500);
    make_broker_log_much(node);
    // The server logs each failure of its handler.
    for _ in 0..3_000 {
        assert!(!call(&client, "fail"));
    }
    assert!(call(&client, "echo"));
    let dropped = node.status().counters["log_lines_dropped"];
    assert!(dropped > 0);

    // Both end in time.
    let began = now();
    for process in [&server, &broker] {
        process.signal(Signal::TERM);
    }
    assert!(server.wait_end(PATIENCE).success() && broker.wait_end(PATIENCE).success());
    assert!(began.elapsed() < Duration::from_secs(10), "the end took {:?}", began.elapsed());
}

#[test]
fn a_reader_that_goes_on_gets_the_log_and_learns_how_much_is_missing() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let mut broker = Unread::start(&mut node.command("zmqv2-broker", &[]));
    make_broker_log_much(node);
    eventually("lines are dropped", || node.status().counters["log_lines_dropped"] > 0);
    broker.read_until("ready: node");
    let line = broker.read_until("log lines were dropped");
    assert!(line.contains("ERROR"), "{line}");
    // What is logged from now on is not lost, up to the last line.
    broker.signal(Signal::TERM);
    broker.read_until("stopped");
    assert!(broker.wait_end(PATIENCE).success());
}

#[test]
fn commands_end_with_their_result_when_stderr_is_full() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _server) = (node.broker(), node.serve("demo", "s1", &["--workers", "2"]));
    for (arguments, code) in [(&["call", "demo", "echo", "7"][..], 0), (&["call", "demo", "no-such-method"], 3)] {
        let mut command = node.command("zmqv2", arguments);
        let mut process = Unread::start(command.args(["--log-level", "trace"]));
        assert_eq!(process.wait_end(PATIENCE).code(), Some(code), "{arguments:?}");
    }
}
