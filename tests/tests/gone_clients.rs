//! Proves that a client takes no more than its share of the topics without a server, and that what
//! it waits for ends with its connection: a call whose caller has gone never runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zmqv2_client::{CallHandle, RpcClient};
use zmqv2_proto::{Flags, Header, Kind, MessageId, Reason, RequestContext, Target, Ttl};
use zmqv2_server::{Methods, RpcServer};
use zmqv2_tests::gate::Gate;
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually};

/// The most topics without a server in which one connection waits.
const SHARE: usize = 100;

fn topic(name: &str) -> Target {
    Target::topic(name).unwrap()
}

/// Sends a call that waits for its server, for as long as a call can.
fn wait_for_topic(peer: &mut Zmtp, name: &str) {
    let mut header = Header::new(Kind::Call, MessageId::random());
    header.key = Some(topic(name).key());
    (header.ttl, header.flags) = (Ttl::MAX, Flags::WAIT_FOR_READY);
    peer.send(&[b"", &header.encode(), b"{}"]).unwrap();
}

fn topics(node: &Node) -> usize {
    node.status().topics.len()
}

#[test]
fn one_client_leaves_the_others_room_to_wait_for_servers_and_gives_its_own_back() {
    let cluster = Cluster::new(1, &[]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let connect = || Zmtp::tcp(format!("{}:9501", node.host), "DEALER").unwrap();
    let mut greedy = connect();
    for n in 0..3 * SHARE {
        wait_for_topic(&mut greedy, &format!("t{n}"));
    }
    for _ in 0..2 * SHARE {
        let answer = greedy.receive().unwrap();
        let header = Header::decode(&answer[1]).unwrap();
        assert_eq!((header.kind, header.reason), (Kind::Refusal, Some(Reason::Busy)), "{answer:?}");
    }
    let mut other = connect();
    wait_for_topic(&mut other, "other");
    eventually("others wait", || topics(node) == SHARE + 1);
    drop(greedy);
    eventually("its topics go with its connection", || topics(node) == 1);
    assert_eq!(node.status().counters["cancelled"], SHARE as u64);
    // A new connection that gets the descriptor of the old one has a share of its own.
    let mut next = connect();
    wait_for_topic(&mut next, "next");
    eventually("the next one waits", || topics(node) == 2);
}

/// A server with one worker, which runs the first call until the gate opens.
struct Busy {
    _server: RpcServer,
    _client: RpcClient,
    gate: Arc<Gate>,
    runs: Arc<AtomicUsize>,
    first: CallHandle<()>,
}

impl Busy {
    fn start(node: &Node) -> Self {
        let (gate, runs) = (Gate::new(false), Arc::new(AtomicUsize::new(0)));
        let (theirs, counted) = (Arc::clone(&gate), Arc::clone(&runs));
        let methods = Methods::new().method("work", move |(): ()| {
            counted.fetch_add(1, Ordering::SeqCst);
            theirs.pass();
            Ok(())
        });
        let target = topic("t").with_server("s").unwrap();
        let server = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir);
        let server = server.endpoint(methods.unwrap()).workers(1).start().unwrap();
        server.wait_ready(PATIENCE).unwrap();
        let client = node.client(topic("t"));
        let first = client.call_async(&RequestContext::new(), "work", &()).unwrap();
        eventually("the first call runs", || gate.waiting() == 1);
        Self { _server: server, _client: client, gate, runs, first }
    }

    /// Opens the gate: only the first call and one more have run.
    fn finish(self, node: &Node) {
        assert_eq!(node.status().queued, 0);
        self.gate.open();
        self.first.wait().unwrap();
        let (): () = node.client(topic("t")).call(&RequestContext::new(), "work", &()).unwrap();
        assert_eq!(self.runs.load(Ordering::SeqCst), 2, "a call ran that nobody waited for");
    }
}

#[test]
fn a_call_whose_caller_was_killed_while_it_waited_never_runs() {
    let cluster = Cluster::new(2, &["t"]);
    let node = cluster.node(0);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let busy = Busy::start(node);
    // One caller of this node, and one of another node.
    let words = ["call", "t", "work", "null", "--timeout", "3600"];
    let mut callers = [0, 1].map(|n| {
        let node = cluster.node(n);
        Process::start(&format!("caller {n}"), &mut node.command("zmqv2", &words))
    });
    eventually("both calls wait", || node.status().queued == 2);
    callers.iter_mut().for_each(Process::kill9);
    eventually("both are dropped", || node.status().counters["cancelled"] == 2);
    busy.finish(node);
}

#[test]
fn a_call_whose_handle_was_dropped_while_it_waited_never_runs() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let busy = Busy::start(node);
    let client = node.client(topic("t"));
    let patient = client.prepare().timeout(Duration::from_secs(3600));
    let call = || patient.call_async::<()>(&RequestContext::new(), "work", &()).unwrap();
    let calls: Vec<_> = (0..100).map(|_| call()).collect();
    eventually("all wait", || node.status().queued == 100);
    drop(calls);
    eventually("all are dropped", || node.status().counters["cancelled"] == 100);
    assert_eq!(client.counters().open, 0, "the client still waits for them");
    busy.finish(node);
}
