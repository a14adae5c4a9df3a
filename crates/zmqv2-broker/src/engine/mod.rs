//! The routing rules: a state machine without sockets, threads, clocks or files.
//!
//! [`Engine`] holds the registrations, the workers and their credit, the backlog, the requests in
//! flight, and all deadlines. A driver feeds it with [`handle`](Engine::handle), drains
//! [`poll_action`](Engine::poll_action) after every call, and calls [`expire`](Engine::expire) when
//! [`next_deadline`](Engine::next_deadline) has come. Time is an argument, so a test can let an
//! hour pass at once.
//!
//! The engine never looks into two of its types. `O` is the *origin* of a request, the path back to
//! its sender. `P` is the *payload*, the frames on their way to a worker or back. Both are copied
//! for fanouts and notifications only.
//!
//! The files of this folder refer to each other, because they are one state machine: each holds the
//! rules of one concern, as an `impl Engine`.
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
//! engine.handle(now, Input::Request { arrival, from: "client", payload: "hello" });
//! assert!(matches!(engine.poll_action(), Some(Action::Deliver { payload: "hello", .. })));
//! # Ok(())
//! # }
//! ```

mod backlog;
mod cancellation;
mod counters;
mod deadlines;
mod drain;
mod events;
mod fanout;
mod handed_back;
mod notifications;
mod pending;
mod queues;
mod servers;
mod status;
mod topics;
mod unserved;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;
use zmqv2_proto::{InstanceId, MessageId, Reason, Refusal, ServerName, TopicKey};

pub use counters::{Counter, Counters, reference_markdown};
pub use events::{Action, Arrival, Input, Offer, Pattern};
pub use unserved::ClientId;

use backlog::Backlog;
use deadlines::Deadlines;
use pending::{Pending, PendingTable, Queue, State};
use servers::{Server, Worker};
use topics::Topic;
use unserved::Unserved;

/// The number of a worker, and of its link in the driver. Reused after [`Action::Disconnect`].
pub type WorkerId = usize;

/// A server that is not connected after this time is removed. If it lives, it registers again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The bounds of what a broker keeps (promise P5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most waiting requests of a topic (option `rpc_zmq_topic_backlog`). Above it: `Busy`.
    pub topic_backlog: usize,
    /// The most bytes of all waiting requests (option `rpc_zmq_backlog_bytes`). Above it: `Busy`.
    pub backlog_bytes: usize,
    /// The most topics without a server in which requests wait. Above it: `Busy`.
    pub unserved_topics: usize,
    /// The most of them that one client's connection has added. Above it: `Busy`.
    pub unserved_topics_of_client: usize,
    /// The most deliveries of a notification (option `rpc_zmq_max_deliveries`).
    pub max_deliveries: u16,
    /// Whether notifications are stored in a file first (option `rpc_zmq_notification_store`).
    pub durable: bool,
    /// Where tags begin. It differs between runs of a broker, so that a listener's message about a
    /// delivery of an earlier run matches no request of this one.
    pub first_generation: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topic_backlog: 10_000,
            backlog_bytes: 256 << 20,
            unserved_topics: 10_000,
            unserved_topics_of_client: 100,
            max_deliveries: 5,
            durable: false,
            first_generation: 0,
        }
    }
}

/// The routing state of one broker.
#[derive(Debug)]
pub struct Engine<O, P> {
    limits: Limits,
    topics: Slab<Topic>,
    by_key: HashMap<TopicKey, usize>,
    unserved: Unserved,
    servers: Slab<Server<O>>,
    by_instance: HashMap<InstanceId, usize>,
    workers: Slab<Worker>,
    pending: PendingTable<O, P>,
    /// For each request with several copies: how many answers are still to come.
    groups: Slab<usize>,
    /// The store's number of the next notification.
    next_number: u64,
    /// The number of pending copies of each notification.
    notification_copies: HashMap<MessageId, usize>,
    /// Queues that were added, or that a request or a server has left, since the last event.
    changed_queues: Vec<Queue>,
    deadlines: Deadlines,
    /// Servers that are not fully connected yet, with the time at which they are given up.
    connecting: VecDeque<(Instant, InstanceId)>,
    actions: VecDeque<Action<O, P>>,
    counters: Counters,
    /// Bytes of waiting requests, and of all copies of fanouts.
    request_bytes: usize,
    /// Bytes of notifications. Counted apart, so that they leave room for calls.
    notification_bytes: usize,
    draining: bool,
    drained: bool,
}

impl<O: Clone, P: Clone> Engine<O, P> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            topics: Slab::new(),
            by_key: HashMap::new(),
            unserved: Unserved::default(),
            servers: Slab::new(),
            by_instance: HashMap::new(),
            workers: Slab::new(),
            pending: PendingTable::with_first_generation(limits.first_generation),
            groups: Slab::new(),
            next_number: 1,
            notification_copies: HashMap::new(),
            changed_queues: Vec::new(),
            deadlines: Deadlines::default(),
            connecting: VecDeque::new(),
            actions: VecDeque::new(),
            counters: Counters::default(),
            request_bytes: 0,
            notification_bytes: 0,
            draining: false,
            drained: false,
        }
    }

    /// Numbers new notifications from `number` on, because the store has used the lower ones.
    pub fn start_numbers_at(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Handles one event. Drain [`poll_action`](Self::poll_action) afterwards.
    pub fn handle(&mut self, now: Instant, input: Input<'_, O, P>) {
        match input {
            Input::Request { arrival, from, payload } => self.request(now, arrival, from, payload),
            Input::Reply { worker, tag, credit, refused, payload } => {
                self.note_sign(now, worker);
                self.reply(now, worker, tag, credit, refused, payload);
            }
            Input::HandedBack { worker, tag, arrival, payload } => {
                self.note_sign(now, worker);
                self.handed_back(now, worker, tag, arrival, payload);
            }
            Input::Handled { tag, id, credit, requeue } => self.handled(now, tag, id, credit, requeue),
            Input::StoreResult { tag, result } => self.stored(now, tag, result),
            Input::Restore { number, arrival, payload } => self.restore(now, number, arrival, payload),
            Input::Credit { instance, worker, credit } => self.credit(now, instance, worker, credit),
            Input::Freed { worker, credit, wide } => {
                self.note_sign(now, worker);
                self.freed(now, worker, credit, wide);
            }
            Input::Register { offer, from } => self.register(now, offer, from),
            Input::WorkerUp { worker } => self.worker_up(now, worker),
            Input::WorkerDown { worker } => self.worker_down(now, worker),
            Input::Withdraw { instance, from } => self.withdraw(now, instance, from),
            Input::Cancel { client, id } => self.cancel(client, id),
            Input::ClientsGone { clients } => self.clients_gone(&clients),
            Input::Drain => self.drain(now),
        }
        self.finish_event();
    }

    pub fn poll_action(&mut self) -> Option<Action<O, P>> {
        self.actions.pop_front()
    }

    /// When [`expire`](Self::expire) must be called. `None`: not before the next event.
    pub fn next_deadline(&self) -> Option<Instant> {
        let connecting = self.connecting.front().map(|(at, _)| *at);
        [self.deadlines.next(), connecting].into_iter().flatten().min()
    }

    /// Ends all that has expired by `now`. Drain [`poll_action`](Self::poll_action) afterwards.
    pub fn expire(&mut self, now: Instant) {
        while let Some(tag) = self.deadlines.pop_due(now) {
            self.expire_request(now, tag);
        }
        while let Some((_, instance)) = self.connecting.front().copied().filter(|(at, _)| *at <= now) {
            self.connecting.pop_front();
            self.give_up_connecting(now, instance);
        }
        self.finish_event();
    }

    fn finish_event(&mut self) {
        self.remove_idle_queues();
        self.check_drained();
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn in_flight(&self) -> usize {
        self.pending.in_flight()
    }

    /// If a [`monitored`](Arrival::monitored) request with this id waits or is in flight: how long
    /// the server that has it has given no sign of life. Zero if its signs come as it promised, or
    /// if no server has the request.
    pub fn silence_of(&self, now: Instant, id: MessageId) -> Option<Duration> {
        let worker = self.pending.monitored(id)?.state.worker();
        let server = worker.and_then(|worker| self.servers.get(self.workers.get(worker)?.server));
        Some(server.map_or(Duration::ZERO, |server| server.silence(now)))
    }

    /// Copies of notifications that wait for a listener, or that a listener has not handled yet.
    pub fn notifications(&self) -> usize {
        self.notification_copies.values().sum()
    }

    fn expire_request(&mut self, now: Instant, tag: u64) {
        let Some(request) = self.pending.get(tag) else { return };
        match request.state {
            State::Queued(_) if request.notification.is_some() => self.expire_notification(tag),
            State::Delayed => self.end_delay(now, tag),
            State::Queued(queue) => {
                let Some(request) = self.pending.remove(tag) else { return };
                self.request_bytes -= request.bytes;
                let detail = format!("no worker of {} was free in time; it did not run", self.describe(queue));
                let server = self.copy_for(queue);
                self.removed_from(queue);
                self.counters.add(Counter::Expired);
                self.refuse_pending(request, server, Reason::Expired, detail);
            }
            // The sender no longer waits. The worker's answer will still return its credit.
            State::InFlight { worker } if request.notification.is_none() => {
                let group = request.group;
                self.count_answer(group);
                self.pending.abandon(tag, worker);
                self.counters.add(Counter::Abandoned);
            }
            // A notification that the store or a listener has cannot be given up.
            State::Storing | State::InFlight { .. } | State::Acknowledged { .. } | State::Abandoned { .. } => {}
        }
    }

    fn add_deadline(&mut self, deadline: Instant, tag: u64) {
        let pending = &self.pending;
        self.deadlines.push(deadline, tag, pending.len(), |tag| pending.contains(tag));
    }

    fn refuse(&mut self, origin: Option<O>, reason: Reason, detail: impl Into<String>) {
        self.refuse_one(origin, Refusal::new(reason, detail), None, 0);
    }

    /// Refuses a pending request, or a copy of one for `server`.
    fn refuse_pending(
        &mut self,
        request: Pending<O, P>,
        server: Option<ServerName>,
        reason: Reason,
        detail: impl Into<String>,
    ) {
        let remaining = self.count_answer(request.group);
        self.refuse_one(request.origin, Refusal::new(reason, detail), server, remaining);
    }

    /// Refuses a request that `server` has, unless its sender no longer waits.
    fn refuse_delivered(&mut self, tag: u64, server: &ServerName, reason: Reason, detail: &str) {
        if let Some(request) = self.remove_delivered(tag).filter(|request| request.origin.is_some()) {
            let server = request.group.is_some().then(|| server.clone());
            self.refuse_pending(request, server, reason, detail);
        }
    }

    /// Removes a request that a worker has.
    fn remove_delivered(&mut self, tag: u64) -> Option<Pending<O, P>> {
        self.pending.remove(tag).inspect(|request| self.request_bytes -= request.bytes_while_delivered())
    }

    fn refuse_one(&mut self, origin: Option<O>, refusal: Refusal, server: Option<ServerName>, remaining: u16) {
        self.counters.add(Counter::Refused(refusal.reason));
        if let Some(to) = origin {
            self.actions.push_back(Action::Refuse { to, refusal, server, remaining });
        }
    }

    /// Counts an answer of a group. Returns how many are still to come.
    fn count_answer(&mut self, group: Option<usize>) -> u16 {
        let Some(left) = group.and_then(|group| self.groups.get_mut(group)) else { return 0 };
        *left -= 1;
        let left = *left;
        if left == 0 {
            group.map(|group| self.groups.remove(group));
        }
        u16::try_from(left).unwrap_or(u16::MAX)
    }
}
