//! Requests that a worker hands back before it starts them. While its requests were quick, it took
//! more than it can run now. Such a request goes to the next free worker, or waits again in its old
//! place in the order.
//!
//! A server with one worker runs requests in the order in which they came (promise P10), and a
//! request that comes back late would break that order. So while a topic has such a server, all
//! windows in it are narrow. Requests delivered before that server registered go back only to the
//! server that had them.

use std::time::Instant;

use zmqv2_proto::{Reason, Refusal};

use super::pending::{Queue, Recipient, State};
use super::{Arrival, Counter, Engine, Pattern, WorkerId};

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn handed_back(&mut self, now: Instant, worker: WorkerId, tag: u64, arrival: Arrival<'_>, payload: P) {
        let is_started = |state| matches!(state, State::Acknowledged { .. });
        let may_return = |state: State| state.worker() == Some(worker) && !is_started(state);
        let Some(request) = self.pending.get(tag).filter(|request| may_return(request.state)) else {
            return self.counters.add(Counter::LateAnswers);
        };
        if request.notification.is_some() {
            // A listener never takes more than it can run. It hands back what it cannot take now.
            return self.notification_answered(now, worker, tag, 1, Some(Reason::Busy), payload);
        }
        self.counters.add(Counter::HandedBack);
        let server = self.workers[worker].server;
        let abandoned = matches!(request.state, State::Abandoned { .. });
        let (expired, is_copy, cancelled) = (request.deadline <= now, request.is_copy, request.cancelled);
        let before = self.take_back_delivery(worker);
        if abandoned {
            self.remove_delivered(tag);
        } else if cancelled {
            self.remove_delivered(tag);
            self.counters.add(Counter::Cancelled);
        } else {
            match self.queue_for_handed_back(server, arrival, expired, is_copy) {
                Ok(queue) => self.redeliver(now, tag, queue, arrival, payload),
                Err(Refusal { reason, detail, .. }) => {
                    let name = self.servers[server].name.clone();
                    self.refuse_delivered(tag, &name, reason, &detail);
                }
            }
        }
        self.credit_changed(now, worker, before);
        self.finish_withdrawal(server);
    }

    /// The queue of a request that `server` has handed back, or its refusal.
    fn queue_for_handed_back(
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
            // A fanout without copies has waited for the first server, and may do so again.
            if is_copy || own.is_ok() {
                return own;
            }
        }
        let queue = self.find_queue(arrival)?;
        if self.topics[queue.topic].ordered_runs > 0 { self.queue_of_run(server, arrival) } else { Ok(queue) }
    }

    /// The queue of a request that only this run of a server may take.
    fn queue_of_run(&self, number: usize, arrival: Arrival<'_>) -> Result<Queue, Refusal> {
        let server = &self.servers[number];
        let mut topics = server.memberships.iter().map(|membership| membership.topic);
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
        // No limit is checked: the request was accepted, and windows bound these.
        self.request_bytes += request.bytes;
        match self.take_worker(now, queue) {
            Some(worker) => self.deliver_pending(now, tag, worker),
            None => self.enqueue_in_order(tag, queue),
        }
    }

    /// Updates the windows of all servers of a topic, because the first server that keeps the order
    /// has registered, or the last one has left.
    pub(super) fn update_windows(&mut self, now: Instant, topic: usize) {
        let Some(entry) = self.topics.get(topic) else { return };
        let runs: Vec<usize> = entry.named.iter().flat_map(|(_, named)| &named.runs).copied().collect();
        for run in runs {
            self.update_window(now, run);
        }
    }

    /// Narrows the windows of a server while one of its topics has a server that keeps the order.
    pub(super) fn update_window(&mut self, now: Instant, run: usize) {
        let narrow =
            self.servers[run].memberships.iter().any(|membership| self.topics[membership.topic].ordered_runs > 0);
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
