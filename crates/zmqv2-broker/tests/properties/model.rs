//! A model of the engine: plain lists, searched from end to end. This file has the events;
//! `checks.rs` checks the actions.

#[path = "checks.rs"]
mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use zmqv2_broker::engine::{Action, Arrival, Counter, Counters, Engine, Input, Limits, Offer, WorkerId};
use zmqv2_proto::control::ServerRegistration;
use zmqv2_proto::{InstanceId, MessageId, Reason, ReceiverKind, TopicKey};

const KEYS: [&str; 4] = ["openstack/t", "nova/t", "openstack/u", "openstack/nobody"];
const NAMES: [&str; 4] = ["s0", "s1", "s2", "nobody"];
/// Requests come from these clients in turn.
pub(crate) const CLIENTS: usize = 3;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The path back: the request, or the run of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Request(usize),
    Register(u32),
    Withdraw(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Waiting,
    At(WorkerId, u64),
    /// Its deadline came while a worker had it.
    Abandoned(WorkerId, u64),
    Answered,
    /// Its sender gave it up before it ran.
    Cancelled,
    Refused(Reason),
    /// Cancelled while a worker had it, and then answered: nobody gets the answer.
    Unwanted,
    /// Abandoned, and then answered or lost.
    Late,
}

struct Request {
    key: usize,
    name: Option<usize>,
    deadline: Instant,
    bytes: usize,
    /// Waits for a server to come.
    patient: bool,
    /// A worker has handed it back.
    again: bool,
    /// It waits for this run alone.
    only: Option<u32>,
    /// Its number is its message id as well.
    number: usize,
    /// Its sender gave it up while a worker had it.
    cancelled: bool,
    is: Is,
}

pub(crate) struct Worker {
    run: u32,
    pub(crate) up: bool,
    window: u16,
    /// The additional window while its requests are quick.
    wider: u16,
    wide: bool,
    /// Acknowledged requests that still run. Below zero if the end came first.
    running: i64,
}

struct Run {
    key: usize,
    name: usize,
    workers: u16,
    credit: u16,
    wider: u16,
    give_up_at: Instant,
    withdrawing: bool,
    /// The youngest request that it has had.
    last: Option<usize>,
}

pub(crate) struct Model {
    engine: Engine<From, usize>,
    limits: Limits,
    now: Instant,
    requests: Vec<Request>,
    runs: BTreeMap<u32, Run>,
    workers: BTreeMap<WorkerId, Worker>,
    /// The workers of a run, in their order.
    links: BTreeMap<u32, Vec<WorkerId>>,
    tags: BTreeSet<u64>,
    handed_back: u64,
    announced: BTreeSet<(usize, usize)>,
    started: u32,
    refused_servers: u64,
    /// The number of servers that never connected.
    given_up: u64,
    /// The counts of servers and of late answers.
    counters: Counters,
    draining: bool,
    drained: bool,
}

fn instance(run: u32) -> InstanceId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&run.to_be_bytes());
    InstanceId::from_bytes(bytes)
}

fn offer(number: u32, run: &Run) -> Offer {
    let registration = ServerRegistration::new(instance(number), run.workers, run.credit, number);
    let mut registration = registration.sharing_a_socket(run.is_shared()).with_window(run.credit + run.wider);
    registration.cancels = run.name != 1;
    let registration = registration.with_receiver(ReceiverKind::Server);
    Offer::new(TopicKey::parse(KEYS[run.key]).unwrap(), NAMES[run.name].parse().unwrap(), registration)
}

fn message_id(number: usize) -> MessageId {
    MessageId::from_bytes((number as u128).to_be_bytes())
}

#[allow(clippy::disallowed_methods, reason = "one arbitrary instant to count from; no test waits")]
fn start() -> Instant {
    Instant::now()
}

/// The events.
impl Model {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            engine: Engine::new(limits),
            limits,
            now: start(),
            requests: Vec::new(),
            runs: BTreeMap::new(),
            workers: BTreeMap::new(),
            links: BTreeMap::new(),
            tags: BTreeSet::new(),
            handed_back: 0,
            announced: BTreeSet::new(),
            started: 0,
            refused_servers: 0,
            given_up: 0,
            counters: Counters::default(),
            draining: false,
            drained: false,
        }
    }

    pub(crate) fn register(&mut self, key: usize, name: usize, workers: u16, credit: u16, wider: u16) {
        self.started += 1;
        let give_up_at = self.now + CONNECT_WITHIN;
        let run = Run { key, name, workers, credit, wider, give_up_at, withdrawing: false, last: None };
        let offer = offer(self.started, &run);
        if !self.draining {
            self.runs.insert(self.started, run);
        }
        let actions = self.handle(Input::Register { offer, from: From::Register(self.started) });
        if self.draining {
            self.refused_servers += 1;
            return assert!(matches!(&actions[..], [Action::Refuse { .. }]), "{actions:?}");
        }
        let connects = |action: &_| matches!(action, Action::Connect { .. });
        assert!(actions.len() == usize::from(workers) && actions.iter().all(connects), "{actions:?}");
    }

    pub(crate) fn register_again(&mut self, run: u32) {
        let known = &self.runs[&run];
        let is_up = self.is_up(run) && !known.withdrawing;
        let actions = self.handle(Input::Register { offer: offer(run, &self.runs[&run]), from: From::Register(run) });
        match &actions[..] {
            [Action::Refuse { .. }] => {
                self.refused_servers += 1;
                assert!(self.draining);
            }
            [Action::Registered { .. }] => assert!(is_up),
            other => assert!(other.is_empty() && !is_up, "{other:?}"),
        }
    }

    pub(crate) fn up(&mut self, worker: WorkerId) {
        let Some(it) = self.workers.get_mut(&worker) else {
            return;
        };
        it.up = true;
        let run = it.run;
        let actions = self.handle(Input::WorkerUp { worker });
        let told = actions.iter().any(|action| matches!(action, Action::Registered { .. }));
        if told {
            self.counters.add(Counter::Registered);
        }
        assert_eq!(told, self.is_up(run), "{actions:?}");
    }

    pub(crate) fn down(&mut self, worker: WorkerId) {
        let run = self.workers.get(&worker).map(|worker| worker.run);
        let had = run.map_or(Vec::new(), |run| self.held_by(run));
        let was_up = run.is_some_and(|run| self.is_up(run));
        if was_up {
            self.counters.add(Counter::ServersLost);
        }
        let asked = run.is_some_and(|run| self.leaves(run));
        for id in &had {
            if let Is::Abandoned(..) = self.requests[*id].is {
                self.requests[*id].is = Is::Late;
            }
        }
        let actions = self.handle(Input::WorkerDown { worker });
        assert!(!self.workers.contains_key(&worker), "a lost worker is disconnected");
        let kept = had.iter().find(|id| !matches!(self.requests[**id].is, Is::Late | Is::Refused(Reason::ServerLost)));
        assert_eq!(kept, None, "a request of a lost server");
        let told = actions.iter().any(|action| matches!(action, Action::Withdrawn { .. }));
        assert_eq!(told, asked, "{actions:?}");
        self.check_given_up(&actions, usize::from(run.is_some() && !was_up));
    }

    /// Servers that waited for the answer to a registration are refused.
    fn check_given_up(&mut self, actions: &[Action<From, usize>], servers: usize) {
        let told = |action: &&_| matches!(action, Action::Refuse { to: From::Register(_), .. });
        assert_eq!(actions.iter().filter(told).count(), servers, "{actions:?}");
        self.given_up += servers as u64;
    }

    pub(crate) fn withdraw(&mut self, run: u32) {
        if self.runs.contains_key(&run) && !self.leaves(run) {
            self.counters.add(Counter::Withdrawn);
        }
        let idle = self.held_by(run).is_empty();
        let actions = self.handle(Input::Withdraw { instance: instance(run), from: From::Withdraw(run) });
        let told = actions.iter().any(|action| matches!(action, Action::Withdrawn { .. }));
        assert_eq!(told, idle, "{actions:?}");
    }

    pub(crate) fn request(&mut self, key: usize, name: Option<usize>, ttl: Duration, bytes: usize, patient: bool) {
        let id = self.requests.len();
        let (queued, queued_bytes) = (self.waiting().filter(|it| it.key == key).count(), self.waiting_bytes());
        let deadline = self.now + ttl;
        let (number, again, only, cancelled, is) = (id, false, None, false, Is::Waiting);
        self.requests.push(Request { key, name, deadline, bytes, patient, again, only, number, cancelled, is });
        let request = &self.requests[id];
        let routes = self.is_served(request);
        let worker_free = self.workers.keys().any(|worker| self.could_take(*worker, request));
        let expected = match () {
            () if self.draining => Is::Refused(Reason::ShuttingDown),
            () if ttl.is_zero() => Is::Refused(Reason::Expired),
            () if !routes && !patient => Is::Refused(Reason::NoRoute),
            () if worker_free => Is::At(0, 0),
            () if queued >= self.limits.topic_backlog => Is::Refused(Reason::Busy),
            () if queued_bytes + bytes > self.limits.backlog_bytes => Is::Refused(Reason::Busy),
            () => Is::Waiting,
        };
        let arrival = self.requests[id].arrival();
        self.handle(Input::Request { arrival, from: From::Request(id), payload: id });
        match self.requests[id].is {
            Is::At(..) => assert_eq!(expected, Is::At(0, 0), "request {id}"),
            is => assert_eq!(is, expected, "request {id}"),
        }
    }

    pub(crate) fn reply(&mut self, worker: WorkerId, tag: u64, credit: u16) {
        let held = self.requests.iter().position(|it| it.at() == Some((worker, tag)));
        let mut expected = Vec::new();
        if let Some(id) = held {
            let is = match self.requests[id].is {
                Is::Abandoned(..) => Is::Late,
                _ if self.requests[id].cancelled => Is::Unwanted,
                _ => Is::Answered,
            };
            self.requests[id].is = is;
            let answer = Action::Answer { to: From::Request(id), payload: id, remaining: 0 };
            expected.extend((is == Is::Answered).then_some(answer));
            self.workers.get_mut(&worker).unwrap().running += 1;
            self.give_back(worker, credit);
        }
        if expected.is_empty() {
            self.counters.add(Counter::LateAnswers);
        }
        let actions =
            self.handle(Input::Reply { worker, tag, credit, refused: None, payload: held.unwrap_or(usize::MAX) });
        let answers: Vec<_> = actions.into_iter().filter(|action| matches!(action, Action::Answer { .. })).collect();
        assert_eq!(answers, expected);
    }

    /// A worker reports that acknowledged requests have ended.
    pub(crate) fn credit(&mut self, worker: WorkerId, credit: u16) {
        let run = self.workers[&worker].run;
        self.give_back(worker, credit);
        let index = self.links[&run].iter().position(|other| *other == worker).unwrap();
        self.handle(Input::Credit { instance: instance(run), worker: index, credit });
    }

    /// The same over its own link, and that its requests are quick.
    pub(crate) fn quick(&mut self, worker: WorkerId, credit: u16) {
        self.give_back(worker, credit);
        self.workers.get_mut(&worker).unwrap().wide = true;
        self.handle(Input::Freed { worker, credit, wide: true });
    }

    /// A worker hands back a request that it has not started.
    pub(crate) fn hand_back(&mut self, number: WorkerId, tag: u64) {
        let id = self.requests.iter().position(|it| it.at() == Some((number, tag))).unwrap();
        self.handed_back += 1;
        self.tags.remove(&tag);
        self.workers.get_mut(&number).unwrap().wide = false;
        let (run, key) = (self.workers[&number].run, self.requests[id].key);
        let mixed = self.keeps_order(key);
        let request = &mut self.requests[id];
        request.again = true;
        request.only = mixed.then_some(run);
        request.is = match request.is {
            Is::Abandoned(..) => Is::Late,
            _ if request.cancelled => Is::Cancelled,
            _ => Is::Waiting,
        };
        let arrival = request.arrival();
        self.handle(Input::HandedBack { worker: number, tag, arrival, payload: id });
    }

    /// A client gives up a request, its own or that of another client, at any moment.
    pub(crate) fn cancel(&mut self, client: usize, number: usize) {
        if self.requests.get(number).is_some_and(|request| request.client() == client as u64) {
            self.give_up(number);
        }
        self.handle(Input::Cancel { client: client as u64, id: message_id(number) });
    }

    /// A client's connection ends.
    pub(crate) fn client_gone(&mut self, client: usize) {
        for number in 0..self.requests.len() {
            let request = &self.requests[number];
            if request.client() == client as u64 && request.is_call() {
                self.give_up(number);
            }
        }
        self.handle(Input::ClientsGone { clients: vec![client as u64] });
    }

    fn give_up(&mut self, number: usize) {
        let request = &mut self.requests[number];
        match request.is {
            Is::Waiting => request.is = Is::Cancelled,
            Is::At(..) => request.cancelled = true,
            _ => {}
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.len()
    }

    fn give_back(&mut self, worker: WorkerId, credit: u16) {
        let held = self.held_by_worker(worker) as i64;
        let worker = self.workers.get_mut(&worker).unwrap();
        worker.running = (worker.running - i64::from(credit)).max(-held);
    }

    /// Time passes, and the driver is never late.
    pub(crate) fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.expire();
        }
        self.now = end;
        self.expire();
    }

    pub(crate) fn lag(&mut self, span: Duration) {
        self.now += span;
    }

    fn expire(&mut self) {
        for request in &mut self.requests {
            if let Is::At(worker, tag) = request.is
                && request.deadline <= self.now
            {
                request.is = Is::Abandoned(worker, tag);
            }
        }
        let late: Vec<_> =
            self.runs.iter().filter(|(run, it)| it.give_up_at <= self.now && !self.is_up(**run)).collect();
        let late: Vec<_> = late.into_iter().map(|(run, _)| *run).collect();
        for run in &late {
            self.leaves(*run);
        }
        self.engine.expire(self.now);
        let actions = self.observe();
        self.check_given_up(&actions, late.len());
        let overdue = self.waiting().filter(|request| request.deadline <= self.now).count();
        assert_eq!(overdue, 0, "requests wait beyond their deadlines");
        assert!(!late.iter().any(|run| self.runs.contains_key(run)), "a server that never connected is kept");
        assert!(self.engine.next_deadline().is_none_or(|at| at > self.now), "expire left something due");
    }

    pub(crate) fn drain(&mut self) {
        let again = std::mem::replace(&mut self.draining, true);
        let connecting: Vec<_> = self.runs().into_iter().filter(|run| !self.is_up(*run)).collect();
        for run in &connecting {
            self.leaves(*run);
        }
        let actions = self.handle(Input::Drain);
        let told = |action: &&_| matches!(action, Action::Refuse { to: From::Register(_), .. });
        assert_eq!(actions.iter().filter(told).count(), connecting.len());
        self.refused_servers += connecting.len() as u64;
        assert!(!again || actions.is_empty(), "{actions:?}");
        assert!(!connecting.iter().any(|run| self.runs.contains_key(run)), "a broker that stops still connects");
        assert_eq!(self.waiting().count(), 0, "requests wait in a broker that stops");
    }
}

/// The state.
impl Model {
    pub(crate) fn runs(&self) -> Vec<u32> {
        self.runs.keys().copied().collect()
    }

    pub(crate) fn workers_that(&self, wanted: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        self.workers.iter().filter(|(_, worker)| wanted(worker)).map(|(number, _)| *number).collect()
    }

    /// The delivered requests: tag and worker.
    pub(crate) fn deliveries(&self) -> Vec<(u64, WorkerId)> {
        self.requests.iter().filter_map(Request::at).map(|(worker, tag)| (tag, worker)).collect()
    }

    /// The tags of settled deliveries.
    pub(crate) fn settled_tags(&self) -> Vec<u64> {
        let held: BTreeSet<_> = self.deliveries().into_iter().map(|(tag, _)| tag).collect();
        self.tags.difference(&held).copied().collect()
    }

    fn waiting(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| request.is == Is::Waiting)
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting().map(|request| request.bytes).sum()
    }

    fn held_by_worker(&self, number: WorkerId) -> usize {
        self.deliveries().into_iter().filter(|(_, worker)| *worker == number).count()
    }

    /// The requests that the workers of `run` have.
    fn held_by(&self, run: u32) -> Vec<usize> {
        let ours = |worker: &WorkerId| self.workers.get(worker).is_some_and(|worker| worker.run == run);
        let held = |request: &Request| request.at().is_some_and(|(worker, _)| ours(&worker));
        (0..self.requests.len()).filter(|id| held(&self.requests[*id])).collect()
    }

    /// Whether every worker of `run` is connected.
    fn is_up(&self, run: u32) -> bool {
        self.workers.values().all(|worker| worker.run != run || worker.up)
    }

    /// Stops new work for `run`. Returns whether it had stopped before.
    fn leaves(&mut self, run: u32) -> bool {
        self.runs.get_mut(&run).is_some_and(|run| std::mem::replace(&mut run.withdrawing, true))
    }

    /// The credit of a worker. It has none before all of its server is connected.
    fn credit_of(&self, number: WorkerId) -> i64 {
        let worker = &self.workers[&number];
        let wide = worker.wide && !self.keeps_order(self.runs[&worker.run].key);
        let window = worker.window + if wide { worker.wider } else { 0 };
        let places = i64::from(window) - self.held_by_worker(number) as i64 - worker.running.max(0);
        if self.is_up(worker.run) { places.max(0) } else { 0 }
    }

    fn could_take(&self, worker: WorkerId, request: &Request) -> bool {
        let run = self.workers[&worker].run;
        self.credit_of(worker) > 0 && self.runs[&run].serves(request) && request.only.is_none_or(|only| only == run)
    }

    /// Whether there is a run that may take it.
    fn is_served(&self, request: &Request) -> bool {
        let may = |(number, run): (&u32, &Run)| run.serves(request) && request.only.is_none_or(|only| only == *number);
        self.runs.iter().any(may)
    }

    /// Whether a server of this topic runs requests in the order in which they came.
    fn keeps_order(&self, key: usize) -> bool {
        self.runs.values().any(|run| run.key == key && run.keeps_order() && !run.withdrawing)
    }
}

impl Worker {
    /// The used part of its window with so many requests.
    fn has(&self, held: usize) -> i64 {
        held as i64 + self.running.max(0)
    }
}

impl Run {
    /// Its requests run in the order in which they come.
    fn keeps_order(&self) -> bool {
        self.workers == 1 && !self.is_shared()
    }

    /// Its only worker is behind a socket that may take more requests.
    fn is_shared(&self) -> bool {
        self.workers == 1 && self.wider > 0
    }

    fn serves(&self, request: &Request) -> bool {
        !self.withdrawing && self.key == request.key && request.name.is_none_or(|name| name == self.name)
    }
}

impl Request {
    fn arrival(&self) -> Arrival<'static> {
        Arrival {
            server: self.name.map_or("", |name| NAMES[name]),
            wait_for_ready: self.patient,
            client: Some(self.client()),
            is_call: self.is_call(),
            ..Arrival::new(message_id(self.number), KEYS[self.key], self.deadline, self.bytes)
        }
    }

    fn client(&self) -> u64 {
        (self.number % CLIENTS) as u64
    }

    fn is_call(&self) -> bool {
        !self.number.is_multiple_of(4)
    }

    /// The worker that has it, and the tag.
    fn at(&self) -> Option<(WorkerId, u64)> {
        match self.is {
            Is::At(worker, tag) | Is::Abandoned(worker, tag) => Some((worker, tag)),
            _ => None,
        }
    }
}
