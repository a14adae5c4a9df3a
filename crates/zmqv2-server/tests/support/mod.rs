//! A broker for tests: a ROUTER that takes registrations, and a DEALER to each worker.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::control::{Registered, ServerRegistration, Withdrawal, broker_socket, worker_socket};
use zmqv2_proto::transport::{Frame, Received, Role, Socket, Transport, TransportOptions};
use zmqv2_proto::{Flags, Header, Kind, MessageId, Notification, Priority, Ttl};

/// The longest time that a test waits for an event.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// An event that does not happen within this time counts as one that does not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

#[expect(clippy::disallowed_methods, reason = "tests measure")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A message of the server.
#[derive(Debug)]
pub(crate) struct FromServer {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

impl FromServer {
    pub(crate) fn detail(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn requeue(&self) -> bool {
        self.header.flags.contains(Flags::REQUEUE)
    }

    /// Kind, tag and count.
    pub(crate) fn summary(&self) -> (Kind, u64, u16) {
        (self.header.kind, self.header.tag, self.header.count)
    }
}

/// A broker with one server.
pub(crate) struct Broker {
    front: Socket,
    /// One for each worker, or one for all if they share a socket.
    links: Vec<Socket>,
    /// Answers that came in a bundle with an earlier one.
    unread: RefCell<VecDeque<FromServer>>,
    peer: Vec<u8>,
    /// The header of the registration.
    pub(crate) header: Header,
    pub(crate) registration: ServerRegistration,
    dir: PathBuf,
}

impl Broker {
    /// Waits for a server, and accepts its registration.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut broker = Self::start_unregistered(dir);
        broker.register();
        broker
    }

    /// Waits for a server, and does not answer its registration yet.
    pub(crate) fn start_unregistered(dir: &Path) -> Self {
        let (front, transport) = bind(dir);
        let (peer, got) = receive(&front, LONG).expect("a registration");
        assert_eq!(got.header.kind, Kind::Register);
        let registration: ServerRegistration = serde_json::from_slice(&got.body).unwrap();
        let connect = |worker| {
            let mut link = transport.socket(Role::Dealer).unwrap();
            link.connect(&worker_socket(dir, registration.instance, worker).unwrap()).unwrap();
            wait_until(&link, |socket| socket.readiness().unwrap().writable);
            link
        };
        let sockets = if registration.shared { 1 } else { registration.workers };
        let (links, unread) = ((0..sockets).map(connect).collect(), RefCell::default());
        Self { front, links, unread, peer, header: got.header, registration, dir: dir.to_owned() }
    }

    /// Answers the registration.
    pub(crate) fn register(&mut self) {
        let body = serde_json::to_vec(&Registered::new("n1".parse().unwrap(), 16 << 20)).unwrap();
        self.send(&Header::new(Kind::Registered, self.header.id), body);
    }

    /// Closes its sockets.
    pub(crate) fn die(self) -> PathBuf {
        let dir = self.dir.clone();
        drop(self);
        let _ = std::fs::remove_file(dir.join(zmqv2_proto::control::BROKER_SOCKET));
        dir
    }

    /// Sends a message over the registration's connection.
    pub(crate) fn send(&self, header: &Header, body: Vec<u8>) {
        let frames = [Frame::from(&self.peer[..]), Frame::new(), Frame::from(header.encode()), Frame::from(body)];
        self.front.send(frames).unwrap();
    }

    /// Sends a request to a worker.
    pub(crate) fn deliver(&self, worker: usize, header: &Header, body: &[u8]) {
        self.link(worker).send([Frame::new(), Frame::from(header.encode()), Frame::from(body)]).unwrap();
    }

    /// Sends messages to the workers in one bundle.
    pub(crate) fn deliver_together(&self, messages: &[(Header, Vec<u8>)]) {
        let mut bundle = Bundle::new();
        for (header, body) in messages {
            bundle.push(&header.encode(), body);
        }
        self.link(0).send([Frame::new(), Frame::from(bundle.frame())]).unwrap();
    }

    /// The next answer of a worker.
    pub(crate) fn answer(&self, worker: usize) -> FromServer {
        self.answer_within(worker, LONG).expect("an answer")
    }

    pub(crate) fn answer_within(&self, worker: usize, timeout: Duration) -> Option<FromServer> {
        let unread = self.unread.borrow_mut().pop_front();
        unread.or_else(|| {
            let mut answers = receive_all(self.link(worker), timeout).into_iter().map(|(_, got)| got);
            let first = answers.next();
            self.unread.borrow_mut().extend(answers);
            first
        })
    }

    fn link(&self, worker: usize) -> &Socket {
        &self.links[if self.registration.shared { 0 } else { worker }]
    }

    /// The next message over the registration's connection, other than a registration and a
    /// sign of life.
    pub(crate) fn next(&mut self) -> FromServer {
        self.next_within(LONG).expect("a message of the server")
    }

    pub(crate) fn next_within(&mut self, timeout: Duration) -> Option<FromServer> {
        let end = now() + timeout;
        loop {
            let (_, got) = receive(&self.front, end.saturating_duration_since(now()))?;
            let is_sign_of_life = got.header.kind == Kind::Credit && got.header.count == 0;
            if got.header.kind != Kind::Register && !is_sign_of_life {
                return Some(got);
            }
        }
    }

    /// Waits for the withdrawal, and answers it. Returns the messages before it.
    pub(crate) fn release(&mut self) -> Vec<FromServer> {
        let mut before = Vec::new();
        loop {
            let got = self.next();
            if got.header.kind == Kind::Withdraw {
                self.withdrawn();
                return before;
            }
            before.push(got);
        }
    }

    /// Answers a withdrawal.
    pub(crate) fn withdrawn(&self) {
        let body = serde_json::to_vec(&Withdrawal::new(self.registration.instance)).unwrap();
        self.send(&Header::new(Kind::Withdrawn, MessageId::random()), body);
    }
}

/// The local socket of a broker that has just started.
pub(crate) fn bind(dir: &Path) -> (Socket, Transport) {
    let transport = Transport::new(TransportOptions::default());
    let mut front = transport.socket(Role::Router).unwrap();
    front.bind(&broker_socket(dir).unwrap()).unwrap();
    (front, transport)
}

/// The next message, and its routing id if it has one.
pub(crate) fn receive(socket: &Socket, timeout: Duration) -> Option<(Vec<u8>, FromServer)> {
    let mut all = receive_all(socket, timeout);
    assert!(all.len() <= 1, "an unexpected bundle");
    all.pop()
}

/// The next message, or all messages of the next bundle, with the routing id if there is one.
fn receive_all(socket: &Socket, timeout: Duration) -> Vec<(Vec<u8>, FromServer)> {
    let (end, mut frames) = (now() + timeout, Vec::new());
    let read = |header: &[u8], body: &[u8]| FromServer { header: Header::decode(header).unwrap(), body: body.to_vec() };
    loop {
        if socket.receive(&mut frames).unwrap() == Received::Message {
            if let Some(bundle) = frames.last().and_then(|frame| Bundled::of(frame)) {
                return bundle.map(|message| message.unwrap()).map(|(h, b)| (Vec::new(), read(h, b))).collect();
            }
            let [before @ .., header, body] = &frames[..] else { panic!("{} frames", frames.len()) };
            let peer = before.first().map(|frame| frame.to_vec()).unwrap_or_default();
            return vec![(peer, read(header, body))];
        }
        let left = end.saturating_duration_since(now());
        if left.is_zero() {
            return Vec::new();
        }
        if !socket.readiness().unwrap().readable {
            socket.wait(Some(left), None).unwrap();
        }
    }
}

fn wait_until(socket: &Socket, mut done: impl FnMut(&Socket) -> bool) {
    let end = now() + LONG;
    while !done(socket) {
        let left = end.saturating_duration_since(now());
        assert!(!left.is_zero(), "not within {LONG:?}");
        socket.wait(Some(left), None).unwrap();
    }
}

/// A request of `kind` with this tag and a minute left.
pub(crate) fn request(kind: Kind, tag: u64) -> Header {
    let mut header = Header::new(kind, MessageId::random());
    header.tag = tag;
    header.ttl = Ttl::from_millis(60_000);
    header
}

/// Waits for something that causes no event.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = now() + LONG;
    while !done() {
        assert!(now() < end, "not within {LONG:?}: {what}");
        std::thread::yield_now();
    }
}

/// The delivery of a notification.
pub(crate) fn delivery(tag: u64) -> Header {
    let mut header = request(Kind::Notify, tag);
    header.key = Some(zmqv2_proto::TopicKey::parse("openstack/t.info").unwrap());
    header.server = Some("default".parse().unwrap());
    header.count = 1;
    header
}

/// A notification's body.
pub(crate) fn body(priority: Priority, event: &str) -> Vec<u8> {
    Notification::new("publisher", event, priority, &event).unwrap().encode().unwrap()
}
