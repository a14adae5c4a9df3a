//! Servers and their workers: registration, credit and removal.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;
use zmqv2_proto::control::ServerRegistration;
use zmqv2_proto::{InstanceId, Reason, ReceiverKind, ServerName, TopicKey};

use super::pending::{Queue, Recipient};
use super::{Action, Backlog, CONNECT_TIMEOUT, Counter, Engine, Offer, Topic, WorkerId};

/// A server is silent when it is late by this many signs of life. One that lives may be late on a
/// busy machine.
const SIGNS_MISSED: u32 = 4;
/// The longest interval between signs of life that is believed.
const MAX_SIGN_INTERVAL: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Server<O> {
    pub(super) keys: Vec<TopicKey>,
    pub(super) name: ServerName,
    pub(super) instance: InstanceId,
    pub(super) pid: u32,
    /// It understands that a request is cancelled.
    pub(super) cancels: bool,
    /// The topics from which the server takes work. Empty once it withdraws.
    pub(super) memberships: Vec<Membership>,
    pub(super) workers: Vec<WorkerId>,
    /// The number of workers in its offer, and whether they share a socket. If they do, they
    /// are one [`Worker`] here.
    offered: (u16, bool),
    connected: usize,
    /// The workers with credit, each once.
    pub(super) ready: VecDeque<WorkerId>,
    /// Requests that wait only for this run, such as copies of fanouts.
    pub(super) backlog: Backlog,
    pub(super) outstanding: usize,
    /// Notifications that its workers have, including acknowledged ones.
    pub(super) notifications: usize,
    pub(super) last_sign: Instant,
    /// How often it gives a sign of life. Zero: not known.
    sign_interval: Duration,
    /// The sender of the registration, and later of the withdrawal, until the answer is sent.
    answer_to: Option<O>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Membership {
    pub(super) topic: usize,
    pub(super) named: usize,
    pub(super) in_ring: bool,
}

#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) server: usize,
    pub(super) connected: bool,
    /// The most requests that the worker takes at once.
    window: u16,
    /// The window while the worker's requests are quick.
    wide_window: u16,
    /// The worker has reported that its requests are quick.
    wide: bool,
    /// The wide window is disabled, because a server of its topic keeps the order of requests.
    pub(super) narrowed: bool,
    pub(super) outstanding: usize,
    /// Acknowledged requests that still run and occupy the window. Below zero if the report of a
    /// request's end comes before its acknowledgement, over another connection.
    running: isize,
}

impl Worker {
    pub(super) fn credit(&self) -> usize {
        let window = if self.wide && !self.narrowed { self.wide_window } else { self.window };
        usize::from(window).saturating_sub(self.occupied())
    }

    fn occupied(&self) -> usize {
        self.outstanding + self.running.max(0).cast_unsigned()
    }

    /// Adds credit, but never more than the number of requests that the worker was given. Returns
    /// the earlier credit, for [`credit_changed`](Engine::credit_changed).
    pub(super) fn return_credit(&mut self, credit: u16) -> usize {
        let before = self.credit();
        let floor = 0_isize.saturating_sub_unsigned(self.outstanding);
        self.running = self.running.saturating_sub_unsigned(usize::from(credit)).max(floor);
        before
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

    pub(super) fn takes_work(&self) -> bool {
        !self.memberships.is_empty()
    }

    pub(super) fn count_workers(&self, workers: &Slab<Worker>) -> (usize, usize) {
        let (count, shared) = self.offered;
        let has = |number: &WorkerId| workers.get(*number).map_or(0, Worker::occupied);
        let busy =
            |number: &WorkerId| if shared { has(number).min(count.into()) } else { usize::from(has(number) > 0) };
        let ready = |number: &WorkerId| if shared { usize::from(count).saturating_sub(has(number)) } else { 1 };
        (self.ready.iter().map(ready).sum(), self.workers.iter().map(busy).sum())
    }

    /// Whether the server runs requests in the order in which they came, because it has one worker.
    pub(super) fn keeps_order(&self) -> bool {
        self.offered == (1, false)
    }

    /// How long the server has given no sign of life, if that is longer than it should be.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let silence = now.saturating_duration_since(self.last_sign);
        let late = !self.sign_interval.is_zero() && silence >= self.sign_interval * SIGNS_MISSED;
        if late { silence } else { Duration::ZERO }
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        !self.silence(now).is_zero()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected == self.workers.len()
    }
}

/// The services that a registration for this topic offers. A server of an earlier version does not
/// say what it is, and is offered as both.
fn keys_of(key: &TopicKey, receiver: Option<ReceiverKind>) -> impl Iterator<Item = TopicKey> {
    let is = |kind| receiver.is_none_or(|receiver| receiver == kind);
    let servers = is(ReceiverKind::Server).then(|| key.for_servers());
    servers.into_iter().chain(is(ReceiverKind::Listener).then(|| key.for_listeners()))
}

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn register(&mut self, now: Instant, offer: Offer, from: O) {
        if self.draining {
            return self.refuse(Some(from), Reason::ShuttingDown, "the broker is stopping");
        }
        let Offer { key, server: name, registration } = offer;
        let ServerRegistration {
            instance, pid, workers, credit, window, shared, cancels, receiver, also, sign_ms, ..
        } = registration;
        let mut keys = Vec::new();
        for key in [key].iter().chain(&also).flat_map(|key| keys_of(key, receiver)) {
            // A topic may be named twice.
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let offered = (workers, shared);
        if let Some(number) = self.by_instance.get(&instance) {
            let server = &mut self.servers[*number];
            if (&server.keys, &server.name, server.offered) != (&keys, &name, offered) {
                let Server { name, keys, .. } = server;
                let detail =
                    format!("this run is registered as {name} of {}; a new offer needs a new id", keys[0].name());
                return self.refuse(Some(from), Reason::Malformed, detail);
            }
            server.last_sign = now;
            let number = *number;
            if server.takes_work() {
                if server.is_connected() {
                    self.actions.push_back(Action::Registered { to: from });
                } else {
                    server.answer_to = Some(from);
                }
            }
            return self.deliver_waiting(now, number);
        }
        let join = |key| {
            let topic = self.topic_index(key);
            Membership { topic, named: self.topics[topic].server_index(&name), in_ring: false }
        };
        let memberships: Vec<Membership> = keys.iter().map(join).collect();
        let number = self.servers.insert(Server {
            keys,
            name,
            instance,
            pid,
            // A worker with its own socket is in lock-step: a message that it has not asked for would
            // be its next request.
            cancels: cancels && shared,
            memberships: memberships.clone(),
            workers: Vec::new(),
            offered,
            connected: 0,
            ready: VecDeque::new(),
            backlog: Backlog::default(),
            outstanding: 0,
            notifications: 0,
            last_sign: now,
            sign_interval: Duration::from_millis(sign_ms.into()).min(MAX_SIGN_INTERVAL),
            answer_to: Some(from),
        });
        let keeps_order = self.servers[number].keeps_order();
        for Membership { topic, named, .. } in &memberships {
            let topic = &mut self.topics[*topic];
            topic.named[*named].runs.push_back(number);
            topic.runs += 1;
            topic.ordered_runs += usize::from(keeps_order);
        }
        for Membership { topic, .. } in &memberships {
            self.count_unserved(*topic, None);
        }
        self.by_instance.insert(instance, number);
        self.connecting.push_back((now + CONNECT_TIMEOUT, instance));
        let (workers, credit) = (workers.max(1), credit.max(1));
        let (sockets, own_window) = if shared { (1, workers.saturating_mul(credit)) } else { (workers, credit) };
        let wide_window = if shared { window.max(own_window) } else { own_window };
        for index in 0..sockets {
            let worker = Worker { server: number, window: own_window, wide_window, ..Worker::default() };
            let worker = self.workers.insert(worker);
            self.servers[number].workers.push(worker);
            self.actions.push_back(Action::Connect { worker, instance, index, shared });
        }
        self.update_window(now, number);
        for Membership { topic, .. } in memberships {
            if keeps_order && self.topics[topic].ordered_runs == 1 {
                self.update_windows(now, topic);
            }
        }
    }

    pub(super) fn worker_up(&mut self, now: Instant, number: WorkerId) {
        let Some(worker) = self.workers.get_mut(number).filter(|worker| !worker.connected) else { return };
        worker.connected = true;
        let server = &mut self.servers[worker.server];
        server.connected += 1;
        // A server gets no work before all workers are connected: it may still be given up.
        if !server.takes_work() || !server.is_connected() {
            return;
        }
        let (workers, memberships) = (server.workers.clone(), server.memberships.clone());
        let (number, to) = (worker.server, server.answer_to.take());
        self.counters.add(Counter::Registered);
        for Membership { topic, named, .. } in memberships {
            if self.connected_runs(topic, named) == 1 {
                let Topic { key, named: names, .. } = &self.topics[topic];
                let (key, server) = (key.clone(), names[named].name.clone());
                self.actions.push_back(Action::Announce { key, server });
            }
        }
        if let Some(to) = to {
            self.actions.push_back(Action::Registered { to });
        }
        self.servers[number].ready.extend(workers);
        self.deliver_waiting(now, number);
    }

    /// The number of connected runs of a server of a topic.
    pub(super) fn connected_runs(&self, topic: usize, named: usize) -> usize {
        self.topics[topic].named[named].runs.iter().filter(|run| self.servers[**run].is_connected()).count()
    }

    /// A worker has answered a request. With credit 0, the acknowledged cast still runs.
    pub(super) fn settled(&mut self, now: Instant, number: WorkerId, credit: u16) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let before = worker.credit();
        worker.outstanding -= 1;
        worker.running += 1;
        worker.return_credit(credit);
        let server = worker.server;
        self.servers[server].outstanding -= 1;
        self.credit_changed(now, number, before);
        self.finish_withdrawal(server);
    }

    /// A worker has finished acknowledged requests.
    pub(super) fn credit(&mut self, now: Instant, instance: InstanceId, index: usize, credit: u16) {
        let server = self.by_instance.get(&instance).map(|number| &self.servers[*number]);
        // The run may be gone.
        let Some(number) = server.and_then(|server| server.workers.get(index)).copied() else { return };
        self.note_sign(now, number);
        self.freed(now, number, credit, false);
    }

    /// A worker has sent a message, so its server lives.
    pub(super) fn note_sign(&mut self, now: Instant, worker: WorkerId) {
        if let Some(worker) = self.workers.get(worker) {
            self.servers[worker.server].last_sign = now;
        }
    }

    /// A worker has finished requests, and may be [`wide`](super::Input::Freed).
    pub(super) fn freed(&mut self, now: Instant, number: WorkerId, credit: u16, wide: bool) {
        if let Some(worker) = self.workers.get_mut(number) {
            let before = worker.return_credit(credit);
            worker.wide |= wide;
            self.credit_changed(now, number, before);
        }
    }

    /// A worker hands back a request that it has not started, so its window becomes narrow.
    /// Returns the earlier credit, for [`credit_changed`](Self::credit_changed).
    pub(super) fn take_back_delivery(&mut self, number: WorkerId) -> usize {
        let worker = &mut self.workers[number];
        let before = worker.credit();
        worker.wide = false;
        worker.outstanding -= 1;
        let (after, server) = (worker.credit(), worker.server);
        let server = &mut self.servers[server];
        server.outstanding -= 1;
        if before > 0 && after == 0 {
            server.ready.retain(|other| *other != number);
        }
        before
    }

    /// Delivers waiting requests to the server of a worker whose credit was `before`.
    pub(super) fn credit_changed(&mut self, now: Instant, number: WorkerId, before: usize) {
        let worker = &self.workers[number];
        let server = worker.server;
        if before == 0 && worker.credit() > 0 && self.servers[server].takes_work() {
            self.servers[server].ready.push_back(number);
        }
        self.deliver_waiting(now, server);
    }

    pub(super) fn worker_down(&mut self, now: Instant, number: WorkerId) {
        let Some(server) = self.workers.get(number).map(|worker| worker.server) else { return };
        if self.servers[server].is_connected() {
            self.counters.add(Counter::ServersLost);
        }
        self.remove_lost(now, server);
    }

    pub(super) fn give_up_connecting(&mut self, now: Instant, instance: InstanceId) {
        if let Some(number) = self.by_instance.get(&instance)
            && !self.servers[*number].is_connected()
        {
            self.remove_lost(now, *number);
        }
    }

    /// Removes a lost server. Its requests may have run, so their senders learn of the loss.
    fn remove_lost(&mut self, now: Instant, number: usize) {
        let workers = &self.workers;
        let ours = |worker: WorkerId| workers.get(worker).is_some_and(|worker| worker.server == number);
        let had = self.pending.tags_where(|request| request.state.worker().is_some_and(ours));
        let (notifications, had): (Vec<u64>, Vec<u64>) =
            had.into_iter().partition(|tag| self.pending.notification(*tag).is_some());
        let Server { keys, name, .. } = &self.servers[number];
        let of = if let [key] = &keys[..] { format!(" of {}", key.name()) } else { String::new() };
        let detail = format!("server {name}{of} was lost while it had the request, which may have run");
        let name = name.clone();
        for tag in had {
            self.refuse_delivered(tag, &name, Reason::ServerLost, &detail);
        }
        self.reclaim_notifications(now, notifications);
        let server = &mut self.servers[number];
        match (server.answer_to.take(), server.takes_work()) {
            (Some(to), false) => self.actions.push_back(Action::Withdrawn { to, instance: server.instance }),
            (Some(to), true) if self.draining => {
                self.refuse(Some(to), Reason::ShuttingDown, "the broker is stopping");
            }
            // The server was never connected. A living server registers again.
            (Some(to), true) => self.refuse(Some(to), Reason::Busy, "the broker cannot connect to its workers"),
            (None, _) => {}
        }
        let memberships = self.servers[number].memberships.clone();
        self.stop_taking_work(now, number);
        self.remove(number);
        // Other runs with its name get the requests that wait for this name.
        for Membership { topic, .. } in memberships {
            let named = self.topics.get(topic).and_then(|topic| topic.named.get(*topic.by_name.get(&name)?));
            let runs = named.map_or_else(Vec::new, |named| named.runs.iter().copied().collect());
            for run in runs {
                self.deliver_waiting(now, run);
            }
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, instance: InstanceId, from: O) {
        let Some(number) = self.by_instance.get(&instance).copied() else {
            return self.actions.push_back(Action::Withdrawn { to: from, instance });
        };
        if self.servers[number].takes_work() {
            self.counters.add(Counter::Withdrawn);
        }
        self.servers[number].answer_to = Some(from);
        self.stop_taking_work(now, number);
        self.finish_withdrawal(number);
    }

    /// Removes and answers a withdrawing server when none of its requests is in flight.
    pub(super) fn finish_withdrawal(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if !server.takes_work() && server.outstanding == 0 && server.notifications == 0 {
            let instance = server.instance;
            if let Some(to) = server.answer_to.take() {
                self.actions.push_back(Action::Withdrawn { to, instance });
            }
            self.remove(number);
        }
    }

    /// Takes a server out of its topics, and refuses the requests that wait only for this run.
    fn stop_taking_work(&mut self, now: Instant, number: usize) {
        let memberships = std::mem::take(&mut self.servers[number].memberships);
        let Some(first) = memberships.first() else { return };
        self.servers[number].ready.clear();
        let detail = format!("server {} left before it took the request, which did not run", self.servers[number].name);
        let queue = Queue { topic: first.topic, recipient: Recipient::Run(number) };
        self.refuse_all_but(queue, |_| false, Reason::NoRoute, &detail);
        let keeps_order = self.servers[number].keeps_order();
        for membership in &memberships {
            self.leave_topic(number, *membership);
        }
        for membership in memberships {
            if keeps_order && self.topics.get(membership.topic).is_some_and(|topic| topic.ordered_runs == 0) {
                self.update_windows(now, membership.topic);
            }
        }
    }

    fn leave_topic(&mut self, number: usize, Membership { topic, named, .. }: Membership) {
        let server = &self.servers[number];
        let entry = &mut self.topics[topic];
        entry.ring.retain(|other| *other != number);
        entry.named[named].runs.retain(|other| *other != number);
        entry.runs -= 1;
        entry.ordered_runs -= usize::from(server.keeps_order());
        let (key, name) = (entry.key.clone(), server.name.clone());
        let (no_namesake, no_server) = (entry.named[named].runs.is_empty(), entry.runs == 0);
        // A stopping broker has taken all servers out of the directory already.
        if server.is_connected() && !self.draining && self.connected_runs(topic, named) == 0 {
            self.actions.push_back(Action::Unannounce { key: key.clone(), server: name.clone() });
        }
        let queue = Queue { topic, recipient: Recipient::Server(named) };
        if no_namesake {
            let detail = format!("server {name} of {} left before it took the request, which did not run", key.name());
            self.refuse_all_but(queue, |request| request.wait_for_ready, Reason::NoRoute, &detail);
        }
        if no_server {
            let detail =
                format!("the last server of {} left before it took the request, which did not run", key.name());
            let queue = Queue { topic, recipient: Recipient::AnyServer };
            self.refuse_all_but(queue, |request| request.wait_for_ready, Reason::NoRoute, &detail);
        }
        self.changed_queues.push(queue);
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
