//! Proves for any bytes from the network: the broker serves the others, answers what it can, and
//! stays small (P9).

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use zmqv2_client::RpcClient;
use zmqv2_proto::{FIXED_BYTES, Header, Kind, MessageId, Reason, RequestContext, Target, Ttl};
use zmqv2_tests::kernel::memory_kib;
use zmqv2_tests::zmtp::{Zmtp, greeting, message, ready};
use zmqv2_tests::{Cluster, Node, Process, eventually, now};

/// Attackers of each kind.
const MANY: usize = 1_000;
/// The longest time for a call of the well-behaved client during an attack: some milliseconds, and the
/// rest is for a busy machine. A broker that is stopped by an attack answers no call in this time.
const PROMPT: Duration = Duration::from_secs(5);
/// The memory by which the broker may grow during an attack.
const GROWTH_KIB: u64 = 64 * 1024;

/// A node under attack, with its broker and server, and a client of another node that calls all the
/// time.
struct Attack {
    cluster: Cluster,
    broker: Process,
    _server: Process,
    memory_before: u64,
    good: JoinHandle<Duration>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    calls: AtomicUsize,
    over: AtomicBool,
}

impl Attack {
    fn new() -> Self {
        let cluster = Cluster::new(2, &["demo"]);
        let (near, far) = (cluster.node(0), cluster.node(1));
        cluster.write_ring([("demo".to_owned(), serde_json::json!([far.host]))].into_iter().collect());
        let broker = far.broker();
        let server = far.serve("demo", "s1", &["--workers", "2"]);
        let client = near.client(Target::topic("demo").unwrap());
        let progress = Arc::new(Progress::default());
        let theirs = Arc::clone(&progress);
        let good = std::thread::spawn(move || call_until(&client, &theirs));
        let memory_before = memory_kib(broker.id());
        let attack = Self { cluster, broker, _server: server, memory_before, good, progress };
        attack.see_calls();
        attack
    }

    fn node(&self) -> &Node {
        self.cluster.node(1)
    }

    fn address(&self) -> String {
        format!("{}:9501", self.node().host)
    }

    fn counter(&self, name: &str) -> u64 {
        self.node().status().counters[name]
    }

    /// Waits until the well-behaved client has made some more calls.
    fn see_calls(&self) {
        let calls = || self.progress.calls.load(Ordering::Relaxed);
        let before = calls();
        eventually("the good client is served", || self.good.is_finished() || calls() >= before + 20);
    }

    /// Ends the attack. The well-behaved client was served promptly all the time, and the broker is
    /// small and idle.
    #[track_caller]
    fn check(self, most_log_lines: usize) {
        self.see_calls();
        self.progress.over.store(true, Ordering::Relaxed);
        let slowest = self.good.join().expect("every call succeeds");
        assert!(slowest < PROMPT, "a call took {slowest:?}");
        let grown = memory_kib(self.broker.id()).saturating_sub(self.memory_before);
        assert!(grown < GROWTH_KIB, "the broker grew by {grown} KiB");
        let lines = self.broker.stderr().lines().count();
        assert!(lines <= most_log_lines, "{lines} lines in the log");
        assert!(!self.broker.stderr().contains("panicked"), "{}", self.broker.stderr());
    }
}

/// Calls without a pause, and keeps the longest time of a call.
fn call_until(client: &RpcClient, progress: &Progress) -> Duration {
    let mut slowest = Duration::ZERO;
    while !progress.over.load(Ordering::Relaxed) {
        let (n, began) = (progress.calls.fetch_add(1, Ordering::Relaxed), now());
        let answer = client.call::<usize>(&RequestContext::new(), "echo", &n);
        assert_eq!(answer.unwrap_or_else(|error| panic!("call {n}: {error}")), n);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

/// Pseudo-random bytes, the same in every run.
fn noise(seed: usize, count: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn random_bytes_leave_the_broker_serving() {
    let attack = Attack::new();
    let mut open = Vec::new();
    for n in 0..MANY {
        let mut stream = TcpStream::connect(attack.address()).unwrap();
        // The broker may close the connection early.
        let _ = stream.write_all(&noise(n, 1 + n % 3_000));
        if n % 2 == 0 {
            open.push(stream);
        }
    }
    drop(open);
    // The same number of times, random bytes after a proper handshake.
    for n in 0..MANY {
        let mut peer = Zmtp::tcp(attack.address(), "DEALER").unwrap();
        let _ = peer.send_raw(&noise(n, 1 + n % 3_000));
    }
    attack.check(MANY + 100);
}

#[test]
fn half_handshakes_that_stay_open_leave_the_broker_serving() {
    let attack = Attack::new();
    let whole = [greeting(), ready("DEALER")].concat();
    let open: Vec<_> = (0..MANY)
        .map(|n| {
            let mut stream = TcpStream::connect(attack.address()).unwrap();
            stream.write_all(&whole[..n % whole.len()]).unwrap();
            stream
        })
        .collect();
    // All of them are open at once, and a new peer is still served.
    let answer = attack.cluster.node(0).tool(&["call", "demo", "echo", "1"]);
    assert_eq!(answer.code(), 0, "{answer:?}");
    drop(open);
    attack.check(20);
}

/// A valid request for `demo`.
fn request(body: &[u8]) -> [Vec<u8>; 2] {
    let mut header = Header::new(Kind::Call, MessageId::random());
    header.key = Some(Target::topic("demo").unwrap().key());
    header.ttl = Ttl::from(Duration::from_secs(5));
    [header.encode(), body.to_vec()]
}

/// A valid header with some bytes replaced.
fn header_with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let [mut header, _] = request(b"");
    header[at..at + bytes.len()].copy_from_slice(bytes);
    header
}

/// A request header with a node whose name is not valid.
fn with_node(kind: Kind) -> Vec<u8> {
    let [mut header, _] = request(b"");
    header[3] = kind as u8;
    header[47] = 3;
    header.extend_from_slice(b"a b");
    header
}

/// A request header with any bytes as key.
fn keyed(key: &[u8]) -> Vec<u8> {
    let mut header = Header::new(Kind::Call, MessageId::random());
    header.ttl = Ttl::from(Duration::from_secs(5));
    let mut bytes = header.encode();
    bytes[44..46].copy_from_slice(&(key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

fn control(kind: Kind) -> Vec<u8> {
    let mut header = Header::new(kind, MessageId::random());
    header.key = Some(Target::topic("demo").unwrap().key());
    header.server = Some("evil".parse().unwrap());
    header.encode()
}

/// Frames that follow a delimiter, and the reason with which they must be refused.
fn wrong_messages() -> Vec<(&'static str, Vec<Vec<u8>>, Reason)> {
    let body = || b"{}".to_vec();
    let [good, _] = request(b"");
    let malformed = |name, header| (name, vec![header, body()], Reason::Malformed);
    let mut wrong = vec![
        ("no frame at all", vec![], Reason::Malformed),
        ("a header alone", vec![good.clone()], Reason::Malformed),
        ("three frames", vec![good.clone(), body(), body()], Reason::Malformed),
        ("nine frames", vec![body(); 9], Reason::Malformed),
        malformed("an empty header", vec![]),
        malformed("a truncated header", good[..FIXED_BYTES - 1].to_vec()),
        malformed("a header of one byte", vec![b'Z']),
        malformed("a truncated name", good[..good.len() - 1].to_vec()),
        malformed("another magic", header_with(0, b"XX")),
        malformed("another version", header_with(2, &[0])),
        malformed("an unknown kind", header_with(3, &[200])),
        malformed("a kind that only brokers send", header_with(3, &[Kind::Refusal as u8])),
        malformed("a length that lies, upwards", header_with(44, &[0xff, 0xff])),
        malformed("a length that lies, downwards", header_with(44, &[0, 0])),
        malformed("a server's length that lies", header_with(46, &[0xff, 0xff])),
        malformed("names that are no text", keyed(b"openstack/\xff\xfe")),
        malformed("noise", noise(7, 200)),
        // A message that a worker cannot read would keep that worker busy for ever.
        malformed("a call with an invalid node", with_node(Kind::Call)),
        malformed("a cast with an invalid node", with_node(Kind::Cast)),
        malformed("a fanout with an invalid node", with_node(Kind::Fanout)),
        malformed("a notification with an invalid node", with_node(Kind::Notify)),
        malformed("a request with a reason", header_with(5, &[1])),
        malformed("a request with an unknown reason", header_with(5, &[200])),
    ];
    for key in [&b"e/../x"[..], b"no-slash", b"", b"/", b"a\0b/c\0d", b"../../etc/passwd", &[b'k'; 10_000]] {
        wrong.push(("a hostile key", vec![keyed(key), body()], Reason::NoRoute));
    }
    for kind in [Kind::Register, Kind::Withdraw, Kind::Credit, Kind::Handled, Kind::Status] {
        wrong.push(("an order from the network", vec![control(kind), body()], Reason::Unauthorized));
    }
    wrong
}

#[test]
fn wrong_frames_are_each_answered_with_a_typed_refusal() {
    let attack = Attack::new();
    let wrong = wrong_messages();
    let (mut malformed, mut no_route, mut unauthorized) = (0, 0, 0);
    for n in 0..MANY {
        let (name, frames, reason) = &wrong[n % wrong.len()];
        // A correlating REQ puts an id in front of the delimiter. Both must come back.
        let path: &[&[u8]] = if n % 2 == 0 { &[b""] } else { &[b"\0\0\0\x07", b""] };
        let mut peer = Zmtp::tcp(attack.address(), if n % 2 == 0 { "DEALER" } else { "REQ" }).unwrap();
        let sent: Vec<&[u8]> = path.iter().copied().chain(frames.iter().map(Vec::as_slice)).collect();
        peer.send(&sent).unwrap();
        let answer = peer.receive().unwrap_or_else(|error| panic!("{name}: no answer: {error}"));
        assert_eq!(answer.len(), path.len() + 2, "{name}: {answer:?}");
        assert!(answer.iter().zip(path).all(|(theirs, ours)| theirs == ours), "{name}: another path back");
        let header = Header::decode(&answer[path.len()]).unwrap();
        let detail = String::from_utf8_lossy(&answer[path.len() + 1]).into_owned();
        // An empty key, and a key that is longer than any name, may be refused with either reason.
        let both = *name == "a hostile key" && header.reason == Some(Reason::Malformed);
        assert!(header.reason == Some(*reason) || both, "{name}: {header:?} {detail}");
        assert!(!detail.is_empty() && detail.len() < 600, "{name}: a detail of {} bytes", detail.len());
        match header.reason {
            Some(Reason::Malformed) => malformed += 1,
            Some(Reason::NoRoute) => no_route += 1,
            _ => unauthorized += 1,
        }
    }
    assert!(malformed > 0 && no_route > 0 && unauthorized > 0);
    assert_eq!(attack.counter("refused_malformed"), malformed);
    assert_eq!(attack.counter("refused_no_route"), no_route);
    assert_eq!(attack.counter("refused_unauthorized"), unauthorized);
    attack.check(MANY + 100);
}

#[test]
fn frames_without_a_path_back_are_counted_and_logged_once_per_peer() {
    let attack = Attack::new();
    let [header, body] = request(b"{}");
    let long = vec![b"x".to_vec(); 13];
    let huge_path = [vec![b'p'; 100_000], vec![], header.clone(), body.clone()];
    let cases: [Vec<&[u8]>; 5] = [
        vec![b"one frame"],
        vec![&header, &body],
        vec![b"x"; 11],
        long.iter().map(Vec::as_slice).collect(),
        huge_path.iter().map(Vec::as_slice).collect(),
    ];
    // One peer that sends without end, and many that send once.
    let mut noisy = Zmtp::tcp(attack.address(), "DEALER").unwrap();
    for n in 0..10 * MANY {
        noisy.send(&cases[n % 4]).unwrap();
    }
    for n in 0..MANY {
        let mut peer = Zmtp::tcp(attack.address(), "DEALER").unwrap();
        peer.send(&cases[n % cases.len()]).unwrap();
        // A good request behind the bad message is served: nothing of the bad message remains
        // (RG25).
        if n % 10 == 0 {
            let [header, _] = request(b"");
            peer.send(&[b"", &header, b"no body that a server understands"]).unwrap();
            let answer = peer.receive().unwrap();
            assert_eq!(Header::decode(&answer[1]).unwrap().server, Some("s1".parse().unwrap()), "a server answered");
        }
    }
    eventually("every message is counted", || attack.counter("refused_malformed") == 11 * MANY as u64);
    attack.check(MANY + 100);
}

#[test]
fn a_message_over_the_limit_is_refused_or_cut_off() {
    let attack = Attack::new();
    let limit = 16 * 1024 * 1024;
    let mut slightly = Zmtp::tcp(attack.address(), "DEALER").unwrap();
    let [header, body] = request(&vec![b'x'; limit + 1]);
    slightly.send(&[b"", &header, &body]).unwrap();
    let answer = slightly.receive().unwrap();
    assert_eq!(Header::decode(&answer[1]).unwrap().reason, Some(Reason::TooLarge));
    let detail = String::from_utf8_lossy(&answer[2]);
    assert!(detail.contains("16777217") && detail.contains("16777216"), "{detail}");
    assert_eq!(attack.counter("refused_too_large"), 1);
    drop((slightly, body));
    // The message is only announced: nobody waits for it, and no memory is reserved for it.
    for n in 0..100_u64 {
        let mut lying = Zmtp::tcp(attack.address(), "DEALER").unwrap();
        let mut bytes = vec![2];
        bytes.extend_from_slice(&(u64::MAX >> (n % 30)).to_be_bytes());
        lying.send_raw(&bytes).unwrap();
        assert!(lying.receive().is_err(), "the connection was kept");
    }
    attack.check(20);
}

#[test]
fn a_peer_that_never_reads_its_replies_stops_nobody() {
    let attack = Attack::new();
    let mut deaf = TcpStream::connect(attack.address()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    deaf.write_all(&[greeting(), ready("DEALER")].concat()).unwrap();
    let unserved = keyed(b"openstack/nobody");
    let batch: Vec<u8> = (0..1_000).flat_map(|_| message(&[b"", &unserved, b"{}"])).collect();
    // 100,000 requests, each with an answer. TCP may stop accepting them at some point.
    let sent = (0..100).take_while(|_| deaf.write_all(&batch).is_ok()).count();
    assert!(sent > 10, "only {sent} batches were taken: the socket, not the broker, was tested");
    // Either TCP stops the peer, or the broker drops answers that nobody reads. It never keeps them
    // all.
    eventually("an end to it", || attack.counter("undeliverable") > 0 || sent < 100);
    attack.check(20);
    drop(deaf);
}
