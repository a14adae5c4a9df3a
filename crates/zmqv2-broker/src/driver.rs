//! The event loop: owns every socket of the broker, feeds the engine and does what it asks for.
//!
//! One thread waits with epoll on the notification descriptor of each socket. Such a descriptor tells of a change once, so a
//! socket stays on the *hot* list, and is visited without waiting, until it has nothing left to read; a send may swallow
//! a notice too, so whatever was sent to is hot again. The loop sleeps only when nothing is hot. A quiet broker with
//! 500 links costs nothing, and a busy one does not look at the idle links.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::control::broker_socket;
use zmqv2_proto::transport::{AdaptivePoll, Frame, Received, Role, Socket, Transport};
use zmqv2_proto::{Address, TcpAddress};

use crate::archive::Archive;
use crate::complaints::Complaints;
use crate::engine::{Counter, Engine, Input};
use crate::error::BrokerError;
use crate::inbox::Names;
use crate::letters::Letters;
use crate::links::{Links, Seen};
use crate::load::Load;
use crate::lock::Lock;
use crate::outbox::Outbox;
use crate::parcel::{Door, Malformed, Origin};
use crate::registrar::Registrar;
use crate::settings::{Settings, Stopper};
use crate::stale;
use crate::store::Contents;

/// The most messages read from one socket before the others get their turn.
const MESSAGES_PER_VISIT: usize = 64;
/// With so many messages to send, no other socket is looked at before they leave.
const MOST_GATHERED: usize = 256;
/// A stopping broker with nothing left to do goes when it has said nothing for this long: a request that is not read here
/// any more looks to its sender as if it might have run, and makes the kernel reset the connection, with all that the
/// sender has not read yet.
const QUIET: Duration = Duration::from_millis(100);
/// Those who go on asking are refused for this long at the most, and listeners may finish what they have accepted.
const LAST_WORDS: Duration = Duration::from_secs(1);
const NETWORK: Token = Token(0);
const LOCAL: Token = Token(1);
const WAKER: Token = Token(2);
pub(crate) const FIRST_LINK: usize = 3;

/// A broker that is bound and locked; [`run`](Self::run) makes it work.
///
/// `Send`, not `Sync`: it belongs to the thread that runs it. Stop it with a [`Stopper`].
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) address: TcpAddress,
    pub(crate) started: Instant,
    /// When the clock was read last: once for all messages of a bundle.
    pub(crate) looked: Instant,
    pub(crate) engine: Engine<Origin, Load>,
    network: Socket,
    local: Socket,
    pub(crate) links: Links,
    pub(crate) poll: Poll,
    pub(crate) hot: Hot,
    stopper: Stopper,
    pub(crate) registrar: Registrar,
    pub(crate) complaints: Complaints,
    pub(crate) letters: Letters,
    /// Those of the request that is looked at.
    pub(crate) names: Names,
    end_at: Option<Instant>,
    pub(crate) drained_at: Option<Instant>,
    pub(crate) spoke_at: Instant,
    pub(crate) outbox: Outbox,
    pace: AdaptivePoll,
    /// A message has come since the last sleep.
    pub(crate) heard: bool,
    pub(crate) archive: Option<Archive>,
    // Last: unlocked when every socket is closed.
    _lock: Lock,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("settings", &self.settings)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Locks the socket directory, removes what crashed servers left there, and binds. Nothing is taken yet.
    ///
    /// # Errors
    /// [`BrokerError`], which says what is in the way and which option to change.
    pub fn open(settings: Settings, directory: Arc<dyn Matchmaker>) -> Result<Self, BrokerError> {
        let mut lock = Lock::take(&settings.ipc_dir)?;
        let poll = Poll::new().map_err(BrokerError::Events)?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER).map_err(BrokerError::Events)?);
        let (archive, contents) = match &settings.notification_store {
            Some(path) => {
                Archive::open(path, Arc::clone(&waker)).map(|(archive, contents)| (Some(archive), contents))?
            }
            None => (None, Contents::default()),
        };
        stale::sweep(&settings.ipc_dir);
        let transport = Transport::new(settings.transport.clone());
        let mut local = transport.socket(Role::Router)?;
        local.bind(&broker_socket(&settings.ipc_dir)?)?;
        let mut network = transport.socket(Role::Router)?;
        let bound = network.bind(&Address::Tcp(settings.bind.clone()));
        let address = match bound.map_err(|source| BrokerError::Bind { source })? {
            Address::Tcp(address) => address,
            Address::Ipc(_) => settings.bind.clone(),
        };
        lock.describe(&format!("process {} at tcp://{address}", std::process::id()));
        let mut hot = Hot::default();
        for (socket, token) in [(&network, NETWORK), (&local, LOCAL)] {
            watch(&poll, socket, token)?;
            hot.add(token);
        }
        let registrar =
            Registrar::start(directory, settings.renew_every, settings.lease).map_err(BrokerError::Events)?;
        let started = now();
        let mut broker = Self {
            engine: Engine::new(settings.limits),
            pace: AdaptivePoll::new(settings.transport.adaptive_poll),
            links: Links::new(transport, settings.ipc_dir.clone()),
            settings,
            address,
            started,
            looked: started,
            network,
            local,
            poll,
            hot,
            stopper: Stopper::new(waker),
            registrar,
            complaints: Complaints::default(),
            letters: Letters::default(),
            names: Names::default(),
            end_at: None,
            drained_at: None,
            spoke_at: started,
            outbox: Outbox::default(),
            heard: false,
            archive,
            _lock: lock,
        };
        broker.restore(contents);
        Ok(broker)
    }

    /// Where it listens; a port 0 in the settings has become the one that was picked.
    #[must_use]
    pub fn address(&self) -> &TcpAddress {
        &self.address
    }

    /// A handle that stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Works until it is stopped.
    ///
    /// # Errors
    /// [`BrokerError`] when the operating system no longer tells of events.
    pub fn run(mut self) -> Result<(), BrokerError> {
        let mut events = Events::with_capacity(256);
        let mut frames = Vec::new();
        while !self.is_over() || self.hears_last_words(&mut frames)? {
            let timeout = if self.hot.is_empty() { self.time_to_next() } else { Some(Duration::ZERO) };
            match self.wait(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(BrokerError::Events(error)),
            }
            for event in &events {
                self.hot.add(event.token());
                if let Some(worker) = event.token().0.checked_sub(FIRST_LINK) {
                    self.links.stir(worker);
                }
            }
            for token in self.hot.take() {
                self.visit(token, &mut frames)?;
                if self.outbox.len() >= MOST_GATHERED {
                    self.flush();
                }
            }
            let now = now();
            if self.engine.next_deadline().is_some_and(|at| at <= now) {
                self.looked = now;
                self.engine.expire(now);
                self.perform();
            }
            self.flush();
        }
        // libzmq leaves it behind. Nobody else can have bound it: the lock is still held.
        let _ = std::fs::remove_file(self.settings.ipc_dir.join(zmqv2_proto::control::BROKER_SOCKET));
        let kept = self.engine.notifications();
        if kept > 0 && self.archive.is_none() {
            log::warn!("{kept} notifications were kept in memory, and are lost: rpc_zmq_notification_store is not set");
        }
        log::info!("stopped");
        Ok(())
    }

    /// Waits for events; looks without sleeping at first, while that is of use, or if it is the option.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> std::io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.poll.poll(events, timeout);
        }
        let heard = std::mem::take(&mut self.heard);
        let always = self.settings.transport.busy_poll;
        let (found, timeout) = self.pace.look(heard, always, timeout, || {
            self.poll.poll(events, Some(Duration::ZERO)).map(|()| !events.is_empty())
        })?;
        if found { Ok(()) } else { self.poll.poll(events, timeout) }
    }

    fn is_over(&self) -> bool {
        self.stopper.asked() > 1 || self.over_at().is_some_and(|at| at <= now())
    }

    /// Whether somebody has spoken meanwhile, although the time is over: on a busy machine, this loop may have slept longer than
    /// it wanted to.
    fn hears_last_words(&mut self, frames: &mut Vec<Frame>) -> Result<bool, BrokerError> {
        let (now, before) = (now(), self.spoke_at);
        if self.stopper.asked() > 1 || self.drained_at.is_none_or(|at| now >= at + LAST_WORDS) {
            return Ok(false);
        }
        for token in [NETWORK, LOCAL] {
            self.visit(token, frames)?;
        }
        self.flush();
        Ok(self.spoke_at > before)
    }

    fn over_at(&self) -> Option<Instant> {
        let silent = self.drained_at.map(|at| {
            // A listener that is about to be done with a notification is heard: else it came again after the restart.
            let listens = self.archive.is_some() && self.engine.has_notes_running();
            let quiet_at = if listens { at + LAST_WORDS } else { self.spoke_at + QUIET };
            quiet_at.min(at + LAST_WORDS)
        });
        [silent, self.end_at].into_iter().flatten().min()
    }

    fn time_to_next(&self) -> Option<Duration> {
        let at = [self.engine.next_deadline(), self.over_at()].into_iter().flatten().min()?;
        Some(at.saturating_duration_since(now()))
    }

    /// Reads what a socket has; it stays hot while there may be more.
    fn visit(&mut self, token: Token, frames: &mut Vec<Frame>) -> Result<(), BrokerError> {
        match token {
            WAKER => {
                self.take_outcomes();
                self.check_stop();
            }
            NETWORK | LOCAL => {
                let door = if token == NETWORK { Door::Network } else { Door::Local };
                let mut read = 0;
                while read < MESSAGES_PER_VISIT {
                    match self.door(door).receive(frames)? {
                        Received::Nothing => return Ok(()),
                        Received::Message => read += self.take_in(door, frames),
                        Received::Overlong => {
                            self.complain(&frames[0], &Malformed::Overlong);
                            read += 1;
                        }
                    }
                }
                self.hot.add(token);
            }
            Token(number) => self.visit_link(number - FIRST_LINK, frames)?,
        }
        Ok(())
    }

    fn visit_link(&mut self, worker: usize, frames: &mut Vec<Frame>) -> Result<(), BrokerError> {
        let mut read = 0;
        while read < MESSAGES_PER_VISIT {
            let Some(link) = self.links.get(worker) else { return Ok(()) };
            match link.receive(frames)? {
                Received::Nothing => match self.links.look(worker)? {
                    Seen::Message => {}
                    Seen::Nothing => return Ok(()),
                    Seen::Connection(connected) => {
                        let input = if connected { Input::WorkerUp { worker } } else { Input::WorkerDown { worker } };
                        self.feed(input);
                        return Ok(());
                    }
                },
                Received::Message => read += self.hear(worker, frames),
                Received::Overlong => {
                    self.disown(worker, &Malformed::Overlong);
                    read += 1;
                }
            }
        }
        self.hot.add(Token(worker + FIRST_LINK));
        Ok(())
    }

    /// A worker that breaks the protocol cannot be trusted with credit; its server may register again.
    pub(crate) fn disown(&mut self, worker: usize, error: &Malformed) {
        self.engine.count(Counter::RefusedMalformed);
        log::error!("worker {worker} sent a malformed answer, its server is dropped: {error}");
        self.feed(Input::WorkerDown { worker });
    }

    pub(crate) fn feed(&mut self, input: Input<'_, Origin, Load>) {
        self.looked = now();
        self.feed_on(input);
    }

    /// The same, at the time at which the clock was read last.
    pub(crate) fn feed_on(&mut self, input: Input<'_, Origin, Load>) {
        self.engine.handle(self.looked, input);
        self.perform();
    }

    pub(crate) fn check_stop(&mut self) {
        if self.stopper.asked() > 0 && self.end_at.is_none() {
            log::info!(
                "stopping: {} requests in flight have {:?} to finish",
                self.engine.in_flight(),
                self.settings.drain_timeout
            );
            self.end_at = Some(now() + self.settings.drain_timeout);
            self.feed(Input::Drain);
        }
    }

    pub(crate) fn door(&self, door: Door) -> &Socket {
        match door {
            Door::Network => &self.network,
            Door::Local => &self.local,
        }
    }
}

impl Door {
    pub(crate) fn token(self) -> Token {
        match self {
            Self::Network => NETWORK,
            Self::Local => LOCAL,
        }
    }
}

pub(crate) fn watch(poll: &Poll, socket: &Socket, token: Token) -> Result<(), BrokerError> {
    let watched = socket.fds().try_for_each(|fd| {
        let mut source = SourceFd(&fd);
        poll.registry().register(&mut source, token, Interest::READABLE)
    });
    watched.map_err(BrokerError::Events)
}

pub(crate) fn unwatch(poll: &Poll, socket: &Socket) {
    for fd in socket.fds() {
        drop(poll.registry().deregister(&mut SourceFd(&fd)));
    }
}

/// Sockets to visit before the next sleep, each once.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    tokens: Vec<Token>,
    listed: Vec<bool>,
}

impl Hot {
    pub(crate) fn add(&mut self, token: Token) {
        if self.listed.len() <= token.0 {
            self.listed.resize(token.0 + 1, false);
        }
        if !std::mem::replace(&mut self.listed[token.0], true) {
            self.tokens.push(token);
        }
    }

    pub(crate) fn remove(&mut self, token: Token) {
        if self.listed.get_mut(token.0).is_some_and(std::mem::take) {
            self.tokens.retain(|other| *other != token);
        }
    }

    fn take(&mut self) -> Vec<Token> {
        self.listed.fill(false);
        std::mem::take(&mut self.tokens)
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the broker's loop is a driver: it owns the clock that its engine is told"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
