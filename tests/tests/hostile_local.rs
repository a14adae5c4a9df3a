//! Proves that a broker drops local peers that break the protocol, says why, and serves the others.

use std::time::Duration;

use serde_json::{Value, json};
use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::control::{BROKER_SOCKET, ServerRegistration, worker_socket};
use zmqv2_proto::transport::{Frame, Received, Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{Header, InstanceId, Kind, MessageId, NodeName, Reason, Target};
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually, now};

fn order(kind: Kind, key: &str, server: &str, body: &[u8]) -> [Vec<u8>; 2] {
    let mut header = Header::new(kind, MessageId::random()).encode();
    header[44..46].copy_from_slice(&(key.len() as u16).to_be_bytes());
    header[46] = server.len() as u8;
    header.extend_from_slice(key.as_bytes());
    header.extend_from_slice(server.as_bytes());
    [header, body.to_vec()]
}

fn offer(workers: u32, credit: u32) -> Value {
    json!({"instance": InstanceId::random().to_string(), "workers": workers, "credit": credit, "pid": 1})
}

#[test]
fn a_garbage_registration_is_refused_with_what_is_wrong_and_registers_nothing() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let broker = node.broker();
    let good = offer(1, 1).to_string();
    let long = "x".repeat(200);
    let too_long = "k".repeat(300);
    let cases: Vec<(&str, &str, String, &str)> = vec![
        ("openstack/demo", "s1", offer(0, 1).to_string(), "0 workers"),
        ("openstack/demo", "s1", offer(65_535, 1).to_string(), "1 to 4096 workers"),
        ("openstack/demo", "s1", offer(70_000, 1).to_string(), "70000"),
        ("openstack/demo", "s1", offer(1, 0).to_string(), "credit 0"),
        ("openstack/demo", "s1", "{".to_owned(), "EOF"),
        ("openstack/demo", "s1", "\u{0}\u{1}".to_owned(), "expected value"),
        ("openstack/demo", "s1", "[]".to_owned(), "invalid length"),
        ("openstack/demo", "s1", good.replace("instance", "instant"), "missing field"),
        (
            "openstack/demo",
            "s1",
            json!({"instance": "../../x", "workers": 1, "credit": 1, "pid": 1}).to_string(),
            "invalid id",
        ),
        ("openstack/demo", "s1", "[".repeat(10_000), "expected a string"),
        ("openstack/../x", "s1", good.clone(), "'/' is not allowed"),
        ("no-slash", "s1", good.clone(), "it has no '/'"),
        ("", "s1", good.clone(), "topic key"),
        (&too_long, "s1", good.clone(), "invalid"),
        ("openstack/demo", "", good.clone(), "invalid server \"\": it is empty"),
        ("openstack/demo", "a/b", good.clone(), "'/' is not allowed"),
        ("openstack/demo", "..", good.clone(), "it is a directory's name"),
        ("openstack/demo", &long, "null".to_owned(), "invalid type: null"),
    ];
    let mut peer = Zmtp::ipc(node.file(BROKER_SOCKET), "DEALER").unwrap();
    for (key, server, body, part) in &cases {
        let [header, body] = order(Kind::Register, key, server, body.as_bytes());
        peer.send(&[b"", &header, &body]).unwrap();
        let answer = peer.receive().unwrap();
        let refusal = Header::decode(&answer[1]).unwrap();
        let detail = String::from_utf8_lossy(&answer[2]).into_owned();
        assert_eq!(
            (refusal.kind, refusal.reason),
            (Kind::Refusal, Some(Reason::Malformed)),
            "{key} {server}: {detail}"
        );
        assert!(detail.contains(part) && detail.len() < 400, "no {part:?} in {detail:?}");
    }
    let [header, _] = order(Kind::Withdraw, "", "", b"");
    peer.send(&[b"", &header, b"{\"instance\": 7}"]).unwrap();
    assert_eq!(Header::decode(&peer.receive().unwrap()[1]).unwrap().reason, Some(Reason::Malformed));
    let status = node.status();
    assert_eq!(status.counters["refused_malformed"], cases.len() as u64 + 1);
    assert!(status.topics.is_empty(), "{status:?}");
    eventually("it is in the log", || broker.stderr().contains("malformed message"));
    assert_eq!(broker.stderr().matches("malformed message").count(), 1, "one line for one peer:\n{}", broker.stderr());
}

/// A hand-made server: one worker socket, registered at the broker.
struct WrongServer {
    socket: Socket,
    registrar: Zmtp,
    registration: ServerRegistration,
}

impl WrongServer {
    /// Binds a worker's socket as `role` and registers it as `server` of the topic `demo`.
    fn start(node: &Node, server: &str, role: Role) -> Self {
        let transport = Transport::new(TransportOptions::default());
        let mut socket = transport.socket(role).unwrap();
        let registration = ServerRegistration::new(InstanceId::random(), 1, 1, std::process::id());
        socket.bind(&worker_socket(&node.ipc_dir, registration.instance, 0).unwrap()).unwrap();
        let registrar = Zmtp::ipc(node.file(BROKER_SOCKET), "DEALER").unwrap();
        let mut wrong = Self { socket, registrar, registration };
        wrong.register(server);
        let answer = wrong.registrar.receive().unwrap();
        assert_eq!(Header::decode(&answer[1]).unwrap().kind, Kind::Registered);
        wrong
    }

    fn register(&mut self, server: &str) {
        let body = serde_json::to_vec(&self.registration).unwrap();
        let [header, body] = order(Kind::Register, "openstack/demo", server, &body);
        self.registrar.send(&[b"", &header, &body]).unwrap();
    }

    /// The next request, with the frames in front of it.
    fn receive(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let end_at = now() + PATIENCE;
        while self.socket.receive(&mut frames).unwrap() == Received::Nothing {
            assert!(now() < end_at, "no request");
            if !self.socket.readiness().unwrap().readable {
                self.socket.wait(Some(Duration::from_millis(100)), None).unwrap();
            }
        }
        frames
    }
}

fn caller(node: &Node, server: &str) -> Process {
    let arguments = ["call", "demo", "echo", "1", "--server", server, "--timeout", "20"];
    Process::start("caller", &mut node.command("zmqv2", &arguments))
}

/// The correct answer to a request with the header `request`.
fn honest(request: &[u8], node: &Node) -> Header {
    let request = Header::decode(request).unwrap();
    let mut answer = Header::new(Kind::Reply, request.id);
    answer.tag = request.tag;
    answer.count = 1;
    answer.server = Some("liar".parse().unwrap());
    answer.node = Some(NodeName::new(&node.host).unwrap());
    answer
}

/// Makes the frames of a wrong answer from the header of the correct one.
type WrongAnswer = fn(&Header) -> Vec<Vec<u8>>;

#[test]
fn a_worker_that_answers_garbage_is_dropped_and_its_caller_told() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (broker, _good) = (node.broker(), node.serve("demo", "good", &[]));
    // Each sends frames that a REP socket never sends.
    let wrong_answers: [WrongAnswer; 8] = [
        |_| vec![b"garbage".to_vec()],
        |_| vec![vec![], b"garbage".to_vec(), vec![]],
        |honest| vec![honest.encode(), b"no delimiter".to_vec()],
        |honest| vec![vec![], honest.encode()],
        |honest| [vec![], honest.encode()].into_iter().chain(std::iter::repeat_n(b"x".to_vec(), 20)).collect(),
        |honest| {
            let mut other = honest.clone();
            other.kind = Kind::Register;
            vec![vec![], other.encode(), vec![]]
        },
        |honest| {
            let mut request = honest.clone();
            request.kind = Kind::Call;
            vec![vec![], request.encode(), vec![]]
        },
        |honest| {
            let mut bundle = Bundle::new();
            bundle.push(&honest.encode()[..40], b"");
            vec![vec![], bundle.frame().to_vec()]
        },
    ];
    for (n, answer) in wrong_answers.iter().enumerate() {
        let wrong = WrongServer::start(node, "liar", Role::Router);
        let mut caller = caller(node, "liar");
        let request = wrong.receive();
        let frames = answer(&honest(&request[2], node));
        let id = Frame::from(&request[0][..]);
        let sent = [id].into_iter().chain(frames.into_iter().map(Frame::from));
        wrong.socket.send(sent).unwrap();
        assert_eq!(caller.wait_end(Duration::from_secs(5)).code(), Some(4), "answer {n}: {}", caller.stderr());
        caller.wait_for_line("ServerLost: ");
        eventually("the liar is forgotten", || node.tool(&["ping", "demo", "--server", "liar"]).code() == 4);
    }
    let status = node.status();
    assert_eq!(status.counters["refused_malformed"], wrong_answers.len() as u64);
    assert_eq!(status.in_flight, 0);
    assert_eq!(node.tool(&["call", "demo", "echo", "2"]).stdout, "2\n");
    eventually("a line for each", || broker.stderr().matches("malformed answer").count() == wrong_answers.len());
}

#[test]
fn an_answer_with_a_wrong_tag_reaches_nobody_else() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _good) = (node.broker(), node.serve("demo", "good", &["--workers", "2"]));
    let wrong = WrongServer::start(node, "liar", Role::Router);
    // Another request is in flight while the wrong server guesses tags.
    let mut victim =
        Process::start("victim", &mut node.command("zmqv2", &["call", "demo", "sleep", "1", "--server", "good"]));
    eventually("the victim's request is in flight", || node.status().in_flight == 1);
    let mut caller = caller(node, "liar");
    let request = wrong.receive();
    let truth = honest(&request[2], node);
    let answer_with = |header: &Header| {
        let frames =
            [Frame::from(&request[0][..]), Frame::new(), Frame::from(header.encode()), Frame::from(&b"null"[..])];
        wrong.socket.send(frames).unwrap();
    };
    for tag in (0..200).chain([u64::MAX, u64::MAX / 2]).filter(|tag| *tag != truth.tag) {
        let mut guess = truth.clone();
        guess.tag = tag;
        // A message that only gives credit must not help either.
        guess.count = u16::MAX;
        answer_with(&guess);
    }
    // It may still answer its own request. The broker may or may not still trust it.
    answer_with(&truth);
    assert_eq!(victim.wait_end(PATIENCE).code(), Some(0), "{}", victim.stderr());
    let code = caller.wait_end(PATIENCE).code();
    assert!(matches!(code, Some(1 | 3 | 4)), "a body that is no reply, or a lost server: {code:?} {}", caller.stderr());
    let status = node.status();
    assert_eq!((status.in_flight, status.queued), (0, 0), "{status:?}");
    for topic in &status.topics {
        assert!(topic.servers.iter().all(|server| server.workers_ready <= 2 && server.workers_busy == 0), "{topic:?}");
    }
    assert_eq!(node.tool(&["call", "demo", "echo", "2", "--server", "good"]).stdout, "2\n");
}

#[test]
fn a_server_that_dies_right_after_it_registered_costs_nobody_anything() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let (_broker, _good) = (node.broker(), node.serve("demo", "good", &[]));
    for n in 0..50 {
        drop(WrongServer::start(node, &format!("short-lived-{n}"), Role::Rep));
    }
    // Registered without a socket: the broker forgets it after a while, and sends nothing there
    // meanwhile.
    let mut peer = Zmtp::ipc(node.file(BROKER_SOCKET), "DEALER").unwrap();
    for n in 0..50 {
        let [header, body] =
            order(Kind::Register, "openstack/demo", &format!("never-{n}"), offer(4, 1).to_string().as_bytes());
        peer.send(&[b"", &header, &body]).unwrap();
    }
    for n in 0..20 {
        let answer = node.client(Target::topic("demo").unwrap()).call::<u64>(&Default::default(), "echo", &n);
        assert_eq!(answer.unwrap(), n);
    }
    eventually("those that are gone are forgotten", || {
        let topics = node.status().topics;
        topics.len() == 1 && topics[0].servers.len() == 1
    });
    assert_eq!(node.status().counters["servers_registered"], 51);
}
