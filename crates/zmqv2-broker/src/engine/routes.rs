//! Which worker gets a request, and which request a worker gets.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use slab::Slab;
use zmqv2_proto::{InvalidName, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::requests::{Held, State};
use super::{Action, Arrival, Backlog, Counter, Engine, WorkerId};

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
        Self { key, shared: Backlog::default(), named, by_name, ring, runs: 0 }
    }

    /// The number of a server name, made if it is new.
    pub(super) fn server(&mut self, name: &ServerName) -> usize {
        let Self { named, by_name, .. } = self;
        *by_name.entry(name.clone()).or_insert_with_key(|name| named.insert(Named::new(name.clone())))
    }

    /// The queue for any server, or for one.
    pub(super) fn backlog(&mut self, server: Option<usize>) -> &mut Backlog {
        server.map_or(&mut self.shared, |server| &mut self.named[server].backlog)
    }

    /// Whether somebody is there to take a request for any server, or for one.
    fn has_runs(&self, server: Option<usize>) -> bool {
        server.map_or(self.runs > 0, |server| !self.named[server].runs.is_empty())
    }

    /// Requests that wait here.
    pub(super) fn queued(&self) -> usize {
        self.shared.len() + self.named.iter().map(|(_, named)| named.backlog.len()).sum::<usize>()
    }

    /// Counts a request out that expired; says whom it was for.
    pub(super) fn expired(&mut self, server: Option<usize>) -> String {
        self.backlog(server).expired();
        match server {
            Some(server) => format!("{} at {}", self.key, self.named[server].name),
            None => self.key.to_string(),
        }
    }
}

impl<O, L> Engine<O, L> {
    pub(super) fn request(&mut self, now: Instant, arrival: Arrival<'_>, from: O, load: L) {
        self.counters.add(Counter::Requests);
        if self.draining {
            return self.refuse(Some(from), Reason::ShuttingDown, "the broker is stopping; the request did not run");
        }
        if arrival.deadline <= now {
            self.counters.add(Counter::Expired);
            return self.refuse(Some(from), Reason::Expired, "no time was left on arrival; the request did not run");
        }
        let (topic, server) = match self.find(arrival) {
            Ok(place) => place,
            Err(refusal) => return self.refuse(Some(from), refusal.reason, refusal.detail),
        };
        let worker = match server {
            Some(server) => self.take_worker_of(topic, server),
            None => self.take_worker(topic),
        };
        let Arrival { deadline, bytes, wait_for_ready, .. } = arrival;
        let tag = if let Some(worker) = worker {
            let held = Held::new(from, None, bytes, deadline, State::InFlight { worker });
            let tag = self.requests.insert(held);
            self.deliver(now, worker, tag, deadline, load);
            tag
        } else {
            if let Some(full) = self.is_full(topic, bytes) {
                self.tidy(topic, server);
                return self.refuse(Some(from), Reason::Busy, full);
            }
            self.queued_bytes += bytes;
            let mut held = Held::new(from, Some(load), bytes, deadline, State::Queued { topic, server });
            held.wait_for_ready = wait_for_ready;
            let tag = self.requests.insert(held);
            let requests = &self.requests;
            self.topics[topic].backlog(server).push(tag, |tag| requests.contains(tag));
            tag
        };
        let requests = &self.requests;
        self.deadlines.push(deadline, tag, requests.len(), |tag| requests.contains(tag));
    }

    /// The topic, and the server in it if one is asked for. Never another server (RG02).
    fn find(&mut self, arrival: Arrival<'_>) -> Result<(usize, Option<usize>), Refusal> {
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
        let known = self.by_key.contains_key(&key);
        if !known && self.topics.iter().filter(|(_, topic)| topic.runs == 0).count() >= MOST_TOPICS_WITHOUT_SERVER {
            let detail = format!("requests wait for servers of {MOST_TOPICS_WITHOUT_SERVER} other topics already");
            return Err(Refusal::new(Reason::Busy, detail));
        }
        let topic = self.topic(&key);
        Ok((topic, server.map(|server| self.topics[topic].server(&server))))
    }

    /// The number of a topic, made if it is new.
    pub(super) fn topic(&mut self, key: &TopicKey) -> usize {
        let topics = &mut self.topics;
        *self.by_key.entry(key.clone()).or_insert_with_key(|key| topics.insert(Topic::new(key.clone())))
    }

    /// Why one more request of `bytes` cannot wait.
    fn is_full(&self, topic: usize, bytes: usize) -> Option<String> {
        let topic = &self.topics[topic];
        let limit = self.limits.topic_backlog;
        if topic.queued() >= limit {
            return Some(format!("{limit} requests for {} wait already (rpc_zmq_topic_backlog)", topic.key));
        }
        let limit = self.limits.backlog_bytes;
        if self.queued_bytes + bytes > limit {
            let held = self.queued_bytes;
            return Some(format!("{held} bytes wait already, {bytes} more are over {limit} (rpc_zmq_backlog_bytes)"));
        }
        None
    }

    /// A worker of the next server in turn that has one ready.
    fn take_worker(&mut self, topic: usize) -> Option<WorkerId> {
        let ring = &mut self.topics[topic].ring;
        while let Some(number) = ring.pop_front() {
            let server = &mut self.servers[number];
            let worker = server.take_ready(&mut self.workers);
            server.in_ring = server.has_ready();
            if server.in_ring {
                ring.push_back(number);
            }
            if worker.is_some() {
                return worker;
            }
        }
        None
    }

    /// A worker of the next run of one server that has one ready.
    fn take_worker_of(&mut self, topic: usize, server: usize) -> Option<WorkerId> {
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

    fn deliver(&mut self, now: Instant, worker: WorkerId, tag: u64, deadline: Instant, load: L) {
        self.counters.add(Counter::Delivered);
        self.actions.push_back(Action::Deliver { worker, tag, ttl: Ttl::until(deadline, now), load });
    }

    pub(super) fn reply(&mut self, now: Instant, worker: WorkerId, tag: u64, credit: u16, load: L) {
        let held = match self.requests.get(tag).map(|held| held.state) {
            Some(State::InFlight { worker: w } | State::Abandoned { worker: w }) if w == worker => {
                self.requests.remove(tag)
            }
            _ => None,
        };
        // An answer to nothing gives no credit either: it was given when the request was settled.
        let Some(held) = held else { return self.counters.add(Counter::LateAnswers) };
        if let Some(to) = held.origin {
            self.counters.add(Counter::Answered);
            self.actions.push_back(Action::Answer { to, load });
        } else {
            self.counters.add(Counter::LateAnswers);
        }
        self.settled(now, worker, credit);
    }

    /// Hands waiting requests to the ready workers of one server, oldest first.
    pub(super) fn serve(&mut self, now: Instant, number: usize) {
        let Some((topic, named)) = self.servers[number].place else { return };
        while self.servers[number].has_ready() {
            let requests = &self.requests;
            let live = |tag| requests.contains(tag);
            let place = &mut self.topics[topic];
            let order = |tag: Option<u64>| tag.and_then(|tag| requests.get(tag)).map(|held| held.order);
            let shared = order(place.shared.front(live));
            let own = order(place.named[named].backlog.front(live));
            let backlog = match (shared, own) {
                (None, None) => break,
                (Some(shared), Some(own)) if own < shared => &mut place.named[named].backlog,
                (None, Some(_)) => &mut place.named[named].backlog,
                _ => &mut place.shared,
            };
            let Some(tag) = backlog.front(live) else { break };
            if requests.get(tag).is_some_and(|held| held.deadline <= now) {
                // It expired, and `expire` was not called yet.
                self.expire_request(tag);
                continue;
            }
            backlog.pop();
            let Some(worker) = self.servers[number].take_ready(&mut self.workers) else { break };
            if let Some((load, deadline, bytes)) = self.requests.deliver(tag, worker) {
                self.queued_bytes -= bytes;
                self.deliver(now, worker, tag, deadline, load);
            }
        }
        let server = &mut self.servers[number];
        if server.has_ready() && !server.in_ring {
            server.in_ring = true;
            self.topics[topic].ring.push_back(number);
        }
    }

    /// Refuses everything in a list of tags taken out of a backlog.
    pub(super) fn refuse_queued(&mut self, tags: VecDeque<u64>, reason: Reason, detail: &str) {
        for tag in tags {
            if let Some(held) = self.requests.remove(tag) {
                self.queued_bytes -= held.bytes;
                self.refuse(held.origin, reason, detail);
            }
        }
    }
}
