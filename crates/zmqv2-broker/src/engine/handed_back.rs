//! HAND BACK: a worker has taken more requests than it can run, because they were quick until now. What it has not begun goes
//! to whoever is free first, or waits again in its old place in the order.
//!
//! A server with one worker runs requests in the order in which they came (promise P10), and what comes back late would break it.
//! So nobody's window is wide in a topic with such a server. What somebody had taken before that one came waits for whoever had it.

use std::time::Instant;

use zmqv2_proto::{Reason, Refusal};

use super::pending::{Queue, Recipient, State};
use super::{Arrival, Counter, Engine, Pattern, WorkerId};

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn handed_back(&mut self, now: Instant, worker: WorkerId, tag: u64, arrival: Arrival<'_>, payload: P) {
        let begun = |state| matches!(state, State::Acknowledged { .. });
        let its_own = |state: State| state.worker() == Some(worker) && !begun(state);
        let Some(request) = self.pending.get(tag).filter(|request| its_own(request.state)) else {
            return self.counters.add(Counter::LateAnswers);
        };
        if request.notification.is_some() {
            // No listener takes more than it can run: this one cannot take it now, and says so in this way.
            return self.notification_answered(now, worker, tag, 1, Some(Reason::Busy), payload);
        }
        self.counters.add(Counter::HandedBack);
        let server = self.workers[worker].server;
        let abandoned = matches!(request.state, State::Abandoned { .. });
        let (expired, is_copy) = (request.deadline <= now, request.is_copy);
        let before = self.take_back_delivery(worker);
        if abandoned {
            let request = self.pending.remove(tag);
            self.request_bytes -= request.map_or(0, |request| request.bytes_while_delivered());
        } else {
            match self.queue_for_returned(server, arrival, expired, is_copy) {
                Ok(queue) => self.redeliver(now, tag, queue, arrival, payload),
                Err(refusal) => self.refuse_returned(tag, server, refusal),
            }
        }
        self.credit_changed(now, worker, before);
        self.finish_withdrawal(server);
    }

    /// Where a request belongs that `server` has handed back, or why it is refused.
    fn queue_for_returned(
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
            let own = self.queue_of_run(server, arrival);
            // One that is no copy has waited for the first server that comes, and may do so again.
            if is_copy || own.is_ok() {
                return own;
            }
        }
        let (topic, named) = self.find_server(arrival)?;
        if self.topics[topic].ordered_runs > 0 {
            return self.queue_of_run(server, arrival);
        }
        Ok(Queue { topic, recipient: named.into() })
    }

    /// Where the copy of a fanout waits for the run of the server that it was made for, or another request for the one that had it.
    fn queue_of_run(&self, number: usize, arrival: Arrival<'_>) -> Result<Queue, Refusal> {
        let server = &self.servers[number];
        let mut topics = server.memberships.iter().map(|place| place.topic);
        let topic = topics.find(|topic| self.topics[*topic].key.as_str() == arrival.key);
        topic.map(|topic| Queue { topic, recipient: Recipient::Run(number) }).ok_or_else(|| {
            let detail = format!("server {} left before it took the request, which did not run", server.name);
            Refusal::new(Reason::NoRoute, detail)
        })
    }

    fn redeliver(&mut self, now: Instant, tag: u64, queue: Queue, arrival: Arrival<'_>, payload: P) {
        let Some(request) = self.pending.get_mut(tag) else { return };
        self.request_bytes -= request.bytes_while_delivered();
        (request.payload, request.bytes, request.wait_for_ready) =
            (Some(payload), arrival.bytes, arrival.wait_for_ready);
        // It was accepted before, and is not refused for want of room: a worker has no more of them than its window.
        self.request_bytes += request.bytes;
        let worker = match queue.recipient {
            Recipient::AnyServer => self.take_worker(queue.topic),
            Recipient::Server(named) => self.take_worker_of(queue.topic, named),
            Recipient::Run(run) => self.servers[run].take_ready(&mut self.workers),
        };
        match worker {
            Some(worker) => self.deliver_pending(now, tag, worker),
            None => self.enqueue_in_order(tag, queue),
        }
    }

    fn refuse_returned(&mut self, tag: u64, server: usize, refusal: Refusal) {
        let Some(request) = self.pending.remove(tag) else { return };
        self.request_bytes -= request.bytes_while_delivered();
        let server = request.group.is_some().then(|| self.servers[server].name.clone());
        self.refuse_pending(request, server, refusal.reason, refusal.detail);
    }

    /// The first server that keeps an order has come to this topic, or the last one has left: the windows of all its servers.
    pub(super) fn update_windows(&mut self, now: Instant, topic: usize) {
        let Some(place) = self.topics.get(topic) else { return };
        let runs: Vec<usize> = place.named.iter().flat_map(|(_, named)| &named.runs).copied().collect();
        for run in runs {
            self.update_window(now, run);
        }
    }

    /// A server takes no more than at first while one of its topics has a server that keeps an order.
    pub(super) fn update_window(&mut self, now: Instant, run: usize) {
        let narrow = self.servers[run].memberships.iter().any(|place| self.topics[place.topic].ordered_runs > 0);
        for number in self.servers[run].workers.clone() {
            let worker = &mut self.workers[number];
            let before = worker.credit();
            worker.narrowed = narrow;
            match (before, worker.credit()) {
                (1.., 0) => self.servers[run].ready.retain(|other| *other != number),
                (0, 1..) => self.credit_changed(now, number, before),
                _ => {}
            }
        }
    }
}
