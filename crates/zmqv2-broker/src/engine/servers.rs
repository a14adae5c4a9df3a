//! Servers and their workers: how they come, how credit returns, how they leave.

use std::collections::VecDeque;
use std::time::Instant;

use slab::Slab;
use zmqv2_proto::{InstanceId, Reason, ServerName, TopicKey};

use super::requests::State;
use super::routes::{Named, Topic};
use super::{Action, CONNECT_WITHIN, Counter, Engine, Offer, WorkerId};

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
    /// How many more requests it will take.
    credit: u16,
    /// The most it ever takes.
    window: u16,
    pub(super) outstanding: usize,
}

impl<O> Server<O> {
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self, workers: &mut Slab<Worker>) -> Option<WorkerId> {
        let number = self.ready.pop_front()?;
        let worker = &mut workers[number];
        worker.credit -= 1;
        worker.outstanding += 1;
        self.outstanding += 1;
        if worker.credit > 0 {
            self.ready.push_back(number);
        }
        Some(number)
    }

    pub(super) fn workers_ready(&self) -> usize {
        self.ready.len()
    }

    fn is_connected(&self) -> bool {
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
        let topics = &mut self.topics;
        let topic = *self.by_key.entry(key.clone()).or_insert_with_key(|key| topics.insert(Topic::new(key.clone())));
        let Topic { named, by_name, .. } = &mut self.topics[topic];
        let named = *by_name.entry(name.clone()).or_insert_with_key(|name| named.insert(Named::new(name.clone())));
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
        self.by_instance.insert(registration.instance, number);
        self.connecting.push_back((now + CONNECT_WITHIN, registration.instance));
        for index in 0..registration.workers.max(1) {
            let window = registration.credit.max(1);
            let worker =
                self.workers.insert(Worker { server: number, connected: false, credit: 0, window, outstanding: 0 });
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
        for worker in workers {
            self.give_credit(now, worker, self.workers[worker].window);
        }
    }

    /// A request that `worker` had is settled.
    pub(super) fn settled(&mut self, now: Instant, number: WorkerId, credit: u16) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.outstanding -= 1;
        let server = worker.server;
        self.servers[server].outstanding -= 1;
        self.give_credit(now, number, credit);
        self.check_withdrawn(server);
    }

    fn give_credit(&mut self, now: Instant, number: WorkerId, credit: u16) {
        let worker = &mut self.workers[number];
        let before = worker.credit;
        // A worker cannot talk itself into more than it registered.
        let room = usize::from(worker.window).saturating_sub(worker.outstanding);
        worker.credit = usize::from(worker.credit.saturating_add(credit)).min(room) as u16;
        let server = worker.server;
        if before == 0 && worker.credit > 0 && self.servers[server].place.is_some() {
            self.servers[server].ready.push_back(number);
        }
        self.serve(now, server);
    }

    pub(super) fn worker_down(&mut self, number: WorkerId) {
        let Some(server) = self.workers.get(number).map(|worker| worker.server) else { return };
        self.counters.add(Counter::ServersLost);
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
        if server.place.is_none()
            && let Some(to) = server.answer_to.take()
        {
            self.actions.push_back(Action::Withdrawn { to, instance: server.instance });
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
        if was_connected && !place.named[named].runs.iter().any(|run| servers[*run].is_connected()) {
            let (key, server) = (place.key.clone(), place.named[named].name.clone());
            self.actions.push_back(Action::Unannounce { key, server });
        }
        if place.named[named].runs.is_empty() {
            let gone = place.named.remove(named);
            place.by_name.remove(&gone.name);
            let detail =
                format!("server {} of {} left before it took the request, which did not run", gone.name, place.key);
            let mut backlog = gone.backlog;
            self.refuse_queued(backlog.take(), Reason::NoRoute, &detail);
        }
        if self.topics[topic].named.is_empty() {
            let mut gone = self.topics.remove(topic);
            self.by_key.remove(&gone.key);
            let detail = format!("the last server of {} left before it took the request, which did not run", gone.key);
            self.refuse_queued(gone.shared.take(), Reason::NoRoute, &detail);
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
