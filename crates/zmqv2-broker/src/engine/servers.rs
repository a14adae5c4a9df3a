//! Servers and their workers: how they come, how credit returns, how they leave.

use std::collections::VecDeque;
use std::time::Instant;

use slab::Slab;
use zmqv2_proto::{InstanceId, Reason, ServerName, TopicKey};

use super::requests::State;
use super::routes::Named;
use super::{Action, Backlog, CONNECT_WITHIN, Counter, Engine, Offer, WorkerId};

/// One run of a server.
#[derive(Debug)]
pub(super) struct Server<O> {
    pub(super) key: TopicKey,
    pub(super) name: ServerName,
    pub(super) instance: InstanceId,
    pub(super) pid: u32,
    /// Its topic and its name's number there; `None` once it withdraws.
    pub(super) place: Option<(usize, usize)>,
    pub(super) workers: Vec<WorkerId>,
    connected: usize,
    /// Workers with credit, each once.
    ready: VecDeque<WorkerId>,
    /// Whether it stands in its topic's ring.
    pub(super) in_ring: bool,
    /// Requests that its workers have.
    pub(super) outstanding: usize,
    /// Who waits for an answer: to the registration, then to the withdrawal.
    answer_to: Option<O>,
}

/// One worker of a server.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) server: usize,
    pub(super) connected: bool,
    /// The most requests it ever has: its credit when it has none.
    window: u16,
    /// Requests that it has and that are not settled.
    pub(super) outstanding: usize,
    /// Requests that are settled and still take a place: acknowledged casts that run. Below zero while the word that
    /// one has ended is here and its acknowledgement, over another connection, is not.
    running: isize,
}

impl Worker {
    fn new(server: usize, window: u16) -> Self {
        Self { server, connected: false, window, outstanding: 0, running: 0 }
    }

    /// How many more requests it will take.
    fn credit(&self) -> usize {
        usize::from(self.window).saturating_sub(self.outstanding + self.running.max(0).cast_unsigned())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.outstanding > 0 || self.running > 0
    }

    /// It gives places back; never more than it was given requests, whatever it says.
    fn give_back(&mut self, credit: u16) {
        let floor = 0_isize.saturating_sub_unsigned(self.outstanding);
        self.running = self.running.saturating_sub_unsigned(usize::from(credit)).max(floor);
    }
}

impl<O> Server<O> {
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self, workers: &mut Slab<Worker>) -> Option<WorkerId> {
        let number = self.ready.pop_front()?;
        let worker = &mut workers[number];
        worker.outstanding += 1;
        self.outstanding += 1;
        if worker.credit() > 0 {
            self.ready.push_back(number);
        }
        Some(number)
    }

    pub(super) fn workers_ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected == self.workers.len()
    }
}

impl<O, L> Engine<O, L> {
    pub(super) fn register(&mut self, now: Instant, offer: Offer, from: O) {
        if self.draining {
            return self.refuse(Some(from), Reason::ShuttingDown, "the broker is stopping");
        }
        let Offer { key, server: name, registration } = offer;
        if let Some(number) = self.by_instance.get(&registration.instance) {
            let server = &mut self.servers[*number];
            if server.key != key || server.name != name || server.workers.len() != usize::from(registration.workers) {
                let detail =
                    format!("this run is registered as {} of {}; a new offer needs a new id", server.name, server.key);
                return self.refuse(Some(from), Reason::Malformed, detail);
            }
            if server.place.is_some() {
                if server.is_connected() {
                    self.actions.push_back(Action::Registered { to: from });
                } else {
                    server.answer_to = Some(from);
                }
            }
            return;
        }
        let topic = self.topic(&key);
        let named = self.topics[topic].server(&name);
        let number = self.servers.insert(Server {
            key,
            name,
            instance: registration.instance,
            pid: registration.pid,
            place: Some((topic, named)),
            workers: Vec::new(),
            connected: 0,
            ready: VecDeque::new(),
            in_ring: false,
            outstanding: 0,
            answer_to: Some(from),
        });
        self.topics[topic].named[named].runs.push_back(number);
        self.topics[topic].runs += 1;
        self.by_instance.insert(registration.instance, number);
        self.connecting.push_back((now + CONNECT_WITHIN, registration.instance));
        for index in 0..registration.workers.max(1) {
            let window = registration.credit.max(1);
            let worker = self.workers.insert(Worker::new(number, window));
            self.servers[number].workers.push(worker);
            self.actions.push_back(Action::Connect { worker, instance: registration.instance, index });
        }
    }

    pub(super) fn worker_up(&mut self, now: Instant, number: WorkerId) {
        let Some(worker) = self.workers.get_mut(number).filter(|worker| !worker.connected) else { return };
        worker.connected = true;
        let server = &mut self.servers[worker.server];
        server.connected += 1;
        // No work before all are connected: a server that is given up for want of one has nothing to lose.
        let Some((topic, named)) = server.place.filter(|_| server.is_connected()) else { return };
        let workers = server.workers.clone();
        let (key, name, to) = (server.key.clone(), server.name.clone(), server.answer_to.take());
        self.counters.add(Counter::Registered);
        let runs = &self.topics[topic].named[named].runs;
        if runs.iter().filter(|run| self.servers[**run].is_connected()).count() == 1 {
            self.actions.push_back(Action::Announce { key, server: name });
        }
        if let Some(to) = to {
            self.actions.push_back(Action::Registered { to });
        }
        let server = self.workers[number].server;
        self.servers[server].ready.extend(workers);
        self.serve(now, server);
    }

    /// A request that a worker had is settled. With a credit of 0 it still takes its place: an acknowledged cast runs.
    pub(super) fn settled(&mut self, now: Instant, number: WorkerId, credit: u16) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let before = worker.credit();
        worker.outstanding -= 1;
        worker.running += 1;
        worker.give_back(credit);
        let server = worker.server;
        self.servers[server].outstanding -= 1;
        self.offer(now, number, before);
        self.check_withdrawn(server);
    }

    /// A worker has ended what it had acknowledged before.
    pub(super) fn credit(&mut self, now: Instant, instance: InstanceId, index: usize, credit: u16) {
        let server = self.by_instance.get(&instance).map(|number| &self.servers[*number]);
        // From a run that is gone: nothing to give back to.
        let Some(number) = server.and_then(|server| server.workers.get(index)).copied() else { return };
        let worker = &mut self.workers[number];
        let before = worker.credit();
        worker.give_back(credit);
        self.offer(now, number, before);
    }

    /// A worker may have more credit than the `before`: hands it what waits.
    fn offer(&mut self, now: Instant, number: WorkerId, before: usize) {
        let worker = &self.workers[number];
        let server = worker.server;
        if before == 0 && worker.credit() > 0 && self.servers[server].place.is_some() {
            self.servers[server].ready.push_back(number);
        }
        self.serve(now, server);
    }

    pub(super) fn worker_down(&mut self, number: WorkerId) {
        let Some(server) = self.workers.get(number).map(|worker| worker.server) else { return };
        if self.servers[server].is_connected() {
            self.counters.add(Counter::ServersLost);
        }
        self.lose(server);
    }

    /// Forgets every server that is not connected yet.
    pub(super) fn refuse_connecting(&mut self) {
        for (_, instance) in std::mem::take(&mut self.connecting) {
            let server = self.by_instance.get(&instance).map(|number| &mut self.servers[*number]);
            if let Some(to) = server.filter(|server| !server.is_connected()).and_then(|server| server.answer_to.take())
            {
                self.refuse(Some(to), Reason::ShuttingDown, "the broker is stopping");
            }
            self.give_up_connecting(instance);
        }
    }

    pub(super) fn give_up_connecting(&mut self, instance: InstanceId) {
        if let Some(number) = self.by_instance.get(&instance)
            && !self.servers[*number].is_connected()
        {
            self.lose(*number);
        }
    }

    /// A server is gone, with whatever it had.
    fn lose(&mut self, number: usize) {
        let workers = &self.workers;
        let ours = |worker: WorkerId| workers.get(worker).is_some_and(|worker| worker.server == number);
        let had = self.requests.tags_where(|held| match held.state {
            State::InFlight { worker } | State::Abandoned { worker } => ours(worker),
            State::Queued { .. } => false,
        });
        let Server { key, name, .. } = &self.servers[number];
        let detail = format!("server {name} of {key} was lost while it had the request, which may have run");
        for tag in had {
            if let Some(origin) = self.requests.remove(tag).and_then(|held| held.origin) {
                self.refuse(Some(origin), Reason::ServerLost, detail.as_str());
            }
        }
        let server = &mut self.servers[number];
        match (server.answer_to.take(), server.place) {
            (Some(to), None) => self.actions.push_back(Action::Withdrawn { to, instance: server.instance }),
            // Never connected: a living one offers itself again.
            (Some(to), Some(_)) => self.refuse(Some(to), Reason::Busy, "the broker cannot connect to its workers"),
            (None, _) => {}
        }
        self.leave(number);
        self.remove(number);
    }

    pub(super) fn withdraw(&mut self, instance: InstanceId, from: O) {
        let Some(number) = self.by_instance.get(&instance).copied() else {
            return self.actions.push_back(Action::Withdrawn { to: from, instance });
        };
        if self.servers[number].place.is_some() {
            self.counters.add(Counter::Withdrawn);
        }
        self.servers[number].answer_to = Some(from);
        self.leave(number);
        self.check_withdrawn(number);
    }

    /// Whether a withdrawing server has nothing in flight any more: then it is told so and forgotten.
    fn check_withdrawn(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if server.place.is_none() && server.outstanding == 0 {
            let instance = server.instance;
            if let Some(to) = server.answer_to.take() {
                self.actions.push_back(Action::Withdrawn { to, instance });
            }
            self.remove(number);
        }
    }

    /// Takes a server out of its topic: it gets no new work. What only it could have run is refused.
    fn leave(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let Some((topic, named)) = server.place.take() else { return };
        server.ready.clear();
        let was_connected = server.is_connected();
        let place = &mut self.topics[topic];
        place.ring.retain(|other| *other != number);
        place.named[named].runs.retain(|other| *other != number);
        let servers = &self.servers;
        // A broker that stops has taken all of them out already.
        let announced = was_connected && !self.draining;
        if announced && !place.named[named].runs.iter().any(|run| servers[*run].is_connected()) {
            let (key, server) = (place.key.clone(), place.named[named].name.clone());
            self.actions.push_back(Action::Unannounce { key, server });
        }
        place.runs -= 1;
        if place.named[named].runs.is_empty() {
            let Named { name, backlog, .. } = &mut place.named[named];
            let detail = format!("server {name} of {} left before it took the request, which did not run", place.key);
            let waiting = backlog.take();
            self.refuse_impatient(topic, Some(named), waiting, &detail);
        }
        let place = &mut self.topics[topic];
        if place.runs == 0 {
            let detail = format!("the last server of {} left before it took the request, which did not run", place.key);
            let waiting = place.shared.take();
            self.refuse_impatient(topic, None, waiting, &detail);
        }
        self.tidy(topic, Some(named));
    }

    /// Refuses those of a backlog that do not wait for a server to come; the others go back.
    fn refuse_impatient(&mut self, topic: usize, server: Option<usize>, tags: VecDeque<u64>, detail: &str) {
        let requests = &self.requests;
        let waits = |tag: &u64| requests.get(*tag).is_some_and(|held| held.wait_for_ready);
        let (patient, impatient): (VecDeque<u64>, VecDeque<u64>) = tags.into_iter().partition(waits);
        *self.topics[topic].backlog(server) = Backlog::from(patient);
        self.refuse_queued(impatient, Reason::NoRoute, detail);
    }

    /// Forgets a name without runs and requests, and a topic without names and requests.
    pub(super) fn tidy(&mut self, topic: usize, named: Option<usize>) {
        let place = &mut self.topics[topic];
        if let Some(named) = named.filter(|named| place.named[*named].is_idle()) {
            let gone = place.named.remove(named);
            place.by_name.remove(&gone.name);
        }
        if place.named.is_empty() && place.shared.len() == 0 {
            let gone = self.topics.remove(topic);
            self.by_key.remove(&gone.key);
        }
    }

    fn remove(&mut self, number: usize) {
        let server = self.servers.remove(number);
        self.by_instance.remove(&server.instance);
        self.connecting.retain(|(_, instance)| *instance != server.instance);
        for worker in server.workers {
            self.workers.remove(worker);
            self.actions.push_back(Action::Disconnect { worker });
        }
    }
}
