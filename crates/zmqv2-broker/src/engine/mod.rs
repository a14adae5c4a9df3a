//! The routing rules: a state machine without sockets, threads, clocks or files.
//!
//! [`Engine`] holds the registrations, the workers and their credit, the backlog, what is in flight, and all deadlines.
//! A driver feeds it with [`handle`](Engine::handle), drains [`poll_action`](Engine::poll_action) after every call,
//! and calls [`expire`](Engine::expire) when [`next_deadline`](Engine::next_deadline) has come. Time is an argument, so
//! that a test can let an hour pass in no time.
//!
//! The engine is generic over what it never looks into: `O`, the *origin* of a request (the path back to its sender), and
//! `L`, the *load* (the frames that go on to a worker, or back from it). Both are copied for fanouts and notifications only.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use zmqv2_broker::engine::{Action, Arrival, Engine, Input, Limits, Offer};
//! use zmqv2_proto::control::ServerRegistration;
//! use zmqv2_proto::{InstanceId, MessageId, Target};
//!
//! # fn main() -> Result<(), zmqv2_proto::InvalidName> {
//! # #[allow(clippy::disallowed_methods)]
//! let now = Instant::now();
//! let mut engine: Engine<&str, &str> = Engine::new(Limits::default());
//! let registration = ServerRegistration::new(InstanceId::random(), 1, 1, 42);
//! let offer = Offer::new(Target::topic("demo")?.key(), "s1".parse()?, registration);
//! engine.handle(now, Input::Register { offer, from: "server" });
//! let Some(Action::Connect { worker, .. }) = engine.poll_action() else { panic!() };
//! engine.handle(now, Input::WorkerUp { worker });
//! while engine.poll_action().is_some() {}
//!
//! let arrival = Arrival::new(MessageId::random(), "openstack/demo", now + Duration::from_secs(1), 5);
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
mod fanout;
mod handed_back;
mod notifications;
mod queues;
mod requests;
mod routes;
mod servers;
mod status;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;
use zmqv2_proto::{InstanceId, MessageId, Reason, Refusal, ServerName, TopicKey};

pub use counters::{Counter, Counters};
pub use events::{Action, Arrival, Input, Offer, Pattern};

use backlog::Backlog;
use deadlines::Deadlines;
use requests::{Held, Requests, State};
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
    /// How often a notification is delivered before it becomes a dead letter (option `rpc_zmq_max_deliveries`).
    pub max_deliveries: u16,
    /// Notifications go to the durable store before anywhere else (option `rpc_zmq_notification_store`).
    pub durable: bool,
    /// Where tags begin. Another number for every run of a broker: what a listener says of a delivery of an earlier run then
    /// means nothing to this one.
    pub first_generation: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { topic_backlog: 10_000, backlog_bytes: 256 << 20, max_deliveries: 5, durable: false, first_generation: 0 }
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
    /// How many answers are still to come, of copies that are answered together.
    groups: Slab<usize>,
    /// The number of the next notification in the store.
    next_number: u64,
    /// Notifications that are held, by the message's id: how many copies.
    notes: HashMap<MessageId, usize>,
    deadlines: Deadlines,
    /// Servers whose workers are not all connected yet, with the instant at which they are given up.
    connecting: VecDeque<(Instant, InstanceId)>,
    actions: VecDeque<Action<O, L>>,
    counters: Counters,
    /// Bytes of requests that wait, and of copies of fanouts.
    held_bytes: usize,
    /// Bytes of notifications: a budget of its own, so that what nobody listens to takes no room from calls.
    kept_bytes: usize,
    draining: bool,
    drained: bool,
}

impl<O: Clone, L: Clone> Engine<O, L> {
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
            requests: Requests::starting_at(limits.first_generation),
            groups: Slab::new(),
            next_number: 1,
            notes: HashMap::new(),
            deadlines: Deadlines::default(),
            connecting: VecDeque::new(),
            actions: VecDeque::new(),
            counters: Counters::default(),
            held_bytes: 0,
            kept_bytes: 0,
            draining: false,
            drained: false,
        }
    }

    /// Notifications get this number in the store, and those above it: lower ones are taken.
    pub fn number_from(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Takes in one event. Drain [`poll_action`](Self::poll_action) afterwards.
    pub fn handle(&mut self, now: Instant, input: Input<'_, O, L>) {
        match input {
            Input::Request { arrival, from, load } => self.request(now, arrival, from, load),
            Input::Reply { worker, tag, credit, refused, load } => self.reply(now, worker, tag, credit, refused, load),
            Input::HandedBack { worker, tag, arrival, load } => self.handed_back(now, worker, tag, arrival, load),
            Input::Handled { tag, id, credit, requeue } => self.handled(now, tag, id, credit, requeue),
            Input::Stored { tag, result } => self.stored(now, tag, result),
            Input::Restore { number, arrival, load } => self.restore(now, number, arrival, load),
            Input::Credit { instance, worker, credit } => self.credit(now, instance, worker, credit),
            Input::Freed { worker, credit, wide } => self.freed(now, worker, credit, wide),
            Input::Register { offer, from } => self.register(now, offer, from),
            Input::WorkerUp { worker } => self.worker_up(now, worker),
            Input::WorkerDown { worker } => self.worker_down(now, worker),
            Input::Withdraw { instance, from } => self.withdraw(now, instance, from),
            Input::Drain => self.drain(now),
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
            self.expire_request(now, tag);
        }
        while let Some((_, instance)) = self.connecting.front().copied().filter(|(at, _)| *at <= now) {
            self.connecting.pop_front();
            self.give_up_connecting(now, instance);
        }
        self.check_drained();
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests delivered to a worker, or on their way into the store, whose senders still wait.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight()
    }

    /// Whether a request that came as [`monitored`](Arrival::monitored) waits or is in flight.
    #[must_use]
    pub fn is_held(&self, id: MessageId) -> bool {
        self.requests.is_held(id)
    }

    /// Notifications that are kept: waiting for a listener, or taken by one and not handled yet.
    #[must_use]
    pub fn notifications(&self) -> usize {
        self.notes.values().sum()
    }

    fn expire_request(&mut self, now: Instant, tag: u64) {
        let Some(held) = self.requests.get(tag) else { return };
        match held.state {
            State::Queued(_) if held.note.is_some() => self.expire_note(tag),
            State::Resting => self.rested(now, tag),
            State::Queued(queue) => {
                let Some(held) = self.requests.remove(tag) else { return };
                self.held_bytes -= held.bytes;
                let detail = format!("no worker of {} was free in time; it did not run", self.describe(queue));
                let server = self.whose(queue);
                self.left(queue);
                self.counters.add(Counter::Expired);
                self.refuse_held(held, server, Reason::Expired, detail);
            }
            // The sender's own deadline has passed; the worker still owes an answer for its credit.
            State::InFlight { worker } if held.note.is_none() => {
                let group = held.group;
                self.more(group);
                self.requests.abandon(tag, worker);
                self.counters.add(Counter::Abandoned);
            }
            // It is no longer the broker's to give up: the store or a listener has it.
            State::Storing | State::InFlight { .. } | State::Running { .. } | State::Abandoned { .. } => {}
        }
    }

    /// Remembers when a request expires.
    fn watch_deadline(&mut self, deadline: Instant, tag: u64) {
        let requests = &self.requests;
        self.deadlines.push(deadline, tag, requests.len(), |tag| requests.contains(tag));
    }

    fn refuse(&mut self, origin: Option<O>, reason: Reason, detail: impl Into<String>) {
        self.refuse_one(origin, Refusal::new(reason, detail), None, 0);
    }

    /// Refuses a request that was held, or a copy of one that was made for `server`.
    fn refuse_held(&mut self, held: Held<O, L>, server: Option<ServerName>, reason: Reason, detail: impl Into<String>) {
        // One that is abandoned was counted out of its group before.
        let more = if held.origin.is_some() { self.more(held.group) } else { 0 };
        self.refuse_one(held.origin, Refusal::new(reason, detail), server, more);
    }

    fn refuse_one(&mut self, origin: Option<O>, refusal: Refusal, server: Option<ServerName>, more: u16) {
        self.counters.add(Counter::refused(refusal.reason));
        if let Some(to) = origin {
            self.actions.push_back(Action::Refuse { to, refusal, server, more });
        }
    }

    /// Counts one answer of a group: how many are still to come.
    fn more(&mut self, group: Option<usize>) -> u16 {
        let Some(left) = group.and_then(|group| self.groups.get_mut(group)) else { return 0 };
        *left -= 1;
        let left = *left;
        if left == 0 {
            group.map(|group| self.groups.remove(group));
        }
        u16::try_from(left).unwrap_or(u16::MAX)
    }
}
