//! The routing rules: a state machine without sockets, threads, clocks or files.
//!
//! [`Engine`] holds the registrations, the workers and their credit, the backlog, what is in flight, and all deadlines.
//! A driver feeds it with [`handle`](Engine::handle), drains [`poll_action`](Engine::poll_action) after every call,
//! and calls [`expire`](Engine::expire) when [`next_deadline`](Engine::next_deadline) has come. Time is an argument, so
//! that a test can let an hour pass in no time.
//!
//! The engine is generic over what it never looks into: `O`, the *origin* of a request (the path back to its sender), and
//! `L`, the *load* (the frames that go on to a worker, or back from it).
//!
//! ```
//! use std::time::{Duration, Instant};
//! use zmqv2_broker::engine::{Action, Arrival, Engine, Input, Limits, Offer};
//! use zmqv2_proto::control::Registration;
//! use zmqv2_proto::{InstanceId, Target};
//!
//! # fn main() -> Result<(), zmqv2_proto::InvalidName> {
//! # #[allow(clippy::disallowed_methods)]
//! let now = Instant::now();
//! let mut engine: Engine<&str, &str> = Engine::new(Limits::default());
//! let registration = Registration::new(InstanceId::random(), 1, 1, 42);
//! let offer = Offer::new(Target::topic("demo")?.key(), "s1".parse()?, registration);
//! engine.handle(now, Input::Register { offer, from: "server" });
//! let Some(Action::Connect { worker, .. }) = engine.poll_action() else { panic!() };
//! engine.handle(now, Input::WorkerUp { worker });
//! while engine.poll_action().is_some() {}
//!
//! let arrival = Arrival { key: "openstack/demo", server: "", deadline: now + Duration::from_secs(1), bytes: 5, wait_for_ready: false };
//! engine.handle(now, Input::Request { arrival, from: "client", load: "hello" });
//! assert!(matches!(engine.poll_action(), Some(Action::Deliver { load: "hello", .. })));
//! # Ok(())
//! # }
//! ```

mod backlog;
mod counters;
mod deadlines;
mod drain;
mod events;
mod requests;
mod routes;
mod servers;
mod status;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;
use zmqv2_proto::{InstanceId, Reason, Refusal, TopicKey};

pub use counters::{Counter, Counters};
pub use events::{Action, Arrival, Input, Offer};

use backlog::Backlog;
use deadlines::Deadlines;
use requests::{Requests, State};
use routes::Topic;
use servers::{Server, Worker};

/// A worker's number: the driver keeps its socket under it. Reused after [`Action::Disconnect`].
pub type WorkerId = usize;

/// A registered server that is not connected after this long is forgotten; a living one offers itself again.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The bounds of what a broker holds (promise P5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most requests that wait, per topic (option `rpc_zmq_topic_backlog`). Above: `Busy`.
    pub topic_backlog: usize,
    /// The most bytes of all waiting requests (option `rpc_zmq_backlog_bytes`). Above: `Busy`.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { topic_backlog: 10_000, backlog_bytes: 256 << 20 }
    }
}

/// The routing state of one broker.
#[derive(Debug)]
pub struct Engine<O, L> {
    limits: Limits,
    topics: Slab<Topic>,
    by_key: HashMap<TopicKey, usize>,
    servers: Slab<Server<O>>,
    by_instance: HashMap<InstanceId, usize>,
    workers: Slab<Worker>,
    requests: Requests<O, L>,
    deadlines: Deadlines,
    /// Servers whose workers are not all connected yet, with the instant at which they are given up.
    connecting: VecDeque<(Instant, InstanceId)>,
    actions: VecDeque<Action<O, L>>,
    counters: Counters,
    queued_bytes: usize,
    draining: bool,
    drained: bool,
}

impl<O, L> Engine<O, L> {
    /// An engine that knows nobody.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            topics: Slab::new(),
            by_key: HashMap::new(),
            servers: Slab::new(),
            by_instance: HashMap::new(),
            workers: Slab::new(),
            requests: Requests::default(),
            deadlines: Deadlines::default(),
            connecting: VecDeque::new(),
            actions: VecDeque::new(),
            counters: Counters::default(),
            queued_bytes: 0,
            draining: false,
            drained: false,
        }
    }

    /// Takes in one event. Drain [`poll_action`](Self::poll_action) afterwards.
    pub fn handle(&mut self, now: Instant, input: Input<'_, O, L>) {
        match input {
            Input::Request { arrival, from, load } => self.request(now, arrival, from, load),
            Input::Reply { worker, tag, credit, load } => self.reply(now, worker, tag, credit, load),
            Input::Credit { instance, worker, credit } => self.credit(now, instance, worker, credit),
            Input::Register { offer, from } => self.register(now, offer, from),
            Input::WorkerUp { worker } => self.worker_up(now, worker),
            Input::WorkerDown { worker } => self.worker_down(worker),
            Input::Withdraw { instance, from } => self.withdraw(instance, from),
            Input::Drain => self.drain(),
        }
        self.check_drained();
    }

    /// The next thing for the driver to do, in order.
    pub fn poll_action(&mut self) -> Option<Action<O, L>> {
        self.actions.pop_front()
    }

    /// When [`expire`](Self::expire) has work to do at the latest; `None`: not before the next event.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let connecting = self.connecting.front().map(|(at, _)| *at);
        [self.deadlines.next(), connecting].into_iter().flatten().min()
    }

    /// Drops what has expired by `now`. Drain [`poll_action`](Self::poll_action) afterwards.
    pub fn expire(&mut self, now: Instant) {
        while let Some(tag) = self.deadlines.pop_due(now) {
            self.expire_request(tag);
        }
        while let Some((_, instance)) = self.connecting.front().copied().filter(|(at, _)| *at <= now) {
            self.connecting.pop_front();
            self.give_up_connecting(instance);
        }
        self.check_drained();
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests delivered to a worker whose senders still wait.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight()
    }

    fn expire_request(&mut self, tag: u64) {
        let Some(request) = self.requests.get_mut(tag) else { return };
        match request.state {
            State::Queued { topic, server } => {
                let Some(request) = self.requests.remove(tag) else { return };
                self.queued_bytes -= request.bytes;
                let key = self.topics[topic].expired(server);
                self.tidy(topic, server);
                self.counters.add(Counter::Expired);
                self.refuse(
                    request.origin,
                    Reason::Expired,
                    format!("no worker of {key} was free in time; it did not run"),
                );
            }
            State::InFlight { .. } => {
                // The sender's own deadline has passed; the worker still owes an answer for its credit.
                self.requests.abandon(tag);
                self.counters.add(Counter::Abandoned);
            }
            State::Abandoned { .. } => {}
        }
    }

    fn refuse(&mut self, origin: Option<O>, reason: Reason, detail: impl Into<String>) {
        self.counters.add(Counter::refused(reason));
        if let Some(to) = origin {
            self.actions.push_back(Action::Refuse { to, refusal: Refusal::new(reason, detail) });
        }
    }
}
