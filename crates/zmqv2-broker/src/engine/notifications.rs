//! NOTIFY: every pool gets a copy, which is kept until a listener of the pool has handled it.
//!
//! A notification leaves the engine only when it is handled, given up or refused. If its listener
//! dies or requeues it, the next one gets it. With a durable store it is written first, and then
//! delivered.

use std::time::{Duration, Instant};

use zmqv2_proto::{InvalidName, MessageId, Reason, Refusal, ServerName, TopicKey, Ttl, deadline};

use super::pending::{Pending, Queue, State};
use super::{Action, Arrival, ClientId, Counter, Engine, WorkerId};

/// The delay of a requeued notification before its second delivery. It doubles each time.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The part of a pending request that only notifications have.
#[derive(Debug)]
pub(super) struct Notification {
    id: MessageId,
    key: TopicKey,
    /// Its sender, if it is known.
    client: Option<ClientId>,
    /// The pool that gets this copy. `None`: the first pool that comes.
    pub(super) pool: Option<ServerName>,
    pub(super) deliveries: u16,
    number: Option<u64>,
    /// The listener's report came before its acknowledgement, over another connection. The value
    /// says whether the listener requeued the notification.
    handled_early: Option<bool>,
}

/// The key of the listeners of this topic.
fn parse(key: &str) -> Result<TopicKey, InvalidName> {
    TopicKey::parse(key).map(|key| key.for_listeners())
}

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn notify(&mut self, now: Instant, arrival: Arrival<'_>, from: Option<O>, payload: P) {
        let key = match parse(arrival.key) {
            Ok(key) => key,
            Err(error) => return self.refuse(from, Reason::Malformed, error.to_string()),
        };
        let pools = match arrival.server {
            "" => self.pools_of(&key),
            pool => match ServerName::new(pool) {
                Ok(pool) => vec![Some(pool)],
                Err(error) => return self.refuse(from, Reason::Malformed, error.to_string()),
            },
        };
        // Without a sender there are no answers to count.
        let group = (pools.len() > 1 && from.is_some()).then(|| self.groups.insert(pools.len()));
        for pool in pools {
            let full = self.why_not_accepted(&key, arrival.bytes, arrival.client);
            let (id, key) = (arrival.id, key.clone());
            let (client, deliveries, number, handled_early) = (arrival.client, 0, None, None);
            let notification = Notification { id, key, client, pool, deliveries, number, handled_early };
            let tag = self.insert_notification(arrival, notification, group, from.clone(), payload.clone());
            if let Some(full) = full {
                self.reject_notification(tag, Refusal::new(Reason::Busy, full));
            } else if self.limits.durable {
                self.store_notification(now, tag);
            } else {
                self.deliver_or_queue_notification(now, tag);
                if arrival.answer_stored {
                    self.confirm_stored(tag);
                }
            }
        }
    }

    /// Every pool that has listeners now. `[None]` if there is none.
    fn pools_of(&self, key: &TopicKey) -> Vec<Option<ServerName>> {
        let topic = self.by_key.get(key).map(|topic| &self.topics[*topic]);
        let named = topic.into_iter().flat_map(|topic| &topic.named).filter(|(_, named)| !named.runs.is_empty());
        let pools: Vec<_> = named.map(|(_, named)| Some(named.name.clone())).collect();
        if pools.is_empty() { vec![None] } else { pools }
    }

    fn insert_notification(
        &mut self,
        arrival: Arrival<'_>,
        notification: Notification,
        group: Option<usize>,
        from: Option<O>,
        payload: P,
    ) -> u64 {
        let Arrival { bytes, deadline, .. } = arrival;
        self.notification_bytes += bytes;
        *self.notification_copies.entry(notification.id).or_default() += 1;
        let mut request = Pending::new(from, Some(payload), bytes, deadline, State::Storing);
        (request.group, request.wait_for_ready, request.notification) = (group, true, Some(Box::new(notification)));
        let tag = self.pending.insert(request);
        self.add_deadline(deadline, tag);
        tag
    }

    fn store_notification(&mut self, now: Instant, tag: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let Some(request) = self.pending.get_mut(tag) else { return };
        let ttl = Ttl::until(request.deadline, now);
        if let (Some(notification), Some(payload)) = (&mut request.notification, request.payload.clone()) {
            notification.number = Some(number);
            let pool = notification.pool.clone();
            self.actions.push_back(Action::Store { tag, number, pool, ttl, payload });
        }
    }

    pub(super) fn stored(&mut self, now: Instant, tag: u64, result: Result<(), String>) {
        let Some(request) = self.pending.get_mut(tag).filter(|request| request.state == State::Storing) else { return };
        match result {
            Ok(()) => {
                self.confirm_stored(tag);
                self.deliver_or_queue_notification(now, tag);
            }
            Err(error) => {
                if let Some(notification) = &mut request.notification {
                    notification.number = None;
                }
                let detail = format!("the store (rpc_zmq_notification_store) did not take it: {error}");
                self.reject_notification(tag, Refusal::new(Reason::Busy, detail));
            }
        }
    }

    /// Takes over a notification that an earlier run of the broker has stored.
    pub(super) fn restore(&mut self, now: Instant, number: u64, arrival: Arrival<'_>, payload: P) {
        self.next_number = self.next_number.max(number + 1);
        let Ok(key) = parse(arrival.key) else { return self.actions.push_back(Action::Erase { number }) };
        let pool = ServerName::new(arrival.server).ok();
        let notification = Notification {
            id: arrival.id,
            key,
            client: None,
            pool,
            deliveries: 0,
            number: Some(number),
            handled_early: None,
        };
        let tag = self.insert_notification(arrival, notification, None, None, payload);
        self.deliver_or_queue_notification(now, tag);
    }

    /// Delivers a notification to a listener, or appends it to its queue.
    fn deliver_or_queue_notification(&mut self, now: Instant, tag: u64) {
        if self.pending.get(tag).is_some_and(|request| request.deadline <= now) {
            return self.expire_notification(tag);
        }
        let Some(queue) = self.queue_of_notification(tag) else { return };
        let worker = if self.leaves_notifications_in_store() { None } else { self.take_worker(now, queue) };
        if let Some(worker) = worker {
            return self.deliver_pending(now, tag, worker);
        }
        self.enqueue(tag, queue);
        self.confirm_stored(tag);
    }

    fn queue_of_notification(&mut self, tag: u64) -> Option<Queue> {
        let notification = self.pending.notification(tag)?;
        let (key, pool, client) = (notification.key.clone(), notification.pool.clone(), notification.client);
        Some(self.queue_for(&key, pool.as_ref(), client))
    }

    /// Why a notification cannot be kept. This is checked before the confirmation.
    fn why_not_accepted(&self, key: &TopicKey, bytes: usize, client: Option<ClientId>) -> Option<String> {
        let (waiting, limit) =
            (self.by_key.get(key).map_or(0, |topic| self.topics[*topic].waiting), self.limits.topic_backlog);
        if waiting >= limit {
            return Some(format!("{limit} messages for {} wait already (rpc_zmq_topic_backlog)", key.name()));
        }
        let (kept, limit) = (self.notification_bytes, self.limits.backlog_bytes);
        if kept + bytes > limit {
            return Some(format!(
                "{kept} bytes of notifications are kept already, {bytes} more are over {limit} (rpc_zmq_backlog_bytes)"
            ));
        }
        self.why_topics_full(key, client)
    }

    /// Takes out the sender of a notification, if it still waits for an answer. Also returns the
    /// number of answers after this one.
    fn take_sender(&mut self, tag: u64) -> Option<(O, u16)> {
        let request = self.pending.get_mut(tag)?;
        let (to, group) = (request.origin.take()?, request.group.take());
        Some((to, self.count_answer(group)))
    }

    fn confirm_stored(&mut self, tag: u64) {
        let Some((to, remaining)) = self.take_sender(tag) else { return };
        let pool = self.pending.notification(tag).and_then(|notification| notification.pool.clone());
        self.counters.add(Counter::Stored);
        self.actions.push_back(Action::ConfirmStored { to, pool, remaining });
    }

    pub(super) fn notification_answered(
        &mut self,
        now: Instant,
        worker: WorkerId,
        tag: u64,
        credit: u16,
        refused: Option<Reason>,
        payload: P,
    ) {
        let Some(request) = self.pending.get_mut(tag) else { return };
        let handled_early = request.notification.as_mut().and_then(|notification| notification.handled_early.take());
        let server = self.workers[worker].server;
        match refused {
            None => {
                self.forward_answer(tag, payload);
                self.pending.set_state(tag, State::Acknowledged { worker });
                if let Some(again) = handled_early {
                    self.listener_finished(now, server, tag, again);
                }
            }
            Some(reason) => {
                self.servers[server].notifications -= 1;
                let sender_waits = request.origin.is_some();
                match reason {
                    reason if reason.another_node_may_take_it() => self.delay_redelivery(now, tag),
                    Reason::Expired => {
                        self.forward_answer(tag, payload);
                        self.expire_notification(tag);
                    }
                    // Another listener would refuse it as well.
                    reason if sender_waits => {
                        self.forward_answer(tag, payload);
                        self.counters.add(Counter::Refused(reason));
                        self.complete_notification(tag);
                    }
                    reason => self.add_dead_letter(tag, format!("its listener refused it: {reason}")),
                }
            }
        }
        self.settled(now, worker, credit);
    }

    fn forward_answer(&mut self, tag: u64, payload: P) {
        if let Some((to, remaining)) = self.take_sender(tag) {
            self.counters.add(Counter::Answered);
            self.actions.push_back(Action::Answer { to, payload, remaining });
        }
    }

    /// A listener reports that it has handled a notification, or requeues it.
    pub(super) fn handled(
        &mut self,
        now: Instant,
        tag: u64,
        id: MessageId,
        credit: u16,
        requeue: Option<(Arrival<'_>, P)>,
    ) {
        // A tag belongs to one delivery by one run of a broker. A report with another tag does not
        // count, even if its id is right.
        let delivered = self.pending.get_mut(tag).and_then(|request| {
            let (state, worker) = (request.state, request.state.worker()?);
            Some((state, worker, request.notification.as_mut().filter(|notification| notification.id == id)?))
        });
        let Some((state, worker, notification)) = delivered else {
            // A delivery of an earlier run: the notification is in the store, or is unknown here.
            self.counters.add(Counter::LateAnswers);
            if let Some((arrival, payload)) = requeue.filter(|(arrival, _)| !self.has_notification(id, arrival.server))
            {
                self.counters.add(Counter::Requeued);
                self.notify(now, arrival, None, payload);
            }
            return;
        };
        if matches!(state, State::InFlight { .. }) {
            notification.handled_early = Some(requeue.is_some());
        }
        let server = self.workers[worker].server;
        let before = self.workers[worker].return_credit(credit);
        if matches!(state, State::Acknowledged { .. }) {
            self.listener_finished(now, server, tag, requeue.is_some());
        }
        self.credit_changed(now, worker, before);
        self.finish_withdrawal(server);
    }

    /// Whether the copy of this notification for a pool is pending.
    fn has_notification(&self, id: MessageId, pool: &str) -> bool {
        if !self.notification_copies.contains_key(&id) {
            return false;
        }
        let matches = |notification: &Notification| {
            notification.id == id && notification.pool.as_ref().is_none_or(|name| name.as_str() == pool)
        };
        !self.pending.tags_where(|request| request.notification.as_deref().is_some_and(matches)).is_empty()
    }

    fn listener_finished(&mut self, now: Instant, server: usize, tag: u64, again: bool) {
        self.servers[server].notifications -= 1;
        if !again {
            self.counters.add(Counter::Handled);
            return self.complete_notification(tag);
        }
        self.delay_redelivery(now, tag);
    }

    /// Delays the next delivery, because the cause of the failure may pass.
    fn delay_redelivery(&mut self, now: Instant, tag: u64) {
        if self.reject_if_exhausted(tag) {
            return;
        }
        self.counters.add(Counter::Requeued);
        self.confirm_stored(tag);
        let tag = self.pending.renew_tag(tag);
        self.pending.set_state(tag, State::Delayed);
        let Some(request) = self.pending.get(tag) else { return };
        let deliveries = request.notification.as_ref().map_or(1, |notification| notification.deliveries.max(1).into());
        let delay = FIRST_DELAY.saturating_mul(1 << u32::min(deliveries - 1, 16)).min(MAX_DELAY);
        self.add_deadline(request.deadline.min(deadline(now, delay)), tag);
    }

    pub(super) fn reclaim_notifications(&mut self, now: Instant, mut tags: Vec<u64>) {
        // From the youngest to the oldest, because each is put in front of the queue.
        tags.sort_unstable_by_key(|tag| std::cmp::Reverse(self.pending.get(*tag).map(|request| request.order)));
        for tag in tags {
            let notification = self.pending.get_mut(tag).and_then(|request| request.notification.as_mut());
            match notification.and_then(|notification| notification.handled_early.take()) {
                // The listener's report came before its acknowledgement.
                Some(false) => {
                    self.counters.add(Counter::Handled);
                    self.confirm_stored(tag);
                    self.complete_notification(tag);
                }
                _ if self.reject_if_exhausted(tag) => {}
                _ => self.requeue_first(now, tag),
            }
        }
    }

    fn requeue_first(&mut self, now: Instant, tag: u64) {
        if self.pending.get(tag).is_some_and(|request| request.deadline <= now) {
            self.pending.set_state(tag, State::Storing);
            return self.expire_notification(tag);
        }
        self.counters.add(Counter::Requeued);
        let tag = self.pending.renew_tag(tag);
        if let Some(queue) = self.queue_of_notification(tag) {
            self.enqueue_first(tag, queue);
            self.confirm_stored(tag);
        }
        self.renew_deadline(tag);
    }

    fn renew_deadline(&mut self, tag: u64) {
        if let Some(deadline) = self.pending.get(tag).map(|request| request.deadline) {
            self.add_deadline(deadline, tag);
        }
    }

    /// Gives a notification up if no further delivery is permitted. Returns whether it did.
    fn reject_if_exhausted(&mut self, tag: u64) -> bool {
        let limit = self.limits.max_deliveries;
        let exhausted = self.pending.notification(tag).is_some_and(|notification| notification.deliveries >= limit);
        if exhausted {
            let detail = format!("delivered {limit} times (rpc_zmq_max_deliveries), and not handled");
            self.reject_notification(tag, Refusal::new(Reason::ServerLost, detail));
        }
        exhausted
    }

    /// The delay has ended, so the notification goes to the end of the queue.
    pub(super) fn end_delay(&mut self, now: Instant, tag: u64) {
        self.pending.move_to_end(tag);
        self.deliver_or_queue_notification(now, tag);
        self.renew_deadline(tag);
    }

    pub(super) fn expire_notification(&mut self, tag: u64) {
        self.counters.add(Counter::Expired);
        let detail = "its time to live ended before a listener handled it";
        self.reject_notification(tag, Refusal::new(Reason::Expired, detail));
    }

    /// Gives a notification up. It is refused, or becomes a dead letter if its sender already knows
    /// that it was stored or accepted.
    fn reject_notification(&mut self, tag: u64, refusal: Refusal) {
        let confirmed = self.pending.get(tag).is_some_and(|request| request.origin.is_none());
        if confirmed {
            return self.add_dead_letter(tag, refusal.detail);
        }
        if let Some((request, notification)) = self.remove_notification(tag) {
            self.erase(notification.number);
            self.refuse_pending(request, notification.pool, refusal.reason, refusal.detail);
        }
    }

    fn add_dead_letter(&mut self, tag: u64, why: String) {
        let Some((request, notification)) = self.remove_notification(tag) else { return };
        self.counters.add(Counter::DeadLetters);
        let Notification { id, key, pool, deliveries, number, .. } = notification;
        if let Some(payload) = request.payload {
            let key = key.for_servers();
            self.actions.push_back(Action::DeadLetter { number, key, pool, id, deliveries, why, payload });
        }
    }

    fn complete_notification(&mut self, tag: u64) {
        if let Some((_, notification)) = self.remove_notification(tag) {
            self.erase(notification.number);
        }
    }

    fn erase(&mut self, number: Option<u64>) {
        self.actions.extend(number.map(|number| Action::Erase { number }));
    }

    /// Removes a notification from the engine in any state.
    fn remove_notification(&mut self, tag: u64) -> Option<(Pending<O, P>, Notification)> {
        let mut request = self.pending.remove(tag)?;
        let notification = request.notification.take()?;
        self.notification_bytes -= request.bytes;
        if let Some(copies) = self.notification_copies.get_mut(&notification.id) {
            *copies -= 1;
            if *copies == 0 {
                self.notification_copies.remove(&notification.id);
            }
        }
        if let State::Queued(queue) = request.state {
            self.removed_from(queue);
        }
        Some((request, *notification))
    }
}
