//! Keeps a server registered at its broker, from a thread of its own: at start, again after the broker restarts, and as a
//! sign of life; and takes it out at the stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zmqv2_proto::control::{ServerRegistration, Withdrawal};
use zmqv2_proto::transport::{Connection, Frame, Received, Role, Socket, Transport, TransportError};
use zmqv2_proto::{Address, Flags, Header, InstanceId, Kind, MessageId, ServerName, TopicKey, Ttl};

use crate::wake::Bell;
use crate::words::{Done, Outbox, Word};

/// A registration is repeated at this interval, in case the broker came and went unnoticed.
const REPEAT: Duration = Duration::from_secs(5);
/// One that is not answered is repeated after this.
const RETRY: Duration = Duration::from_secs(1);

/// How long after the connection was lost the next one is made.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Whether the broker has taken the registration; seen by other threads.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    ready: Mutex<bool>,
    changed: Condvar,
}

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
        self.changed.notify_all();
    }

    pub(crate) fn get(&self) -> bool {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is ready; whether it is.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ready, timeout, |ready| !*ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What other threads leave for this one.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) stop: AtomicBool,
    pub(crate) bell: Bell,
}

/// The way to the broker: one connection after the other.
pub(crate) struct Link {
    transport: Transport,
    address: Address,
    socket: Socket,
    /// When it is to be connected, if it is new.
    connect_at: Option<Instant>,
}

impl Link {
    pub(crate) fn open(transport: Transport, address: Address) -> Result<Self, TransportError> {
        let mut socket = transport.socket(Role::Dealer)?;
        socket.connect(&address)?;
        Ok(Self { transport, address, socket, connect_at: None })
    }

    /// Whether there is something to read, and whether it is connected. A lost connection is followed by another one.
    fn look(&mut self) -> Result<(bool, bool), TransportError> {
        let state = self.socket.readiness()?;
        if state.connection == Connection::Lost {
            self.socket = self.transport.socket(Role::Dealer)?;
            self.connect_at = Some(now() + RECONNECT_PAUSE);
        }
        if self.connect_at.take_if(|at| *at <= now()).is_some() {
            self.socket.connect(&self.address)?;
        }
        Ok((state.readable, state.connection == Connection::Up))
    }
}

/// The thread's state.
pub(crate) struct Keeper {
    link: Link,
    key: TopicKey,
    server: ServerName,
    registration: ServerRegistration,
    readiness: Arc<Readiness>,
    desk: Arc<Desk>,
    outbox: Outbox,
    connected: bool,
    /// Whether the broker at the other end has taken the registration since the connection was made.
    known: bool,
    /// The id of the last message about the registration itself.
    asked: MessageId,
}

impl Keeper {
    pub(crate) fn new(
        link: Link,
        key: TopicKey,
        server: ServerName,
        registration: ServerRegistration,
        readiness: Arc<Readiness>,
        desk: Arc<Desk>,
        outbox: Outbox,
    ) -> Self {
        let asked = MessageId::random();
        Self { link, key, server, registration, readiness, desk, outbox, connected: false, known: false, asked }
    }

    /// Keeps the registration until the stop signal, then withdraws and waits until nothing is in flight and all is told, or
    /// `drain_timeout` is over.
    pub(crate) fn run(mut self, drain_timeout: Duration) {
        if let Err(error) = self.keep().and_then(|()| self.withdraw(now() + drain_timeout)) {
            log::error!("{} of {} is no longer registered: {error}", self.server, self.key);
        }
        self.readiness.set(false);
    }

    fn keep(&mut self) -> Result<(), TransportError> {
        let mut send_at = now();
        let mut frames = Vec::new();
        loop {
            self.desk.bell.hear();
            if self.desk.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            while self.link.socket.receive(&mut frames)? != Received::Nothing {
                if self.take(&frames) == Some(Kind::Refusal) {
                    send_at = send_at.min(now() + RETRY);
                }
            }
            let (readable, connected) = self.link.look()?;
            if self.note_connection(connected) {
                send_at = now();
            }
            let told = self.tell(self.known);
            if self.connected && send_at <= now() {
                self.send(Kind::Register, serde_json::to_vec(&self.registration));
                send_at = now() + if self.readiness.get() { REPEAT } else { RETRY };
                // A send may have used up the notice of what came meanwhile.
                continue;
            }
            if !readable && !told {
                let timeout = self.connected.then(|| send_at.saturating_duration_since(now()));
                self.wait(timeout);
            }
        }
    }

    /// Whether the connection has come or gone.
    fn note_connection(&mut self, connected: bool) -> bool {
        if connected == self.connected {
            return false;
        }
        self.connected = connected;
        if !connected {
            self.known = false;
            self.readiness.set(false);
            log::warn!("the broker of {} is gone; waiting for it to come back", self.server);
        }
        true
    }

    /// Tells the broker what the lanes have run; whether there was anything. A broker that is not there forgets all credit,
    /// and gives it anew with the registration. Without `all`, what a new broker must get waits until it has taken the
    /// registration.
    fn tell(&mut self, all: bool) -> bool {
        if !self.connected {
            self.outbox.hold();
            return false;
        }
        let (socket, server, instance) = (&self.link.socket, &self.server, self.registration.instance);
        self.outbox.flush(all, |word| {
            let (header, body) = write(word, server, instance);
            send(socket, &header, body)
        })
    }

    fn withdraw(&mut self, end_at: Instant) -> Result<(), TransportError> {
        let mut frames = Vec::new();
        self.send(Kind::Withdraw, serde_json::to_vec(&Withdrawal::new(self.registration.instance)));
        // The broker gives nothing more: it has said so, or it is another one.
        let mut released = false;
        loop {
            self.desk.bell.hear();
            while self.link.socket.receive(&mut frames)? != Received::Nothing {
                released |= self.take(&frames) == Some(Kind::Withdrawn);
            }
            let (readable, connected) = self.link.look()?;
            if !connected && !released {
                log::warn!("{} of {} stops without the broker's leave", self.server, self.key);
                released = true;
            }
            self.note_connection(connected);
            let told = self.tell(true);
            let (left, missing) = (end_at.saturating_duration_since(now()), self.outbox.missing());
            if released && missing == 0 {
                return Ok(());
            }
            if left.is_zero() {
                log::warn!(
                    "{} of {} stops, and {missing} requests were not finished or not told",
                    self.server,
                    self.key
                );
                return Ok(());
            }
            if !readable && !told {
                self.wait(Some(left));
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) {
        let connect = self.link.connect_at.map(|at| at.saturating_duration_since(now()));
        let timeout = [timeout, connect].into_iter().flatten().min();
        if let Err(error) = self.link.socket.wait(timeout, Some(self.desk.bell.fd())) {
            log::error!("cannot wait for the broker: {error}");
        }
    }

    /// Takes in a message of the broker; says what it was.
    fn take(&mut self, frames: &[Frame]) -> Option<Kind> {
        let [_, header, body] = frames else { return None };
        let header = Header::decode(header).inspect_err(|error| log::warn!("broker sent {error}")).ok()?;
        match header.kind {
            Kind::Registered => {
                self.known = true;
                if !self.readiness.get() {
                    log::info!("{} of {} is registered", self.server, self.key);
                    self.readiness.set(true);
                }
            }
            Kind::Refusal => {
                let detail = String::from_utf8_lossy(body);
                let reason = header.reason.map_or_else(|| "no reason".to_owned(), |reason| reason.to_string());
                let (server, key) = (&self.server, &self.key);
                if header.id == self.asked {
                    log::warn!("the broker refuses {server} of {key}: {reason}: {detail}");
                    self.readiness.set(false);
                } else {
                    log::warn!("the broker refuses a message of {server} of {key}: {reason}: {detail}");
                }
            }
            _ => {}
        }
        Some(header.kind)
    }

    /// One that is not taken is lost: a registration is repeated after [`RETRY`] anyway, a withdrawal is sent once.
    fn send(&mut self, kind: Kind, body: serde_json::Result<Vec<u8>>) {
        self.asked = MessageId::random();
        let mut header = Header::new(kind, self.asked);
        header.key = Some(self.key.clone());
        header.server = Some(self.server.clone());
        match body {
            // Whether it was taken shows by the answer.
            Ok(body) => _ = send(&self.link.socket, &header, body.into()),
            Err(error) => log::error!("cannot write a {kind:?} message: {error}"),
        }
    }
}

/// A word as the broker reads it. Its body is a copy: a socket that does not take a message has lost it.
fn write(word: &Word, server: &ServerName, instance: InstanceId) -> (Header, Frame) {
    match word {
        Word::Free(worker) => {
            // The id of every message about credit is that of the run.
            let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*instance.as_bytes()));
            header.tag = (*worker).into();
            header.count = 1;
            (header, Frame::new())
        }
        Word::Done(Done { id, tag, key, deadline, requeue }) => {
            let mut header = Header::new(Kind::Handled, *id);
            header.flags = if requeue.is_some() { Flags::REQUEUE } else { Flags::NONE };
            header.tag = *tag;
            header.count = 1;
            header.ttl = Ttl::until(*deadline, now());
            header.key = Some(key.clone());
            header.server = Some(server.clone());
            (header, requeue.as_ref().map_or_else(Frame::new, |body| Frame::from(&body[..])))
        }
    }
}

/// Whether the socket has taken it.
fn send(socket: &Socket, header: &Header, body: Frame) -> bool {
    let sent = socket.send([Frame::new(), Frame::from(header.encode()), body]);
    sent.inspect_err(|error| log::debug!("the broker did not take a {:?} message: {error}", header.kind)).is_ok()
}

#[expect(clippy::disallowed_methods, reason = "the registration's thread is a driver: it owns the repeats' clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
