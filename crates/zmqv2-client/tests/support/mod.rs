//! A broker that does what a test tells it, and a directory of such brokers.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zmqv2_client::{RpcClient, RpcClientBuilder};
use zmqv2_matchmaker::{
    Completeness, Health, Matchmaker, MatchmakerError, PlacedNode, Placement, Refreshed, Registration,
};
use zmqv2_proto::bundle::Bundled;
use zmqv2_proto::hello::{HELLO_ID, Welcome};
use zmqv2_proto::transport::{Frame, Received, Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{
    Address, Config, Failure, Flags, Header, Kind, Node, Notification, Reason, Reply, Request, Target, TopicKey, Ttl,
    json_text,
};

#[expect(clippy::disallowed_methods, reason = "tests measure")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long after its timeout a message may end (P1).
const SLACK: Duration = Duration::from_millis(50);

/// Repeats `attempt` until it ends at most [`SLACK`] after `timeout`. It must never end before. Returns
/// the last result and the number of attempts. A busy machine can delay some attempts, but not all.
pub(crate) fn punctual<T>(timeout: Duration, mut attempt: impl FnMut() -> T) -> (T, usize) {
    let mut late = Vec::new();
    loop {
        let started = now();
        let result = attempt();
        let took = started.elapsed();
        assert!(took >= timeout, "ended after {took:?}, before its timeout of {timeout:?}");
        if took <= timeout + SLACK {
            return (result, late.len() + 1);
        }
        late.push(took);
        assert!(late.len() < 20, "always late for {timeout:?}: {late:?}");
    }
}

/// A request as the broker received it.
pub(crate) struct Seen {
    pub(crate) header: Header,
    /// The request; of another message, one without arguments.
    pub(crate) request: Request,
    /// The notification, if it is one.
    pub(crate) notification: Option<Notification>,
    /// The bytes of the body.
    pub(crate) body: Vec<u8>,
}

/// What the broker does with a request.
pub(crate) enum Act {
    /// Answer with this header and body.
    Answer(Header, Vec<u8>),
    /// Answer several times.
    Several(Vec<Header>),
    /// Answer with these frames.
    Frames(Vec<Vec<u8>>),
    /// Say nothing.
    Ignore,
    /// Answer later.
    Hold,
    /// Answer this one, then all that are held, the latest first.
    Release,
    /// Answer all that are held, and not this one.
    ReleaseHeld,
    /// First the one, then the other.
    Both(Box<Act>, Box<Act>),
    /// Stop at once: the connection breaks.
    Die,
}

impl Seen {
    fn answer(&self, kind: Kind) -> Header {
        let mut header = Header::new(kind, self.header.id);
        header.tag = self.header.tag;
        header.server = Some("s1".parse().unwrap());
        header.node = Some("n1".parse().unwrap());
        header
    }

    pub(crate) fn result(&self, value: &impl serde::Serialize) -> Act {
        let body = Reply::Result(json_text(value).unwrap()).encode().unwrap();
        Act::Answer(self.answer(Kind::Reply), body)
    }

    pub(crate) fn echo(&self) -> Act {
        self.result(&self.request.args)
    }

    /// The answer of a server that accepts.
    pub(crate) fn good(&self) -> Act {
        if self.header.kind == Kind::Cast { self.ack() } else { self.echo() }
    }

    pub(crate) fn ack(&self) -> Act {
        Act::Answer(self.answer(Kind::Ack), Vec::new())
    }

    /// The answers of these servers of a node. `missing` further answers are still to come.
    pub(crate) fn acks(&self, node: &str, servers: &[&str], missing: u16) -> Act {
        let left = servers.len() as u16 + missing;
        let answers = servers.iter().zip(1..);
        Act::Several(answers.map(|(server, nth)| self.word(Kind::Ack, node, server, left - nth)).collect())
    }

    /// One of several answers: `left` others are still to come.
    pub(crate) fn word(&self, kind: Kind, node: &str, server: &str, left: u16) -> Header {
        let mut header = self.answer(kind);
        header.server = (!server.is_empty()).then(|| server.parse().unwrap());
        header.node = Some(node.parse().unwrap());
        header.count = left;
        header
    }

    /// One server of several refuses its copy.
    pub(crate) fn refused_word(&self, reason: Reason, node: &str, server: &str, left: u16) -> Header {
        let mut header = self.word(Kind::Refusal, node, server, left);
        header.reason = Some(reason);
        header
    }

    pub(crate) fn failure(&self, failure: Failure) -> Act {
        let mut header = self.answer(Kind::Reply);
        header.flags = Flags::FAILURE;
        let body = Reply::Failure(Box::new(failure)).encode().unwrap();
        Act::Answer(header, body)
    }

    pub(crate) fn refusal(&self, reason: Reason, detail: &str) -> Act {
        let mut header = self.answer(Kind::Refusal);
        header.server = None;
        header.reason = Some(reason);
        Act::Answer(header, detail.as_bytes().to_vec())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Without first questions on connections.
    pub(crate) requests: usize,
    /// First questions.
    pub(crate) questions: usize,
    /// Routing ids: one for each connection.
    pub(crate) connections: HashSet<Vec<u8>>,
}

/// How the broker answers the first question on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Manners {
    /// As a broker of an earlier version answers a question about a call that it does not know.
    Old,
    /// With this. Its clock is ahead of the true one by so many milliseconds.
    New { welcome: Welcome, ahead: i64 },
    /// It says nothing.
    Silent,
}

impl Manners {
    /// Those of a broker on this machine.
    pub(crate) fn new() -> Self {
        Self::New { welcome: Welcome::new(16 << 20), ahead: 0 }
    }

    fn answer(&self, question: &Header) -> Option<[Vec<u8>; 2]> {
        let mut header = match self {
            Self::Old => Header::new(Kind::Refusal, question.id),
            Self::New { .. } => Header::new(Kind::Welcome, question.id),
            Self::Silent => return None,
        };
        header.tag = question.tag;
        header.node = Some("n1".parse().unwrap());
        Some(match self {
            Self::New { welcome, ahead } => {
                header.delivered = Ttl::monotonic_millis().checked_add_signed(*ahead).unwrap();
                [header.encode(), welcome.write()]
            }
            _ => {
                header.reason = Some(Reason::ServerLost);
                [header.encode(), b"the broker has no such call".to_vec()]
            }
        })
    }
}

/// A host of the loopback network that nobody else in this process has. A port that is free there for
/// a moment stays free: other tests choose ports of other hosts.
fn own_host() -> String {
    static HOSTS: AtomicU16 = AtomicU16::new(0);
    let number = HOSTS.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{}.{}", 1 + std::process::id() % 250, 100 + number / 250, 1 + number % 250)
}

/// Any free port of a host of its own.
fn own_address() -> Address {
    Address::Tcp(format!("{}:0", own_host()).parse().unwrap())
}

/// A broker in a thread; it stops when dropped.
pub(crate) struct Broker {
    pub(crate) address: Address,
    pub(crate) counts: Arc<Mutex<Counts>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    pub(crate) fn start(act: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self::start_at(&own_address(), act)
    }

    pub(crate) fn start_at(address: &Address, act: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self::start_with(address, Manners::Old, act)
    }

    /// A broker with these manners.
    pub(crate) fn with_manners(manners: Manners, act: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self::start_with(&own_address(), manners, act)
    }

    pub(crate) fn start_with(
        address: &Address,
        manners: Manners,
        act: impl FnMut(&Seen) -> Act + Send + 'static,
    ) -> Self {
        let transport = Transport::new(TransportOptions::default());
        let mut socket = transport.socket(Role::Router).unwrap();
        let address = socket.bind(address).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let counted = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            serve(&socket, &stopped, &counted, &manners, act);
            // The port is free again when both are gone.
            drop((socket, transport));
        });
        Self { address, counts, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        match &self.address {
            Address::Tcp(address) => Node::new(name.parse().unwrap(), address.clone()),
            Address::Ipc(_) => panic!("an ipc broker has no node"),
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.counts.lock().unwrap().requests
    }

    pub(crate) fn connections(&self) -> usize {
        self.counts.lock().unwrap().connections.len()
    }

    /// Waits until it has stopped by itself ([`Act::Die`]).
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    socket: &Socket,
    stop: &UnixStream,
    counts: &Mutex<Counts>,
    manners: &Manners,
    mut act: impl FnMut(&Seen) -> Act,
) {
    let mut frames = Vec::new();
    let mut held: Vec<(Vec<Vec<u8>>, Seen)> = Vec::new();
    loop {
        match socket.receive(&mut frames).unwrap() {
            Received::Message => {}
            Received::Overlong => panic!("overlong"),
            Received::Nothing => {
                if socket.readiness().unwrap().readable {
                    continue;
                }
                if socket.wait(None, Some(stop.as_fd())).unwrap() {
                    return;
                }
                continue;
            }
        }
        let delimiter = frames.iter().position(|frame| frame.is_empty()).unwrap();
        let messages: Vec<(Vec<u8>, Vec<u8>)> = match &frames[delimiter + 1..] {
            [header, body] => vec![(header.to_vec(), body.to_vec())],
            [only] => {
                let bundled = Bundled::of(only).expect("a bundle").map(Result::unwrap);
                bundled.map(|(header, body)| (header.to_vec(), body.to_vec())).collect()
            }
            other => panic!("{} frames behind the delimiter", other.len()),
        };
        let envelope: Vec<Vec<u8>> = frames[..=delimiter].iter().map(|frame| frame.to_vec()).collect();
        let mut known = counts.lock().unwrap();
        known.connections.insert(frames[0].to_vec());
        if let [(header, _)] = &messages[..]
            && let Ok(question) = Header::decode(header)
            && (question.kind, question.id) == (Kind::Inquire, HELLO_ID)
        {
            known.questions += 1;
            drop(known);
            if let Some(answer) = manners.answer(&question) {
                let _ = socket.send(envelope.into_iter().chain(answer).map(Frame::from));
            }
            continue;
        }
        known.requests += messages.len();
        drop(known);
        for (header, body) in messages {
            if !serve_one(socket, &envelope, &header, &body, &mut held, &mut act) {
                return;
            }
        }
    }
}

/// Handles one message. Returns whether the broker lives on.
fn serve_one(
    socket: &Socket,
    envelope: &[Vec<u8>],
    header: &[u8],
    body: &[u8],
    held: &mut Vec<(Vec<Vec<u8>>, Seen)>,
    act: &mut impl FnMut(&Seen) -> Act,
) -> bool {
    let header = Header::decode(header).unwrap();
    let is_request = matches!(header.kind, Kind::Call | Kind::Cast | Kind::Fanout);
    let seen = Seen {
        request: if is_request {
            Request::decode(body).unwrap()
        } else {
            Request::new("none".parse().unwrap(), &()).unwrap()
        },
        notification: (header.kind == Kind::Notify).then(|| Notification::decode(body).unwrap()),
        header,
        body: body.to_vec(),
    };
    let send = |envelope: &[Vec<u8>], answer: Vec<Vec<u8>>| {
        // The client may have gone.
        let _ = socket.send(envelope.iter().cloned().chain(answer).map(Frame::from));
    };
    let release = |held: &mut Vec<(Vec<Vec<u8>>, Seen)>| {
        while let Some((envelope, seen)) = held.pop() {
            let Act::Answer(header, body) = seen.good() else { unreachable!() };
            send(&envelope, vec![header.encode(), body]);
        }
    };
    let mut acts = vec![act(&seen)];
    let mut seen = Some(seen);
    while let Some(act) = acts.pop() {
        match act {
            Act::Answer(header, body) => send(envelope, vec![header.encode(), body]),
            Act::Several(headers) => {
                for header in headers {
                    send(envelope, vec![header.encode(), Vec::new()]);
                }
            }
            Act::Frames(frames) => send(envelope, frames),
            Act::Ignore => {}
            Act::Hold => held.extend(seen.take().map(|seen| (envelope.to_vec(), seen))),
            Act::Release => {
                held.extend(seen.take().map(|seen| (envelope.to_vec(), seen)));
                release(held);
            }
            Act::ReleaseHeld => release(held),
            Act::Both(first, second) => acts.extend([*second, *first]),
            Act::Die => return false,
        }
    }
    true
}

/// A node where nobody listens.
pub(crate) fn dead_node(name: &str) -> Node {
    let free = std::net::TcpListener::bind((own_host(), 0)).unwrap().local_addr().unwrap();
    Node::new(name.parse().unwrap(), free.to_string().parse().unwrap())
}

/// Every topic is at these nodes; `None`: it cannot say.
#[derive(Debug)]
pub(crate) struct Fixed(Mutex<Option<Arc<Placement>>>);

impl Fixed {
    pub(crate) fn at(nodes: impl IntoIterator<Item = Node>) -> Arc<Self> {
        let fixed = Arc::new(Self(Mutex::default()));
        fixed.set(nodes);
        fixed
    }

    /// Nodes whose servers the directory knows.
    pub(crate) fn listing(nodes: &[(Node, &[&str])]) -> Arc<Self> {
        let fixed = Self::at([]);
        fixed.list(nodes);
        fixed
    }

    pub(crate) fn set(&self, nodes: impl IntoIterator<Item = Node>) {
        self.place(nodes.into_iter().map(PlacedNode::unlisted).collect());
    }

    pub(crate) fn list(&self, nodes: &[(Node, &[&str])]) {
        let placed = |(node, servers): &(Node, &[&str])| PlacedNode {
            node: node.clone(),
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
        };
        self.place(nodes.iter().map(placed).collect());
    }

    fn place(&self, nodes: Vec<PlacedNode>) {
        *self.0.lock().unwrap() = Some(Arc::new(Placement::new(nodes)));
    }

    /// From now on, its list may lack nodes, for this reason.
    pub(crate) fn mark(&self, reason: &str) {
        let mut placement = self.0.lock().unwrap();
        *placement = placement.take().map(|list| Arc::new(list.marked(Completeness::incomplete(reason))));
    }

    /// It cannot say anything until nodes are set again.
    pub(crate) fn fail(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Matchmaker for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }
    fn resolve_all(&self, _: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        let gone = || MatchmakerError::Unavailable { directory: "fixed".to_owned(), source: "gone".into() };
        self.0.lock().unwrap().clone().ok_or_else(gone)
    }
    fn known(&self, _: &TopicKey) -> Option<Arc<Placement>> {
        self.0.lock().unwrap().clone()
    }
    fn register(&self, _: &Registration, _: Duration) -> Result<(), MatchmakerError> {
        Ok(())
    }
    fn withdraw(&self, _: &Registration) -> Result<(), MatchmakerError> {
        Ok(())
    }
    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        Ok(Refreshed::Unchanged)
    }
    fn generation(&self) -> u64 {
        0
    }
    fn health(&self) -> Health {
        Health::Ok
    }
}

/// A client of topic `t` at these nodes, with a long timeout and the defaults otherwise.
pub(crate) fn builder(nodes: impl IntoIterator<Item = Node>) -> RpcClientBuilder {
    RpcClient::builder(Target::topic("t").unwrap())
        .config(Config::default())
        .matchmaker(Fixed::at(nodes))
        .timeout(Duration::from_secs(20))
        .cast_timeout(Duration::from_secs(20))
}
