//! Which worker gets a request, and which request a worker gets.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use slab::Slab;
use zmqv2_proto::{InvalidName, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::pending::{Held, Queue, State};
use super::{Action, Arrival, Backlog, Counter, Engine, Pattern, WorkerId};

/// Topics come from the network while requests wait for their servers: so many, and no more.
const MOST_TOPICS_WITHOUT_SERVER: usize = 1_000;

/// A topic with servers that take work, or with requests that wait for one.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) key: TopicKey,
    /// Requests for any server.
    pub(super) shared: Backlog,
    /// Servers by name; several runs may share one.
    pub(super) named: Slab<Named>,
    pub(super) by_name: HashMap<ServerName, usize>,
    /// Servers that may have a ready worker, in turn. Strictly round robin over servers, not workers: three requests in
    /// a row reach three servers, however many workers each has.
    pub(super) ring: VecDeque<usize>,
    /// Runs of all its servers that take work; 0 while requests wait for one to come.
    pub(super) runs: usize,
    /// Those of them that have one worker, and so an order to keep (promise P10).
    pub(super) in_order: usize,
    /// Requests that wait here, for whomever.
    pub(super) waiting: usize,
}

/// The runs of one server name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: ServerName,
    /// Requests for exactly this server.
    pub(super) backlog: Backlog,
    /// Runs that take work.
    pub(super) runs: VecDeque<usize>,
}

impl Named {
    pub(super) fn new(name: ServerName) -> Self {
        Self { name, backlog: Backlog::default(), runs: VecDeque::new() }
    }

    /// Nobody is there and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.backlog.len() == 0
    }
}

impl Topic {
    pub(super) fn new(key: TopicKey) -> Self {
        let (named, by_name, ring) = Default::default();
        Self { key, shared: Backlog::default(), named, by_name, ring, runs: 0, in_order: 0, waiting: 0 }
    }

    /// The number of a server name, made if it is new.
    pub(super) fn server(&mut self, name: &ServerName) -> usize {
        let Self { named, by_name, .. } = self;
        *by_name.entry(name.clone()).or_insert_with_key(|name| named.insert(Named::new(name.clone())))
    }

    /// Whether somebody is there to take a request for any server, or for one.
    fn has_runs(&self, server: Option<usize>) -> bool {
        server.map_or(self.runs > 0, |server| !self.named[server].runs.is_empty())
    }
}

impl<O: Clone, L: Clone> Engine<O, L> {
    pub(super) fn request(&mut self, now: Instant, arrival: Arrival<'_>, from: O, load: L) {
        self.counters.add(Counter::Requests);
        if self.draining {
            return self.refuse(Some(from), Reason::ShuttingDown, "the broker is stopping; the request did not run");
        }
        if arrival.deadline <= now {
            self.counters.add(Counter::Expired);
            return self.refuse(Some(from), Reason::Expired, "no time was left on arrival; the request did not run");
        }
        match arrival.pattern {
            Pattern::Fanout => self.fanout(now, arrival, from, load),
            Pattern::Notify => self.notify(now, arrival, Some(from), load),
            Pattern::One => self.request_one(now, arrival, from, load),
        }
    }

    /// A request for one worker.
    pub(super) fn request_one(&mut self, now: Instant, arrival: Arrival<'_>, from: O, load: L) {
        let (topic, server) = match self.find(arrival) {
            Ok(place) => place,
            Err(refusal) => return self.refuse(Some(from), refusal.reason, refusal.detail),
        };
        let worker = match server {
            Some(server) => self.take_worker_of(topic, server),
            None => self.take_worker(topic),
        };
        let queue = Queue { topic, at: server.into() };
        self.place(now, arrival, from, load, worker, queue, None);
    }

    /// Gives a request to its worker, or lets it wait for one.
    #[expect(clippy::too_many_arguments, reason = "where a request goes is decided in two ways and done in one")]
    pub(super) fn place(
        &mut self,
        now: Instant,
        arrival: Arrival<'_>,
        from: O,
        load: L,
        worker: Option<WorkerId>,
        queue: Queue,
        group: Option<usize>,
    ) {
        let Arrival { deadline, bytes, .. } = arrival;
        let mut held = Held::new(Some(from), None, bytes, deadline, State::Queued(queue));
        (held.group, held.is_copy) = (group, group.is_some());
        held.asked_about = arrival.monitored.then_some(arrival.id);
        let tag = if let Some(worker) = worker {
            held.state = State::InFlight { worker };
            self.held_bytes += held.copied_bytes();
            let tag = self.requests.insert(held);
            self.deliver(now, worker, tag, deadline, 0, load);
            tag
        } else {
            if let Some(full) = self.is_full(queue.topic, bytes) {
                self.tidy_queue(queue);
                let server = self.whose(queue);
                return self.refuse_held(held, server, Reason::Busy, full);
            }
            self.held_bytes += bytes;
            held.load = Some(load);
            held.wait_for_ready = arrival.wait_for_ready;
            let tag = self.requests.insert(held);
            self.enqueue(tag, queue);
            tag
        };
        self.watch_deadline(deadline, tag);
    }

    /// The topic, and the server in it if one is asked for. Never another server (RG02).
    pub(super) fn find(&mut self, arrival: Arrival<'_>) -> Result<(usize, Option<usize>), Refusal> {
        let Arrival { key, server, wait_for_ready, .. } = arrival;
        if let Some(topic) = self.by_key.get(key).copied() {
            let named = self.topics[topic].by_name.get(server).copied();
            let place = named.map(Some).or(server.is_empty().then_some(None));
            if let Some(server) = place.filter(|server| wait_for_ready || self.topics[topic].has_runs(*server)) {
                return Ok((topic, server));
            }
        }
        if wait_for_ready {
            return self.make_place(key, server);
        }
        let at = if server.is_empty() { String::new() } else { format!(" named {server:?}") };
        Err(Refusal::new(Reason::NoRoute, format!("no server of {key:?}{at} is registered there")))
    }

    /// A place for a request that waits for its server to come.
    fn make_place(&mut self, key: &str, server: &str) -> Result<(usize, Option<usize>), Refusal> {
        let malformed = |error: InvalidName| Refusal::new(Reason::Malformed, error.to_string());
        let key = TopicKey::parse(key).map_err(malformed)?;
        let server = Some(server).filter(|server| !server.is_empty()).map(ServerName::new).transpose();
        let server = server.map_err(malformed)?;
        match self.has_no_topic_left(&key) {
            Some(detail) => Err(Refusal::new(Reason::Busy, detail)),
            None => Ok(self.open_place(&key, server.as_ref())),
        }
    }

    /// Why nothing can wait for a server of this topic.
    pub(super) fn has_no_topic_left(&self, key: &TopicKey) -> Option<String> {
        let without_server = || self.topics.iter().filter(|(_, topic)| topic.runs == 0).count();
        let full = !self.by_key.contains_key(key) && without_server() >= MOST_TOPICS_WITHOUT_SERVER;
        full.then(|| {
            format!("messages wait for {MOST_TOPICS_WITHOUT_SERVER} topics that nobody serves, which is the most")
        })
    }

    /// The numbers of a topic, and of a server or pool in it.
    pub(super) fn open_place(&mut self, key: &TopicKey, server: Option<&ServerName>) -> (usize, Option<usize>) {
        let topic = self.topic(key);
        (topic, server.map(|server| self.topics[topic].server(server)))
    }

    /// The number of a topic, made if it is new.
    pub(super) fn topic(&mut self, key: &TopicKey) -> usize {
        let topics = &mut self.topics;
        *self.by_key.entry(key.clone()).or_insert_with_key(|key| topics.insert(Topic::new(key.clone())))
    }

    /// Why one more request of `bytes` cannot wait.
    pub(super) fn is_full(&self, topic: usize, bytes: usize) -> Option<String> {
        let topic = &self.topics[topic];
        let limit = self.limits.topic_backlog;
        if topic.waiting >= limit {
            return Some(format!("{limit} requests for {} wait already (rpc_zmq_topic_backlog)", topic.key));
        }
        self.has_no_room(bytes)
    }

    /// Why `bytes` more cannot be held.
    pub(super) fn has_no_room(&self, bytes: usize) -> Option<String> {
        let limit = self.limits.backlog_bytes;
        if self.held_bytes + bytes > limit {
            let held = self.held_bytes;
            return Some(format!(
                "{held} bytes are held already, {bytes} more are over {limit} (rpc_zmq_backlog_bytes)"
            ));
        }
        None
    }

    /// A worker of the next server in turn that has one ready.
    pub(super) fn take_worker(&mut self, topic: usize) -> Option<WorkerId> {
        let ring = &mut self.topics[topic].ring;
        while let Some(number) = ring.pop_front() {
            let server = &mut self.servers[number];
            let worker = server.take_ready(&mut self.workers);
            let again = server.has_ready();
            server.set_in_ring(topic, again);
            if again {
                ring.push_back(number);
            }
            if worker.is_some() {
                return worker;
            }
        }
        None
    }

    /// A worker of the next run of one server that has one ready.
    pub(super) fn take_worker_of(&mut self, topic: usize, server: usize) -> Option<WorkerId> {
        let runs = &mut self.topics[topic].named[server].runs;
        for _ in 0..runs.len() {
            // The next request starts at the run after this one.
            runs.rotate_left(1);
            let worker = runs.back().and_then(|run| self.servers[*run].take_ready(&mut self.workers));
            if worker.is_some() {
                return worker;
            }
        }
        None
    }

    fn deliver(&mut self, now: Instant, worker: WorkerId, tag: u64, deadline: Instant, delivery: u16, load: L) {
        self.counters.add(Counter::Delivered);
        self.actions.push_back(Action::Deliver { worker, tag, ttl: Ttl::until(deadline, now), delivery, load });
    }

    /// Gives a request that is held to a worker, which has been taken for it.
    pub(super) fn hand_over(&mut self, now: Instant, tag: u64, worker: WorkerId) {
        let Some(held) = self.requests.get_mut(tag) else { return };
        let deadline = held.deadline;
        let (load, delivery) = match &mut held.note {
            Some(note) => {
                let server = &mut self.servers[self.workers[worker].server];
                server.notes += 1;
                note.deliveries += 1;
                note.pool = Some(server.name.clone());
                (held.load.clone(), note.deliveries)
            }
            None => {
                if !held.is_copy {
                    self.held_bytes -= held.bytes;
                }
                (held.load.take(), 0)
            }
        };
        self.requests.set_state(tag, State::InFlight { worker });
        if let Some(load) = load {
            self.deliver(now, worker, tag, deadline, delivery, load);
        }
    }

    pub(super) fn reply(
        &mut self,
        now: Instant,
        worker: WorkerId,
        tag: u64,
        credit: u16,
        refused: Option<Reason>,
        load: L,
    ) {
        let held = self.requests.get(tag).filter(|held| match held.state {
            State::InFlight { worker: w } | State::Abandoned { worker: w } => w == worker,
            _ => false,
        });
        // An answer to nothing gives no credit either: it was given when the request was settled.
        let Some(held) = held else { return self.counters.add(Counter::LateAnswers) };
        if held.note.is_some() {
            return self.note_answered(now, worker, tag, credit, refused, load);
        }
        let held = self.requests.remove(tag).inspect(|held| self.held_bytes -= held.copied_bytes());
        if let Some(held) = held
            && let Some(to) = held.origin
        {
            self.counters.add(Counter::Answered);
            let more = self.more(held.group);
            self.actions.push_back(Action::Answer { to, load, more });
        } else {
            self.counters.add(Counter::LateAnswers);
        }
        self.settled(now, worker, credit);
    }

    /// Hands waiting requests to the ready workers of one server, oldest first.
    pub(super) fn serve(&mut self, now: Instant, number: usize) {
        while self.servers[number].has_ready() && !self.leaves_notes() {
            let Some((tag, queue)) = self.oldest_for(number) else { break };
            if self.requests.get(tag).is_some_and(|held| held.deadline <= now) {
                // It expired, and `expire` was not called yet.
                self.expire_request(now, tag);
                continue;
            }
            self.backlog(queue).pop();
            self.topics[queue.topic].waiting -= 1;
            let Some(worker) = self.servers[number].take_ready(&mut self.workers) else { break };
            self.hand_over(now, tag, worker);
        }
        let server = &mut self.servers[number];
        if server.has_ready() {
            for place in server.places.iter_mut().filter(|place| !place.in_ring) {
                place.in_ring = true;
                self.topics[place.topic].ring.push_back(number);
            }
        }
    }
}
