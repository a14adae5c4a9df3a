//! Proves that messages in a bundle are answered, in bundles and in order, and that a bad bundle
//! harms only its sender.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, mpsc};

use zmqv2_proto::bundle::{Bundle, Bundled, MAX_BUNDLE_BYTES, MAX_BUNDLE_MESSAGES};
use zmqv2_proto::{Flags, Header, Kind, MessageId, Reason, Request, RequestContext, Target, Ttl};
use zmqv2_server::{Methods, RpcServer, WorkerSockets};
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, eventually, now};

const CALLS: u64 = 40;

/// A call of `echo`, as frames.
fn call(tag: u64, flags: Flags) -> [Vec<u8>; 2] {
    call_of("echo", tag, flags)
}

fn call_of(method: &str, tag: u64, flags: Flags) -> [Vec<u8>; 2] {
    let mut header = Header::new(Kind::Call, MessageId::random());
    (header.tag, header.flags, header.ttl) = (tag, flags, Ttl::from_millis(10_000));
    header.key = Some(Target::topic("demo").unwrap().key());
    [header.encode(), Request::new(method.parse().unwrap(), &tag).unwrap().encode().unwrap()]
}

fn calls(flags: Flags) -> Bundle {
    let mut bundle = Bundle::new();
    for tag in 0..CALLS {
        let [header, body] = call(tag, flags);
        bundle.push(&header, &body);
    }
    bundle
}

/// Reads the answers to all calls, and returns the number of messages that carried them.
fn read_answers(peer: &mut Zmtp, mut left: BTreeSet<u64>) -> usize {
    let mut messages = 0;
    while !left.is_empty() {
        let frames = peer.receive().unwrap();
        messages += 1;
        let headers: Vec<Header> = match &frames[..] {
            [_, header, _] => vec![Header::decode(header).unwrap()],
            [_, only] => Bundled::of(only).unwrap().map(|one| Header::decode(one.unwrap().0).unwrap()).collect(),
            _ => panic!("{} frames", frames.len()),
        };
        for header in headers {
            assert_eq!(header.kind, Kind::Reply, "{header:?}");
            assert!(left.remove(&header.tag), "answered twice: {header:?}");
        }
    }
    messages
}

fn node_with_a_server(cluster: &Cluster) -> (&Node, [zmqv2_tests::Process; 2]) {
    let node = cluster.node(0);
    let broker = node.broker();
    let server = node.serve("demo", "s1", &["--workers", "4"]);
    (node, [broker, server])
}

#[test]
fn a_peer_that_reads_bundles_gets_its_answers_in_bundles() {
    let cluster = Cluster::new(1, &["demo"]);
    let (node, _processes) = node_with_a_server(&cluster);
    let mut peer = Zmtp::tcp(format!("{}:9501", node.host), "DEALER").unwrap();
    peer.send(&[b"", calls(Flags::BUNDLES).frame()]).unwrap();
    let messages = read_answers(&mut peer, (0..CALLS).collect());
    assert!(messages < CALLS as usize, "{messages} messages");
    // For other peers, each answer is a message of its own.
    peer.send(&[b"", calls(Flags::NONE).frame()]).unwrap();
    assert_eq!(read_answers(&mut peer, (0..CALLS).collect()), CALLS as usize);
    let [header, body] = call(7, Flags::BUNDLES);
    peer.send(&[b"", &header, &body]).unwrap();
    assert_eq!(read_answers(&mut peer, [7].into()), 1);
}

#[test]
fn a_bad_bundle_is_counted_and_the_requests_before_its_fault_are_answered() {
    let cluster = Cluster::new(1, &["demo"]);
    let (node, [broker, _server]) = node_with_a_server(&cluster);
    let malformed = || node.status().counters["refused_malformed"];
    let mut peer = Zmtp::tcp(format!("{}:9501", node.host), "DEALER").unwrap();

    // The bundle ends within a message.
    let whole = calls(Flags::BUNDLES);
    peer.send(&[b"", &whole.frame()[..whole.frame().len() - 1]]).unwrap();
    read_answers(&mut peer, (0..CALLS - 1).collect());
    eventually("it is counted", || malformed() == 1);

    // Too many messages, none of them with a header.
    let mut many = Bundle::new();
    for _ in 0..=MAX_BUNDLE_MESSAGES {
        many.push(b"", b"");
    }
    peer.send(&[b"", many.frame()]).unwrap();
    eventually("each is counted", || malformed() == 2 + MAX_BUNDLE_MESSAGES as u64);

    // Too large, empty, a bundle in a bundle, a frame behind a bundle.
    let large = [&many.frame()[..4], &vec![0; MAX_BUNDLE_BYTES]].concat();
    let mut nested = Bundle::new();
    nested.push(whole.frame(), b"");
    let empty = &many.frame()[..4];
    for frames in [&[&b""[..], &large][..], &[b"", empty], &[b"", nested.frame()], &[b"", whole.frame(), b"x"]] {
        let before = malformed();
        peer.send(frames).unwrap();
        eventually("one more is counted", || malformed() == before + 1);
    }
    let mut refusals = MAX_BUNDLE_MESSAGES + 2;
    while refusals > 0 {
        let frames = peer.receive().unwrap();
        let refusal = Header::decode(&frames[1]).unwrap();
        assert_eq!((refusal.kind, refusal.reason), (Kind::Refusal, Some(Reason::Malformed)));
        refusals -= 1;
    }
    // The bad bundles have harmed nobody.
    peer.send(&[b"", calls(Flags::BUNDLES).frame()]).unwrap();
    read_answers(&mut peer, (0..CALLS).collect());
    assert!(broker.stderr().lines().count() < 100 && !broker.stderr().contains("panicked"), "{}", broker.stderr());
}

/// Small messages travel in bundles and large ones alone. Neither may overtake the other.
#[test]
fn casts_of_all_sizes_arrive_in_the_order_in_which_they_were_sent() {
    const CASTS: usize = 600;
    for sockets in [WorkerSockets::Shared, WorkerSockets::Own] {
        let cluster = Cluster::new(1, &["t"]);
        let node = cluster.node(0);
        let _broker = node.broker();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let methods = Methods::new().method("note", move |(number, _): (usize, String)| {
            sees.lock().unwrap().push(number);
            Ok(())
        });
        let target = Target::topic("t").unwrap().with_server("s").unwrap();
        let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir);
        let server = builder.endpoint(methods.unwrap()).workers(1).worker_sockets(sockets).start().unwrap();
        server.wait_ready(PATIENCE).unwrap();
        let client = node.client(Target::topic("t").unwrap());
        let cast = |number: usize| {
            let payload = "x".repeat([10, 20_000, 10, 10, 8_000, 100][number % 6]);
            client.cast(&RequestContext::new(), "note", &(number, payload)).unwrap()
        };
        let casts: Vec<_> = (0..CASTS).map(cast).collect();
        assert!(casts.into_iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
        server.stop().unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..CASTS).collect::<Vec<_>>(), "{sockets:?}");
    }
}

/// Answers leave together, but none waits for a slow handler (P10).
#[test]
fn an_answer_does_not_wait_for_a_slow_request_of_the_same_bundle_p10() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let methods = Methods::new()
        .method("echo", |tag: u64| Ok(tag))
        .unwrap()
        .method("hold", move |tag: u64| {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            Ok(tag)
        })
        .unwrap();
    let target = Target::topic("demo").unwrap().with_server("s").unwrap();
    let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods);
    let server = builder.workers(4).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    let mut peer = Zmtp::tcp(format!("{}:9501", node.host), "DEALER").unwrap();
    for round in 0..20 {
        let mut bundle = Bundle::new();
        // With and without other requests behind it.
        let calls = [(0, "echo"), (1, "hold"), (2, "echo"), (3, "echo")];
        for (tag, method) in &calls[..if round % 2 == 0 { 4 } else { 2 }] {
            let [header, body] = call_of(method, *tag, Flags::BUNDLES);
            bundle.push(&header, &body);
        }
        peer.send(&[b"", bundle.frame()]).unwrap();
        // All other answers come while the slow handler runs.
        let began = now();
        read_answers(&mut peer, if round % 2 == 0 { [0, 2, 3].into() } else { [0].into() });
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        release.send(()).unwrap();
        read_answers(&mut peer, [1].into());
    }
    server.stop().unwrap();
}
