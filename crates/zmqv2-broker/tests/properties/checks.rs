//! Checks every action when it comes, and the whole state after every event.

use std::collections::BTreeSet;

use zmqv2_broker::engine::{Action, Counter, Input, WorkerId};
use zmqv2_proto::control::StatusReport;
use zmqv2_proto::{InstanceId, Reason, Refusal, Ttl};

use super::{From, Is, KEYS, Model, NAMES, Worker};

fn run_of(instance: InstanceId) -> u32 {
    let [a, b, c, d, ..] = *instance.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn place_of(list: &[&str], text: &str) -> usize {
    list.iter().position(|item| *item == text).unwrap()
}

impl Model {
    pub(super) fn handle(&mut self, input: Input<'_, From, usize>) -> Vec<Action<From, usize>> {
        self.engine.handle(self.now, input);
        self.observe()
    }

    pub(super) fn observe(&mut self) -> Vec<Action<From, usize>> {
        let actions: Vec<_> = std::iter::from_fn(|| self.engine.poll_action()).collect();
        actions.iter().for_each(|action| self.check(action));
        self.check_state();
        actions
    }

    fn check(&mut self, action: &Action<From, usize>) {
        match action {
            Action::Deliver { worker, tag, ttl, delivery: 0, payload } => {
                self.check_delivery(*worker, *tag, *ttl, *payload);
            }
            // `reply` checks that the answer is expected.
            Action::Answer { to, payload, remaining: 0 } => assert_eq!(*to, From::Request(*payload)),
            Action::Refuse { to: From::Request(id), refusal, server: None, remaining: 0 } => {
                self.check_refusal(*id, refusal);
            }
            Action::Refuse { to: From::Request(id), refusal, server: Some(_), remaining: 0 } => {
                assert!(self.requests[*id].only.is_some(), "request {id} is refused for a server");
                self.check_refusal(*id, refusal);
            }
            Action::Refuse { to, refusal, server: None, remaining: 0 } => {
                let possible = match refusal.reason {
                    Reason::ShuttingDown => self.draining,
                    Reason::Busy => matches!(to, From::Register(run) if !self.is_up(*run)),
                    _ => false,
                };
                assert!(possible, "{to:?}: {refusal}");
            }
            Action::Connect { worker, instance, index, .. } => {
                let run = run_of(*instance);
                let of = &self.runs[&run];
                let wider = if of.is_shared() { of.wider } else { 0 };
                let added = Worker { run, up: false, window: of.credit, wider, wide: false, running: 0 };
                let links = self.links.entry(run).or_default();
                assert_eq!(links.len(), usize::from(*index));
                links.push(*worker);
                assert!(self.workers.insert(*worker, added).is_none(), "worker {worker} twice");
            }
            Action::Disconnect { worker } => {
                let run = self.workers.remove(worker).expect("disconnects a worker that is connected").run;
                if !self.workers.values().any(|worker| worker.run == run) {
                    self.runs.remove(&run);
                }
            }
            Action::Registered { to: From::Register(run) } => assert!(self.is_up(*run)),
            Action::Withdrawn { to, instance } => {
                let run = run_of(*instance);
                assert_eq!(*to, From::Withdraw(run));
                assert_eq!(self.held_by(run), [0; 0], "withdrawn with requests in flight");
            }
            Action::Announce { key, server } => {
                assert!(!self.draining, "a broker that stops announces nobody");
                let new = self.announced.insert((place_of(&KEYS, key.as_str()), place_of(&NAMES, server.as_str())));
                assert!(new, "{server} of {key} is announced twice");
            }
            Action::Unannounce { key, server } => {
                let place = (place_of(&KEYS, key.as_str()), place_of(&NAMES, server.as_str()));
                assert!(self.announced.remove(&place), "{server} of {key} was not announced");
            }
            Action::Cancel { worker, tag, id } => {
                let request = self.requests.iter().find(|request| request.at() == Some((*worker, *tag)));
                let request = request.expect("a worker is told of a request that it has");
                assert!(request.cancelled && super::message_id(request.number) == *id);
                let run = &self.runs[&self.workers[worker].run];
                assert!(run.is_shared() && run.name != 1, "this server does not understand it");
            }
            Action::Drained => {
                let in_flight = self.requests.iter().filter(|it| matches!(it.is, Is::At(..))).count();
                assert!(self.draining && in_flight == 0, "drained with {in_flight} in flight");
                assert!(!std::mem::replace(&mut self.drained, true), "drained twice");
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_delivery(&mut self, number: WorkerId, tag: u64, ttl: Ttl, id: usize) {
        let request = &self.requests[id];
        assert_eq!(request.is, Is::Waiting, "request {id} is delivered");
        assert!(self.now < request.deadline, "request {id} is delivered after its deadline");
        assert_eq!(ttl, Ttl::until(request.deadline, self.now));
        let worker = &self.workers[&number];
        assert!(self.could_take(number, request), "request {id} is not for worker {number}, or it has no credit");
        let widest = usize::from(worker.window + worker.wider);
        assert!(self.held_by_worker(number) < widest, "worker {number} is over its window");
        assert!(self.tags.insert(tag), "tag {tag} again");
        let older = self.requests[..id]
            .iter()
            .position(|it| it.is == Is::Waiting && it.deadline > self.now && self.could_take(number, it));
        assert_eq!(older, None, "request {id} overtakes an older one");
        let run = worker.run;
        // A request that was handed back may be older than the last one of this run. In a run that
        // keeps the order only its own may.
        let late = request.again && (!self.runs[&run].keeps_order() || request.only.is_some());
        self.requests[id].is = Is::At(number, tag);
        if late {
            return;
        }
        let last = self.runs.get_mut(&run).unwrap().last.replace(id);
        assert!(last < Some(id), "{last:?} and then {id}");
    }

    fn check_refusal(&mut self, id: usize, refusal: &Refusal) {
        let request = &self.requests[id];
        let possible = match (refusal.reason, request.is) {
            (Reason::Expired, Is::Waiting) => request.deadline <= self.now,
            (Reason::NoRoute, Is::Waiting) => (!request.patient || request.only.is_some()) && !self.is_served(request),
            (Reason::ShuttingDown, Is::Waiting) => self.draining,
            (Reason::Busy, Is::Waiting) => id + 1 == self.requests.len(),
            (Reason::ServerLost, Is::At(..)) => true,
            _ => false,
        };
        assert!(possible, "request {id} is {:?}, refused with {refusal}", request.is);
        self.requests[id].is = Is::Refused(refusal.reason);
    }

    fn check_state(&self) {
        for (index, key) in KEYS.iter().enumerate() {
            let waiting = self.waiting().filter(|request| request.key == index && !request.again).count();
            assert!(waiting <= self.limits.topic_backlog, "{waiting} requests wait for {key}");
        }
        let bytes: usize = self.waiting().filter(|request| !request.again).map(|request| request.bytes).sum();
        assert!(bytes <= self.limits.backlog_bytes, "{bytes} bytes wait");
        for request in self.waiting() {
            let patient = request.patient && request.only.is_none();
            assert!(patient || self.is_served(request), "waits for nobody");
            let idle = self.workers.keys().find(|number| self.could_take(**number, request));
            assert!(idle.is_none() || request.deadline <= self.now, "waits while worker {idle:?} could take it");
        }
        let takes_work = |(number, run): (&u32, &super::Run)| {
            (!run.withdrawing && self.is_up(*number)).then_some((run.key, run.name))
        };
        let expected: BTreeSet<_> = self.runs.iter().filter_map(takes_work).collect();
        let expected = if self.draining { BTreeSet::new() } else { expected };
        assert_eq!(self.announced, expected, "what is announced, and what is up");
        let idle = self.runs.iter().find(|(number, run)| run.withdrawing && self.held_by(**number).is_empty());
        assert!(idle.is_none(), "a server with nothing in flight still withdraws");
        let in_flight = self.requests.iter().any(|request| matches!(request.is, Is::At(..)));
        assert_eq!(self.drained, self.draining && !in_flight);
        self.check_report();
    }

    /// The status report agrees with the model.
    fn check_report(&self) {
        let report = self.report();
        let in_flight = self.requests.iter().filter(|request| matches!(request.is, Is::At(..))).count();
        assert_eq!((report.in_flight, self.engine.in_flight()), (in_flight as u64, in_flight));
        assert_eq!((report.queued, report.held_bytes), (self.waiting().count() as u64, self.waiting_bytes() as u64));
        assert_eq!(report.draining, self.draining);
        assert_eq!(report.topics.iter().map(|topic| topic.servers.len()).sum::<usize>(), self.runs.len());
        assert_eq!(self.engine.idle_queues(), 0, "a name without servers and requests is kept");
        let unserved: BTreeSet<_> = self.waiting().map(|request| request.key).collect();
        let served: BTreeSet<_> = self.runs.values().filter(|run| !run.withdrawing).map(|run| run.key).collect();
        assert_eq!(self.engine.unserved_topics(), unserved.difference(&served).count(), "topics without a server");
        let keys = report.topics.iter().map(|topic| place_of(&KEYS, &format!("{}/{}", topic.exchange, topic.topic)));
        let in_use = self.runs.values().map(|run| run.key).chain(self.waiting().map(|request| request.key));
        assert_eq!(keys.collect::<BTreeSet<_>>(), in_use.collect::<BTreeSet<_>>(), "topics, and those in use");
        for topic in report.topics {
            let key = place_of(&KEYS, &format!("{}/{}", topic.exchange, topic.topic));
            let count =
                |wanted: &dyn Fn(&super::Request) -> bool| self.waiting().filter(|it| wanted(it)).count() as u64;
            let waiting = |name| count(&|it| it.key == key && it.name == name && it.only.is_none());
            assert_eq!(topic.queued, waiting(None));
            for server in topic.servers {
                let run = run_of(server.instance);
                let name = place_of(&NAMES, server.server.as_str());
                let ours = |number: &WorkerId| self.workers[number].run == run;
                let shared = self.runs[&run].is_shared();
                let is_ready = |number: &WorkerId| {
                    let full = shared && self.workers[number].has(self.held_by_worker(*number)) >= 1;
                    ours(number) && self.credit_of(*number) > 0 && !full
                };
                let ready = self.workers.keys().filter(|number| is_ready(number)).count() as u64;
                let works = |number: &WorkerId| self.held_by_worker(*number) > 0 || self.workers[number].running > 0;
                let busy = |number: &WorkerId| ours(number) && works(number);
                let leaves = self.runs[&run].withdrawing;
                assert_eq!((self.runs[&run].key, self.runs[&run].name), (key, name));
                assert_eq!(server.workers_busy, self.workers.keys().filter(|number| busy(number)).count() as u64);
                assert_eq!((server.withdrawing, server.workers_ready), (leaves, if leaves { 0 } else { ready }));
                let only = count(&|it| it.only == Some(run));
                assert_eq!(server.queued, if leaves { 0 } else { waiting(Some(name)) } + only);
            }
        }
    }

    fn report(&self) -> StatusReport {
        let mut report = StatusReport::default();
        self.engine.report(&mut report);
        report
    }

    pub(crate) fn assert_drained(&self) {
        assert!(self.drained, "a broker with nothing in flight is drained");
    }

    /// Every request has an outcome, the counters agree, and no server is left.
    pub(crate) fn assert_nothing_is_held(&self) {
        let unsettled = self.requests.iter().position(|request| request.at().is_some() || request.is == Is::Waiting);
        assert_eq!(unsettled, None, "has no outcome");
        let report = self.report();
        assert!(report.topics.is_empty() && self.workers.is_empty() && self.runs.is_empty(), "{report:?}");
        assert_eq!((report.in_flight, report.queued, report.held_bytes), (0, 0, 0));
        let count = |counter| self.engine.counters().get(counter);
        let outcomes = |is: Is| self.requests.iter().filter(|request| request.is == is).count() as u64;
        assert_eq!(count(Counter::Requests), self.requests.len() as u64);
        assert_eq!(count(Counter::Delivered), self.tags.len() as u64 + self.handed_back);
        assert_eq!(count(Counter::HandedBack), self.handed_back);
        assert_eq!(count(Counter::Answered), outcomes(Is::Answered));
        assert_eq!(count(Counter::Cancelled), outcomes(Is::Cancelled));
        assert_eq!(count(Counter::Abandoned), outcomes(Is::Late));
        assert_eq!(count(Counter::Expired), outcomes(Is::Refused(Reason::Expired)));
        for counter in [Counter::Registered, Counter::Withdrawn, Counter::ServersLost, Counter::LateAnswers] {
            assert_eq!(count(counter), self.counters.get(counter), "{}", counter.name());
        }
        for reason in Reason::ALL {
            let servers = match reason {
                Reason::ShuttingDown => self.refused_servers,
                Reason::Busy => self.given_up,
                _ => 0,
            };
            assert_eq!(count(Counter::Refused(reason)), outcomes(Is::Refused(reason)) + servers, "{reason}");
        }
    }
}
