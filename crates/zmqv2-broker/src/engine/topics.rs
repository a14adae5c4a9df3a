//! Chooses a worker for a request, and a request for a free worker.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use slab::Slab;
use zmqv2_proto::{InvalidName, Reason, ReceiverKind, Refusal, ServerName, TopicKey, Ttl};

use super::pending::{Pending, Queue, Recipient, Sender, State};
use super::{Action, Arrival, Backlog, ClientId, Counter, Engine, Pattern, WorkerId};

/// A topic with servers that take work, or with waiting requests.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) key: TopicKey,
    pub(super) shared: Backlog,
    /// The server names; several runs of a server may share one.
    pub(super) named: Slab<Named>,
    pub(super) by_name: HashMap<ServerName, usize>,
    /// Servers that may have a ready worker. Requests go round robin over servers, not workers:
    /// three requests in a row reach three servers, however many workers each has.
    pub(super) ring: VecDeque<usize>,
    pub(super) runs: usize,
    /// The number of those that have one worker, and so keep the order of requests (promise P10).
    pub(super) ordered_runs: usize,
    /// While it has no server: the client whose request added it, if it is known.
    pub(super) unserved: Option<Option<ClientId>>,
    /// The number of requests that wait in all queues of this topic.
    pub(super) waiting: usize,
}

#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: ServerName,
    pub(super) backlog: Backlog,
    pub(super) runs: VecDeque<usize>,
}

impl Named {
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.backlog.len() == 0
    }
}

impl Topic {
    pub(super) fn new(key: TopicKey) -> Self {
        let (named, by_name, ring) = Default::default();
        let (runs, ordered_runs, waiting, unserved) = Default::default();
        Self { key, shared: Backlog::default(), named, by_name, ring, runs, ordered_runs, unserved, waiting }
    }

    /// The index of a server name, which is added if it is new.
    pub(super) fn server_index(&mut self, name: &ServerName) -> usize {
        let Self { named, by_name, .. } = self;
        *by_name.entry(name.clone()).or_insert_with_key(|name| {
            named.insert(Named { name: name.clone(), backlog: Backlog::default(), runs: VecDeque::new() })
        })
    }
}

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn request(&mut self, now: Instant, arrival: Arrival<'_>, from: O, payload: P) {
        self.counters.add(Counter::Requests);
        if self.draining {
            return self.refuse(Some(from), Reason::ShuttingDown, "the broker is stopping; the request did not run");
        }
        if arrival.deadline <= now {
            self.counters.add(Counter::Expired);
            return self.refuse(Some(from), Reason::Expired, "no time was left on arrival; the request did not run");
        }
        match arrival.pattern {
            Pattern::Fanout => self.fanout(now, arrival, from, payload),
            Pattern::Notify => self.notify(now, arrival, Some(from), payload),
            Pattern::One => self.request_one(now, arrival, from, payload),
        }
    }

    /// Delivers a request to one worker, or queues or refuses it.
    pub(super) fn request_one(&mut self, now: Instant, arrival: Arrival<'_>, from: O, payload: P) {
        match self.find_queue(arrival) {
            Ok(queue) => self.deliver_or_queue(now, arrival, from, payload, queue, None),
            Err(refusal) => self.refuse(Some(from), refusal.reason, refusal.detail),
        }
    }

    pub(super) fn deliver_or_queue(
        &mut self,
        now: Instant,
        arrival: Arrival<'_>,
        from: O,
        payload: P,
        queue: Queue,
        group: Option<usize>,
    ) {
        let Arrival { deadline, bytes, .. } = arrival;
        let mut request = Pending::new(Some(from), None, bytes, deadline, State::Queued(queue));
        (request.group, request.is_copy) = (group, group.is_some());
        request.monitored = arrival.monitored.then_some(arrival.id);
        let sender = arrival.client.filter(|_| arrival.pattern == Pattern::One);
        request.sender = sender.map(|client| Sender { client, id: arrival.id, is_call: arrival.is_call });
        // Delivered copies of fanouts count as well, so that they are bounded.
        let is_bounded = matches!(queue.recipient, Recipient::Run(_));
        let worker =
            if is_bounded && self.why_bytes_full(bytes).is_some() { None } else { self.take_worker(now, queue) };
        let tag = if let Some(worker) = worker {
            request.state = State::InFlight { worker };
            self.request_bytes += request.bytes_while_delivered();
            let tag = self.pending.insert(request);
            self.deliver(now, worker, tag, deadline, 0, payload);
            tag
        } else {
            if let Some(full) = self.why_topic_full(queue.topic, bytes) {
                let server = self.copy_for(queue);
                return self.refuse_pending(request, server, Reason::Busy, full);
            }
            self.request_bytes += bytes;
            request.payload = Some(payload);
            request.wait_for_ready = arrival.wait_for_ready;
            let tag = self.pending.insert(request);
            self.enqueue(tag, queue);
            tag
        };
        self.add_deadline(deadline, tag);
    }

    /// The queue of a request. If the request names a server, never the queue of another server.
    pub(super) fn find_queue(&mut self, arrival: Arrival<'_>) -> Result<Queue, Refusal> {
        let Arrival { key, server, client, wait_for_ready, .. } = arrival;
        if let Some(topic) = self.topic_of_servers(key) {
            let entry = &self.topics[topic];
            let found = match entry.by_name.get(server) {
                Some(named) => Some((Recipient::Server(*named), !entry.named[*named].runs.is_empty())),
                None => server.is_empty().then_some((Recipient::AnyServer, entry.runs > 0)),
            };
            if let Some((recipient, has_runs)) = found
                && (has_runs || wait_for_ready)
            {
                return Ok(Queue { topic, recipient });
            }
        }
        if wait_for_ready {
            return self.find_or_add_queue(key, server, client);
        }
        let at = if server.is_empty() { String::new() } else { format!(" named {server:?}") };
        Err(Refusal::new(Reason::NoRoute, format!("no server of {key:?}{at} is registered there")))
    }

    /// The queue of a request that may wait for its server. Adds the topic and the name.
    fn find_or_add_queue(&mut self, key: &str, server: &str, client: Option<ClientId>) -> Result<Queue, Refusal> {
        let malformed = |error: InvalidName| Refusal::new(Reason::Malformed, error.to_string());
        let key = TopicKey::parse(key).map_err(malformed)?;
        let server = Some(server).filter(|server| !server.is_empty()).map(ServerName::new).transpose();
        let server = server.map_err(malformed)?;
        match self.why_topics_full(&key, client) {
            Some(detail) => Err(Refusal::new(Reason::Busy, detail)),
            None => Ok(self.queue_for(&key, server.as_ref(), client)),
        }
    }

    /// The topic with this key, as it stands in a call, cast or fanout.
    pub(super) fn topic_of_servers(&self, key: &str) -> Option<usize> {
        let topic = *self.by_key.get(key)?;
        // A message may have the text of a listener's key.
        (self.topics[topic].key.receivers() == ReceiverKind::Server).then_some(topic)
    }

    /// Why no request can wait for this topic.
    pub(super) fn why_topics_full(&self, key: &TopicKey, client: Option<ClientId>) -> Option<String> {
        if self.by_key.contains_key(key) { None } else { self.unserved.why_full(client, &self.limits) }
    }

    /// The queue for a server or pool, or for any server of a topic. New names are added. A new
    /// topic counts for this client.
    pub(super) fn queue_for(&mut self, key: &TopicKey, server: Option<&ServerName>, client: Option<ClientId>) -> Queue {
        let topic = self.topic_index(key);
        self.count_unserved(topic, client);
        let named = server.map(|server| self.topics[topic].server_index(server));
        let queue = Queue { topic, recipient: named.map_or(Recipient::AnyServer, Recipient::Server) };
        self.changed_queues.push(queue);
        queue
    }

    /// The index of a topic, which is added if it is new.
    pub(super) fn topic_index(&mut self, key: &TopicKey) -> usize {
        let topics = &mut self.topics;
        *self.by_key.entry(key.clone()).or_insert_with_key(|key| topics.insert(Topic::new(key.clone())))
    }

    /// Counts a topic that has no server, or no longer counts one that has. Call this after each
    /// change. `client`: the one that adds the topic, if it is known.
    pub(super) fn count_unserved(&mut self, topic: usize, client: Option<ClientId>) {
        let Some(entry) = self.topics.get_mut(topic) else { return };
        match (entry.runs, entry.unserved) {
            (0, None) => {
                entry.unserved = Some(client);
                self.unserved.add(client);
            }
            (1.., Some(client)) => {
                entry.unserved = None;
                self.unserved.remove(client);
            }
            _ => {}
        }
    }

    /// The number of topics that nobody serves, in which requests wait.
    pub fn unserved_topics(&self) -> usize {
        self.unserved.total()
    }

    /// Why a topic cannot queue another request of `bytes`.
    fn why_topic_full(&self, topic: usize, bytes: usize) -> Option<String> {
        let (topic, limit) = (&self.topics[topic], self.limits.topic_backlog);
        if topic.waiting >= limit {
            return Some(format!("{limit} requests for {} wait already (rpc_zmq_topic_backlog)", topic.key));
        }
        self.why_bytes_full(bytes)
    }

    /// Why no more `bytes` of requests can be kept.
    fn why_bytes_full(&self, bytes: usize) -> Option<String> {
        let (held, limit) = (self.request_bytes, self.limits.backlog_bytes);
        (held + bytes > limit)
            .then(|| format!("{held} bytes are held already, {bytes} more are over {limit} (rpc_zmq_backlog_bytes)"))
    }

    /// A ready worker for a request of this queue.
    pub(super) fn take_worker(&mut self, now: Instant, queue: Queue) -> Option<WorkerId> {
        match queue.recipient {
            Recipient::AnyServer => self.take_worker_of_topic(now, queue.topic),
            Recipient::Server(named) => {
                let may_be_silent = self.are_all_silent(now, queue);
                let runs = &mut self.topics[queue.topic].named[named].runs;
                (0..runs.len()).find_map(|_| {
                    // The next request starts with the run after this one.
                    runs.rotate_left(1);
                    let server = &mut self.servers[*runs.back()?];
                    if may_be_silent || !server.is_silent(now) { server.take_ready(&mut self.workers) } else { None }
                })
            }
            Recipient::Run(run) => self.servers[run].take_ready(&mut self.workers),
        }
    }

    /// Whether all servers of a queue are silent. Then one of them gets the next request. Otherwise
    /// none of the silent ones does.
    fn are_all_silent(&self, now: Instant, queue: Queue) -> bool {
        let lives = |run: &usize| self.servers[*run].is_connected() && !self.servers[*run].is_silent(now);
        let topic = &self.topics[queue.topic];
        match queue.recipient {
            Recipient::AnyServer => !topic.named.iter().any(|(_, named)| named.runs.iter().any(lives)),
            Recipient::Server(named) => !topic.named[named].runs.iter().any(lives),
            Recipient::Run(_) => true,
        }
    }

    /// A ready worker of the next server in turn. Silent servers are left out, unless all are
    /// silent.
    fn take_worker_of_topic(&mut self, now: Instant, topic: usize) -> Option<WorkerId> {
        let next = self.topics[topic].ring.front();
        if next.is_some_and(|next| self.servers[*next].is_silent(now))
            && !self.are_all_silent(now, Queue { topic, recipient: Recipient::AnyServer })
        {
            let Self { topics, servers, .. } = self;
            let ring = &mut topics[topic].ring;
            let living = |number: &usize| servers[*number].has_ready() && !servers[*number].is_silent(now);
            ring.rotate_left(ring.iter().position(living)?);
        }
        let ring = &mut self.topics[topic].ring;
        while let Some(number) = ring.pop_front() {
            let server = &mut self.servers[number];
            let worker = server.take_ready(&mut self.workers);
            let again = server.has_ready();
            for membership in server.memberships.iter_mut().filter(|membership| membership.topic == topic) {
                membership.in_ring = again;
            }
            if again {
                ring.push_back(number);
            }
            if worker.is_some() {
                return worker;
            }
        }
        None
    }

    fn deliver(&mut self, now: Instant, worker: WorkerId, tag: u64, deadline: Instant, delivery: u16, payload: P) {
        self.counters.add(Counter::Delivered);
        self.actions.push_back(Action::Deliver { worker, tag, ttl: Ttl::until(deadline, now), delivery, payload });
    }

    /// Delivers a pending request to a worker that was taken for it.
    pub(super) fn deliver_pending(&mut self, now: Instant, tag: u64, worker: WorkerId) {
        let Some(request) = self.pending.get_mut(tag) else { return };
        let deadline = request.deadline;
        let (payload, delivery) = match &mut request.notification {
            Some(notification) => {
                let server = &mut self.servers[self.workers[worker].server];
                server.notifications += 1;
                notification.deliveries += 1;
                notification.pool = Some(server.name.clone());
                (request.payload.clone(), notification.deliveries)
            }
            None => {
                if !request.is_copy {
                    self.request_bytes -= request.bytes;
                }
                (request.payload.take(), 0)
            }
        };
        self.pending.set_state(tag, State::InFlight { worker });
        if let Some(payload) = payload {
            self.deliver(now, worker, tag, deadline, delivery, payload);
        }
    }

    pub(super) fn reply(
        &mut self,
        now: Instant,
        worker: WorkerId,
        tag: u64,
        credit: u16,
        refused: Option<Reason>,
        payload: P,
    ) {
        let request = self.pending.get(tag).filter(|request| match request.state {
            State::InFlight { worker: at } | State::Abandoned { worker: at } => at == worker,
            _ => false,
        });
        // The credit was returned when the request was settled.
        let Some(request) = request else { return self.counters.add(Counter::LateAnswers) };
        if request.notification.is_some() {
            return self.notification_answered(now, worker, tag, credit, refused, payload);
        }
        if refused == Some(Reason::NoMethod) {
            // Only servers refuse for this reason.
            self.counters.add(Counter::Refused(Reason::NoMethod));
        }
        // The sender of a cancelled request may have sent it to another node. What a handler that saw
        // the cancellation says must not count as the answer.
        if let Some(request) = self.remove_delivered(tag)
            && !request.cancelled
            && let Some(to) = request.origin
        {
            self.counters.add(Counter::Answered);
            let remaining = self.count_answer(request.group);
            self.actions.push_back(Action::Answer { to, payload, remaining });
        } else {
            self.counters.add(Counter::LateAnswers);
        }
        self.settled(now, worker, credit);
    }

    /// Hands waiting requests to the ready workers of one server, oldest first.
    pub(super) fn deliver_waiting(&mut self, now: Instant, number: usize) {
        while self.servers[number].has_ready() && !self.leaves_notifications_in_store() {
            let Some((tag, queue)) = self.oldest_for(number) else { break };
            if self.pending.get(tag).is_some_and(|request| request.deadline <= now) {
                // `expire` was not called in time.
                self.expire_request(now, tag);
                continue;
            }
            self.pop(queue);
            let Some(worker) = self.servers[number].take_ready(&mut self.workers) else { break };
            self.deliver_pending(now, tag, worker);
        }
        let server = &mut self.servers[number];
        if server.has_ready() {
            for membership in server.memberships.iter_mut().filter(|membership| !membership.in_ring) {
                membership.in_ring = true;
                self.topics[membership.topic].ring.push_back(number);
            }
        }
    }
}
