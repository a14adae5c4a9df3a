//! Proves that the legacy driver behaves as the original does: its frames, sockets and addresses
//! are compared, on every hop, with a recording of the original.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use zmq::{Context, Socket, SocketType};
use zmqv2_proto::Failure;
use zmqv2_tests::legacy::frames::{self, Frames, Message, Notice, Received, Unreadable};
use zmqv2_tests::legacy::{Client, Daemon, Failed, Help, Options, Server, Target};
use zmqv2_tests::messaging::{Driver, DriverCluster, To};
use zmqv2_tests::notifications::NotificationLog;
use zmqv2_tests::{Cluster, PATIENCE, eventually, now};

const RECORDED: &str = include_str!("../fixtures/legacy/frames.txt");

/// The frames at one hop of a message.
#[derive(Debug, Clone)]
struct Hop {
    /// Such as `client send PUSH tcp://localhost:9501`.
    place: String,
    frames: Frames,
}

/// All hops of each message.
fn recorded() -> BTreeMap<&'static str, Vec<Hop>> {
    let mut messages: BTreeMap<&str, Vec<Hop>> = BTreeMap::new();
    let mut name = "";
    for line in RECORDED.lines() {
        if let Some(message) = line.strip_prefix("== ") {
            name = message;
        } else if let Some(place) = line.strip_prefix("-- ") {
            messages.entry(name).or_default().push(Hop { place: place.to_owned(), frames: Vec::new() });
        } else if let Some((_, frame)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            let (bytes, text) = frame.split_once(' ').expect("a length and a text");
            assert_eq!(text.len().to_string(), bytes, "{line}");
            let hops = messages.get_mut(name).expect("a message");
            hops.last_mut().expect("a hop").frames.push(text.into());
        }
    }
    messages
}

/// The frames of a hop with this socket type and end of the address.
fn hop(message: &str, start: &str) -> Frames {
    let all = recorded();
    let hop = all[message].iter().find(|hop| hop.place.starts_with(start));
    hop.unwrap_or_else(|| panic!("{start} of {message}")).frames.clone()
}

fn text(frames: &Frames) -> Vec<&str> {
    frames.iter().map(|frame| std::str::from_utf8(frame).expect("text")).collect()
}

fn context() -> Map<String, Value> {
    Map::from_iter([("user".to_owned(), "u1".into())])
}

fn echo(method: &str) -> Message {
    Message::new(method, json!({"x": "hi"}))
}

fn count() -> Message {
    Message::new("count", json!({"seq": 1, "x": "hi"}))
}

fn notice() -> Notice {
    Notice {
        message_id: "ce7d2962-eb3c-49af-b2e3-ee4e7cb7e62e".to_owned(),
        publisher_id: "pub".to_owned(),
        event_type: "evt".to_owned(),
        priority: "INFO".to_owned(),
        payload: json!({"k": 1}),
        timestamp: "2026-11-22 17:07:00.388933".to_owned(),
    }
}

const CALL: &str = "2fc71286545e4bfea0b09c6e9297441b";
const FAILING: &str = "4068bef231db4be4a5843ec422f5688d";
const REPLIES: &str = "zmq_replies.localhost";

/// The failure that was recorded.
fn failure() -> Box<Failure> {
    let frames = hop("call that fails", "server send PUSH");
    frames::read_reply(&frames).expect("a reply").expect_err("a failure")
}

#[test]
fn every_message_is_built_byte_for_byte_as_it_was_recorded() {
    let (context, topic) = (context(), "demo.localhost");
    let built = [
        ("call", "client send", frames::call(topic, &context, &echo("echo"), CALL, REPLIES)),
        ("call", "server send", frames::reply(REPLIES, &context, CALL, &Ok("hi".into()))),
        ("call that fails", "client send", frames::call(topic, &context, &echo("nosuch"), FAILING, REPLIES)),
        ("call that fails", "server send", frames::reply(REPLIES, &context, FAILING, &Err(failure()))),
        ("cast", "client send", frames::cast(topic, &context, &count())),
        ("cast to a server", "client send", frames::cast(topic, &context, &count())),
        ("fanout", "client send", frames::cast("fanout~demo.localhost", &context, &count())),
        ("notify 1", "client send", frames::notify("notifications-info.localhost", &context, &notice())),
    ];
    for (message, place, frames) in built {
        assert_eq!(text(&frames), text(&hop(message, place)), "{message}, {place}");
    }
    // The recording of version 2 ends before its last frame.
    let built = frames::notify_2("notifications-info.localhost", &context, &notice());
    let known = hop("notify 2", "client send");
    assert_eq!((text(&built)[..7].to_vec(), known.len()), (text(&known), 7));
    assert_eq!(serde_json::from_slice::<Value>(&built[7]).unwrap()["payload"], json!({"k": 1}));
}

#[test]
fn every_message_is_read_as_it_was_recorded() {
    let read = |message| frames::read(&hop(message, "client send")).expect(message);
    let call = |method: &str, id: &str| Received::Call(context(), echo(method), id.to_owned(), REPLIES.to_owned());
    assert_eq!(read("call"), call("echo", CALL));
    assert_eq!(read("call that fails"), call("nosuch", FAILING));
    for message in ["cast", "cast to a server", "fanout"] {
        assert_eq!(read(message), Received::Cast(context(), count()));
    }
    assert_eq!(read("notify 1"), Received::Notice(context(), notice()));
    let version_2 = frames::notify_2("t", &context(), &notice());
    assert_eq!(frames::read(&version_2), Ok(Received::Notice(context(), notice())));
    assert_eq!(frames::read_reply(&hop("call", "server send")), Ok(Ok("hi".into())));
    assert_eq!(
        (failure().class.as_str(), failure().module.as_str()),
        ("NoSuchMethod", "oslo_messaging.rpc.dispatcher")
    );
    for (unreadable, why) in [
        (vec![], Unreadable::Frames),
        (vec!["0"], Unreadable::Frames),
        (vec!["0", "t", "else", "{}"], Unreadable::Envelope),
        (vec!["0", "t", "cast", "{"], Unreadable::Frames),
        (vec!["0", "t", "cast", r#"["{}", {"args": {}}]"#], Unreadable::Message),
    ] {
        let bytes: Frames = unreadable.iter().map(|frame| frame.as_bytes().to_vec()).collect();
        assert_eq!(frames::read(&bytes), Err(why), "{unreadable:?}");
    }
}

/// Raw sockets in place of the original's processes.
struct RawPeers {
    zmq: Context,
    dir: TempDir,
}

impl RawPeers {
    fn new() -> Self {
        Self { zmq: Context::new(), dir: tempfile::tempdir().expect("a directory") }
    }

    fn socket(&self, kind: SocketType) -> Socket {
        let socket = self.zmq.socket(kind).expect("a socket");
        socket.set_linger(0).expect("an option");
        socket.set_rcvtimeo(i32::try_from(PATIENCE.as_millis()).unwrap()).expect("an option");
        socket
    }

    /// A local socket of this name, bound or connected.
    fn ipc(&self, kind: SocketType, name: &str, bind: bool) -> Socket {
        let socket = self.socket(kind);
        if kind == SocketType::SUB {
            socket.set_subscribe(b"").expect("an option");
        }
        let address = format!("ipc://{}/{name}", self.dir.path().display());
        if bind { socket.bind(&address) } else { socket.connect(&address) }.expect("an address");
        socket
    }

    /// A daemon at this address, and a socket that pushes to it.
    fn daemon(&self, address: &str) -> (Daemon, Socket) {
        let daemon = Daemon::start(Options { bind_address: address.to_owned(), ..self.options(9501) }).unwrap();
        let push = self.socket(SocketType::PUSH);
        push.connect(&format!("tcp://{address}:9501")).unwrap();
        (daemon, push)
    }

    /// The socket that clients and servers push to, and its port. `localhost` has two addresses on
    /// some machines.
    fn pull(&self) -> (Socket, u16) {
        let socket = self.socket(SocketType::PULL);
        socket.set_ipv6(true).expect("an option");
        socket.bind("tcp://127.0.0.1:*").expect("an address");
        let bound = socket.get_last_endpoint().expect("an address").expect("text");
        let port = bound.rsplit_once(':').expect("a port").1.parse().expect("a number");
        let _ = socket.bind(&format!("tcp://[::1]:{port}"));
        (socket, port)
    }

    fn options(&self, port: u16) -> Options {
        let (host, ipc_dir) = ("localhost".to_owned(), self.dir.path().to_owned());
        let bind_address = "127.0.0.1".to_owned();
        Options { host, ipc_dir, port, bind_address, response_timeout: PATIENCE, ..Options::default() }
    }
}

fn receive(socket: &Socket) -> Frames {
    socket.recv_multipart(0).expect("a message in time")
}

/// The id of a call, read from its text.
fn id_of(frames: &Frames) -> String {
    match frames::read(frames) {
        Ok(Received::Call(_, _, id, _)) => id,
        other => panic!("no call: {other:?}"),
    }
}

#[test]
fn a_client_pushes_what_the_original_did_and_takes_the_reply_from_its_topic() {
    let peers = RawPeers::new();
    let (pull, port) = peers.pull();
    let client = Client::new(peers.options(port), Help::default()).unwrap();
    let demo = |server: Option<&str>| Target { topic: "demo".to_owned(), server: server.map(str::to_owned) };
    client.cast(&demo(None), &context(), &count());
    assert_eq!(text(&receive(&pull)), text(&hop("cast", "client send")));
    client.cast(&demo(Some("localhost")), &context(), &count());
    assert_eq!(text(&receive(&pull)), text(&hop("cast to a server", "client send")));
    client.fanout("demo", &context(), &count());
    assert_eq!(text(&receive(&pull)), text(&hop("fanout", "client send")));
    client.notify("notifications", &context(), &notice(), 1);
    assert_eq!(text(&receive(&pull)), text(&hop("notify 1", "client send")));
    client.notify("notifications", &context(), &notice(), 2);
    assert_eq!(text(&receive(&pull))[..7], text(&hop("notify 2", "client send")));

    for (message, method, id) in [("call", "echo", CALL), ("call that fails", "nosuch", FAILING)] {
        let replies = peers.ipc(SocketType::XPUB, "zmq_topic_zmq_replies.localhost", true);
        let result = std::thread::scope(|scope| {
            let call = scope.spawn(|| client.call(&demo(None), &context(), &echo(method)));
            let sent = receive(&pull);
            let own = id_of(&sent);
            let with =
                |frames: Frames| -> Vec<String> { text(&frames).iter().map(|frame| frame.replace(id, &own)).collect() };
            assert_eq!(text(&sent), with(hop(message, "client send")));
            // The caller has subscribed to its id only.
            assert_eq!(replies.recv_bytes(0).unwrap(), [b"\x01", own.as_bytes()].concat());
            replies.send_multipart(with(hop(message, "daemon send PUB")).iter(), 0).unwrap();
            call.join().unwrap()
        });
        match (message, result) {
            ("call", Ok(value)) => assert_eq!(value, "hi"),
            (_, Err(Failed::Remote(failed_with))) => assert_eq!(failed_with, failure()),
            (message, other) => panic!("{message}: {other:?}"),
        }
        drop(replies);
    }
}

#[test]
fn a_server_takes_what_the_original_took_and_pushes_its_reply() {
    let peers = RawPeers::new();
    let (pull, port) = peers.pull();
    let (requests, fanouts) = (
        peers.ipc(SocketType::PUSH, "zmq_topic_demo.localhost", true),
        peers.ipc(SocketType::XPUB, "zmq_topic_fanout~demo", true),
    );
    let (put, taken) = std::sync::mpsc::channel();
    let (put, fails) = (std::sync::Mutex::new(put), failure());
    let handler = move |message: &Message| {
        put.lock().unwrap().send(message.clone()).unwrap();
        match message.method.as_str() {
            "echo" => Some(Ok(message.args["x"].clone())),
            "nosuch" => Some(Err(fails.clone())),
            _ => Some(Ok(Value::Null)),
        }
    };
    let server = Server::serve(peers.options(port), "demo", Arc::new(handler)).unwrap();
    // It receives all fanouts of its topic.
    assert_eq!(fanouts.recv_bytes(0).unwrap(), b"\x01");
    for (message, expected) in [("call", echo("echo")), ("call that fails", echo("nosuch"))] {
        requests.send_multipart(hop(message, "server recv PULL"), 0).unwrap();
        assert_eq!(text(&receive(&pull)), text(&hop(message, "server send PUSH")));
        assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), expected);
    }
    requests.send_multipart(hop("cast", "server recv PULL"), 0).unwrap();
    assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), count());
    fanouts.send_multipart(hop("fanout", "server recv SUB"), 0).unwrap();
    assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), count());
    drop(server);
}

#[test]
fn each_socket_of_the_daemon_has_a_context_of_its_own() {
    let nodes = DriverCluster::start(Driver::Legacy, 1, &["t"], &[]);
    let (tasks, client) = (format!("/proc/{}/task", nodes.process(0).id()), nodes.at(0));
    let threads = || std::fs::read_dir(&tasks).map_or(0, Iterator::count);
    let at_first = threads();
    // One sending thread, and two of the context.
    drop(client.send(&To::topic("t"), "note", &Value::Null));
    eventually("PUSH for the topic", || threads() == at_first + 3);
    drop(client.send_to_all(&To::topic("t"), "note", &Value::Null));
    eventually("PUB for its fanouts", || threads() == at_first + 6);
}

#[test]
fn an_unknown_envelope_is_skipped_and_a_broken_message_ends_only_the_reading_of_its_socket() {
    let peers = RawPeers::new();
    let (_pull, port) = peers.pull();
    let (requests, fanouts) = (
        peers.ipc(SocketType::PUSH, "zmq_topic_demo.localhost", true),
        peers.ipc(SocketType::XPUB, "zmq_topic_fanout~demo", true),
    );
    let taken = NotificationLog::default();
    let note = taken.clone();
    let handler = move |message: &Message| {
        note.add(message.method.clone());
        Some(Ok(Value::Null))
    };
    let _server = Server::serve(peers.options(port), "demo", Arc::new(handler)).unwrap();
    assert_eq!(fanouts.recv_bytes(0).unwrap(), b"\x01");
    for envelope in ["impl_zmq_v3", "", "else"] {
        requests.send_multipart(["0", "demo.localhost", envelope, "{}"], 0).unwrap();
    }
    requests.send_multipart(hop("cast", "server recv PULL"), 0).unwrap();
    taken.wait(1);
    // This ends the reader of requests. The reader of fanouts goes on.
    requests.send_multipart(["0", "demo.localhost", "cast", "{"], 0).unwrap();
    // It may be gone already; then nothing takes this message.
    let _ = requests.send_multipart(hop("cast", "server recv PULL"), zmq::DONTWAIT);
    fanouts.send_multipart(hop("fanout", "server recv SUB"), 0).unwrap();
    taken.wait(2);
    // The messages before these two would have run by now, if anything read them.
    fanouts.send_multipart(hop("fanout", "server recv SUB"), 0).unwrap();
    assert_eq!(taken.wait(3), ["count", "count", "count"]);
}

#[test]
fn the_sending_of_a_call_is_bounded_by_its_response_timeout() {
    let peers = RawPeers::new();
    // Nobody listens there. Messages fill the queue of the client's only socket, and then a send
    // blocks.
    let cluster = Cluster::new(1, &[]);
    let target = Target { topic: "demo".to_owned(), server: Some(cluster.node(0).host.clone()) };
    let options = Options { response_timeout: Duration::from_millis(300), conn_pool_size: 1, ..peers.options(9501) };
    assert!(options.cast_timeout >= PATIENCE);
    let client = Client::new(options, Help::default()).unwrap();
    for _ in 0..1_000 {
        client.cast(&target, &context(), &count());
    }
    let started = now();
    let ended = client.call(&target, &context(), &echo("echo"));
    assert_eq!(ended, Err(Failed::Timeout("the message could not be sent")));
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

#[test]
fn a_daemon_forwards_every_message_unchanged_to_the_socket_of_its_topic() {
    let peers = RawPeers::new();
    let cluster = Cluster::new(1, &[]);
    let (daemon, push) = peers.daemon(&cluster.node(0).host);
    let mut servers = BTreeMap::new();
    for (message, hops) in recorded() {
        let pairs = hops.iter().zip(hops.iter().skip(1));
        for (received, sent) in pairs.filter(|(_, sent)| sent.place.starts_with("daemon send")) {
            assert!(received.place.starts_with("daemon recv PULL tcp://127.0.0.1:9501"), "{received:?}");
            let (kind, address) = sent.place["daemon send ".len()..].split_once(' ').expect("a socket");
            let name = address.strip_prefix("ipc://IPC_DIR/").expect("a local address");
            let kind = if kind == "PUB" { SocketType::SUB } else { SocketType::PULL };
            // One server for each topic, because a message for a server that has just stopped is
            // lost.
            let socket = servers.entry(name.to_owned()).or_insert_with(|| peers.ipc(kind, name, false));
            push.send_multipart(&received.frames, 0).unwrap();
            assert_eq!(text(&receive(socket)), text(&sent.frames), "{message}");
            assert_eq!(received.frames, sent.frames);
        }
    }
    drop(daemon);
}

#[test]
fn a_topic_that_is_a_path_is_refused_and_a_message_of_one_frame_ends_the_daemon() {
    let peers = RawPeers::new();
    let cluster = Cluster::new(1, &[]);
    let (daemon, push) = peers.daemon(&cluster.node(0).host);
    let pull = peers.ipc(SocketType::PULL, "zmq_topic_t.localhost", false);
    for topic in ["../../t.localhost", "a\\b.localhost", "t.localhost"] {
        push.send_multipart(["0", topic, "cast", "x"], 0).unwrap();
    }
    assert_eq!(text(&receive(&pull)), ["0", "t.localhost", "cast", "x"]);
    assert_eq!(names(peers.dir.path()), ["zmq_topic_t.localhost"]);
    push.send("x", 0).unwrap();
    eventually("the daemon ends", || daemon.has_ended());
    eventually("it is gone", || std::net::TcpStream::connect((cluster.node(0).host.as_str(), 9501)).is_err());
}

fn names(dir: &Path) -> Vec<String> {
    zmqv2_tests::kernel::names_in(dir)
}
