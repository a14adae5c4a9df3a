//! HAND BACK: a worker has taken more requests than it can run, because they were quick until now. What it has not begun goes
//! to whoever is free first, or waits again in its old place in the order.
//!
//! A server with one worker runs requests in the order in which they came (promise P10), and what comes back late would break it.
//! So nobody's window is wide in a topic with such a server. What somebody had taken before that one came waits for whoever had it.

use std::time::Instant;

use zmqv2_proto::{Reason, Refusal};

use super::pending::{At, Queue, State};
use super::{Arrival, Counter, Engine, Pattern, WorkerId};

impl<O: Clone, L: Clone> Engine<O, L> {
    pub(super) fn handed_back(&mut self, now: Instant, worker: WorkerId, tag: u64, arrival: Arrival<'_>, load: L) {
        let begun = |state| matches!(state, State::Running { .. });
        let its_own = |state: State| state.worker() == Some(worker) && !begun(state);
        let Some(held) = self.requests.get(tag).filter(|held| its_own(held.state)) else {
            return self.counters.add(Counter::LateAnswers);
        };
        if held.note.is_some() {
            // No listener takes more than it can run: this one cannot take it now, and says so in this way.
            return self.note_answered(now, worker, tag, 1, Some(Reason::Busy), load);
        }
        self.counters.add(Counter::HandedBack);
        let server = self.workers[worker].server;
        let abandoned = matches!(held.state, State::Abandoned { .. });
        let (expired, is_copy) = (held.deadline <= now, held.is_copy);
        let before = self.unburden(worker);
        if abandoned {
            let held = self.requests.remove(tag);
            self.held_bytes -= held.map_or(0, |held| held.copied_bytes());
        } else {
            match self.place_again(server, arrival, expired, is_copy) {
                Ok(queue) => self.give_again(now, tag, queue, arrival, load),
                Err(refusal) => self.refuse_again(tag, server, refusal),
            }
        }
        self.offer(now, worker, before);
        self.check_withdrawn(server);
    }

    /// Where a request belongs that `server` has handed back, or why it is refused.
    fn place_again(
        &mut self,
        server: usize,
        arrival: Arrival<'_>,
        expired: bool,
        is_copy: bool,
    ) -> Result<Queue, Refusal> {
        if self.draining {
            return Err(Refusal::new(Reason::ShuttingDown, "the broker is stopping; the request did not run"));
        }
        if expired {
            self.counters.add(Counter::Expired);
            return Err(Refusal::new(Reason::Expired, "no worker was free in time; the request did not run"));
        }
        if arrival.pattern == Pattern::Fanout {
            let own = self.place_of_copy(server, arrival);
            // One that is no copy has waited for the first server that comes, and may do so again.
            if is_copy || own.is_ok() {
                return own;
            }
        }
        let (topic, named) = self.find(arrival)?;
        if self.topics[topic].in_order > 0 {
            return self.place_of_copy(server, arrival);
        }
        Ok(Queue { topic, at: named.into() })
    }

    /// Where the copy of a fanout waits for the run of the server that it was made for, or another request for the one that had it.
    fn place_of_copy(&self, number: usize, arrival: Arrival<'_>) -> Result<Queue, Refusal> {
        let server = &self.servers[number];
        let mut topics = server.places.iter().map(|place| place.topic);
        let topic = topics.find(|topic| self.topics[*topic].key.as_str() == arrival.key);
        topic.map(|topic| Queue { topic, at: At::Run(number) }).ok_or_else(|| {
            let detail = format!("server {} left before it took the request, which did not run", server.name);
            Refusal::new(Reason::NoRoute, detail)
        })
    }

    fn give_again(&mut self, now: Instant, tag: u64, queue: Queue, arrival: Arrival<'_>, load: L) {
        let Some(held) = self.requests.get_mut(tag) else { return };
        self.held_bytes -= held.copied_bytes();
        (held.load, held.bytes, held.wait_for_ready) = (Some(load), arrival.bytes, arrival.wait_for_ready);
        // It was accepted before, and is not refused for want of room: a worker has no more of them than its window.
        self.held_bytes += held.bytes;
        let worker = match queue.at {
            At::Any => self.take_worker(queue.topic),
            At::Named(named) => self.take_worker_of(queue.topic, named),
            At::Run(run) => self.servers[run].take_ready(&mut self.workers),
        };
        match worker {
            Some(worker) => self.hand_over(now, tag, worker),
            None => self.enqueue_in_order(tag, queue),
        }
    }

    fn refuse_again(&mut self, tag: u64, server: usize, refusal: Refusal) {
        let Some(held) = self.requests.remove(tag) else { return };
        self.held_bytes -= held.copied_bytes();
        let server = held.group.is_some().then(|| self.servers[server].name.clone());
        self.refuse_held(held, server, refusal.reason, refusal.detail);
    }

    /// The first server that keeps an order has come to this topic, or the last one has left: the windows of all its servers.
    pub(super) fn check_windows(&mut self, now: Instant, topic: usize) {
        let Some(place) = self.topics.get(topic) else { return };
        let runs: Vec<usize> = place.named.iter().flat_map(|(_, named)| &named.runs).copied().collect();
        for run in runs {
            self.check_window(now, run);
        }
    }

    /// A server takes no more than at first while one of its topics has a server that keeps an order.
    pub(super) fn check_window(&mut self, now: Instant, run: usize) {
        let narrow = self.servers[run].places.iter().any(|place| self.topics[place.topic].in_order > 0);
        for number in self.servers[run].workers.clone() {
            let worker = &mut self.workers[number];
            let before = worker.credit();
            worker.kept_narrow = narrow;
            match (before, worker.credit()) {
                (1.., 0) => self.servers[run].ready.retain(|other| *other != number),
                (0, 1..) => self.offer(now, number, before),
                _ => {}
            }
        }
    }
}
