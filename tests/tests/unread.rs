//! Proves that answers which nobody reads cost a broker a bounded number of bytes, and that the
//! memory comes back (P5).

use std::time::Duration;

use zmqv2_client::RpcClient;
use zmqv2_proto::control::BROKER_SOCKET;
use zmqv2_proto::{Header, Kind, MessageId, Reason, Request, RequestContext, Target, Ttl};
use zmqv2_server::{Methods, RpcServer};
use zmqv2_tests::kernel::{memory_kib, peak_memory_kib};
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually, within};

/// The size of one answer.
const ANSWER: usize = 4 << 20;
/// Requests of one peer. Without a bound, their answers take 192 MiB.
const REQUESTS: usize = 48;
/// The bound of the broker for all peers. One peer gets a fifth of it.
const BOUND: usize = 96 << 20;
/// What the broker may need beside unread answers: those that it is about to refuse, and its
/// buffers.
const BESIDE_KIB: u64 = 64 << 10;

/// The longest time for all of it. The answers are large, and the machine may be busy.
const END: Duration = Duration::from_secs(120);

/// A broker with a server whose method `big` has small requests and large answers.
fn node() -> (Cluster, Process, RpcServer) {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let broker = node.broker_with(&["--set", &format!("rpc_zmq_unread_bytes={BOUND}")]);
    let methods = Methods::new()
        .method("big", |(): ()| Ok("x".repeat(ANSWER)))
        .and_then(|methods| methods.method("echo", |number: u8| Ok(number)))
        .unwrap();
    let builder = RpcServer::builder(Target::topic("demo").unwrap()).config(node.config()).ipc_dir(&node.ipc_dir);
    let server = builder.endpoint(methods).workers(2).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    (cluster, broker, server)
}

fn call(method: &str) -> [Vec<u8>; 2] {
    let mut header = Header::new(Kind::Call, MessageId::random());
    header.key = Some(Target::topic("demo").unwrap().key());
    header.ttl = Ttl::from(Duration::from_secs(600));
    let request = Request::new(method.parse().unwrap(), &()).unwrap();
    [header.encode(), request.encode().unwrap()]
}

fn ask(peer: &mut Zmtp, method: &str) {
    let [header, body] = call(method);
    peer.send(&[b"", &header, &body]).unwrap();
}

fn counter(node: &Node, name: &str) -> u64 {
    node.status().counters[name]
}

/// Whether the broker has so many requests, and each of them was answered or refused.
fn is_over(node: &Node, requests: usize) -> bool {
    let status = node.status();
    let arrived = status.counters["requests"] + status.counters["refused_busy"];
    arrived >= requests as u64 && status.in_flight == 0 && status.topics.iter().all(|topic| topic.queued == 0)
}

/// Freed memory goes back to the system within a minute, if it is worth it: a broker keeps what is below
/// 64 MiB in all. The rest of the time is for a busy machine.
fn assert_memory_comes_back(broker: &Process) {
    let kept = || memory_kib(broker.id());
    assert!(within(END, || kept() < 64 << 10), "it keeps {} KiB", kept());
}

fn is_served(client: &RpcClient) {
    let answer = client.call::<u8>(&RequestContext::new(), "echo", &7);
    assert_eq!(answer.expect("the others are served"), 7);
}

#[test]
fn answers_that_a_local_client_does_not_read_are_bounded_in_bytes() {
    let (cluster, broker, _server) = node();
    let node = cluster.node(0);
    let client = node.client(Target::topic("demo").unwrap());
    is_served(&client);
    let before = memory_kib(broker.id());
    let mut deaf = Zmtp::ipc(node.file(BROKER_SOCKET), "DEALER").unwrap();
    (0..REQUESTS).for_each(|_| ask(&mut deaf, "big"));
    assert!(within(END, || is_over(node, REQUESTS)), "a request is not answered, refused, or its answer dropped");
    is_served(&client);
    let (dropped, busy) = (counter(node, "undeliverable"), counter(node, "refused_busy"));
    assert!(dropped + busy >= REQUESTS as u64 / 2, "{dropped} answers dropped, {busy} requests refused");
    let bound = BOUND as u64 / 5 / 1024 + BESIDE_KIB;
    let peak = peak_memory_kib(broker.id()).saturating_sub(before);
    assert!(peak < bound, "the broker grew by {peak} KiB, allowed are {bound}");
    // It may not ask for more now, and is told so once it reads.
    ask(&mut deaf, "big");
    eventually("a request of a peer that is behind is refused", || counter(node, "refused_busy") > busy);
    let lines = || broker.stderr().matches("does not read its answers").count();
    eventually("the log says it", || lines() > 0);
    assert_eq!(lines(), 1, "{}", broker.stderr());
    let (mut whole, mut refused) = (0, Vec::new());
    for _ in 0..=REQUESTS {
        let answer = deaf.receive().expect("an answer");
        match Header::decode(&answer[1]).unwrap().reason {
            None => whole += usize::from(answer[2].len() >= ANSWER),
            Some(reason) => refused.push((reason, String::from_utf8_lossy(&answer[2]).into_owned())),
        }
    }
    assert!(whole >= 2 && whole + refused.len() == REQUESTS + 1, "{whole} answers, {} refusals", refused.len());
    assert!(
        refused.iter().all(|(reason, detail)| matches!(reason, Reason::TooLarge | Reason::Busy)
            && detail.contains("rpc_zmq_unread_bytes")),
        "{refused:?}"
    );
    // It has read everything, so it is served again.
    ask(&mut deaf, "big");
    assert_eq!(Header::decode(&deaf.receive().unwrap()[1]).unwrap().kind, Kind::Reply);
    drop(deaf);
    is_served(&client);
    assert_memory_comes_back(&broker);
}

#[test]
fn peers_that_do_not_read_share_one_bound_and_are_cut_off_over_tcp() {
    let (cluster, broker, _server) = node();
    let node = cluster.node(0);
    let client = node.client(Target::topic("demo").unwrap());
    is_served(&client);
    let before = memory_kib(broker.id());
    let mut deaf: Vec<Zmtp> = (0..6).map(|_| Zmtp::tcp(format!("{}:9501", node.host), "DEALER").unwrap()).collect();
    for peer in &mut deaf {
        (0..REQUESTS / 6).for_each(|_| ask(peer, "big"));
    }
    let all_over = within(END, || {
        is_served(&client);
        is_over(node, REQUESTS / 6 * 6)
    });
    assert!(all_over, "a request is not answered, refused, or its answer dropped");
    let bound = BOUND as u64 / 1024 + BESIDE_KIB;
    let peak = peak_memory_kib(broker.id()).saturating_sub(before);
    assert!(peak < bound, "the broker grew by {peak} KiB, allowed are {bound}");
    // The kernel ends connections whose peer takes nothing, which frees what was kept for them, although
    // the peers are still there.
    assert_memory_comes_back(&broker);
    is_served(&client);
    drop(deaf);
}
