//! NOTIFY: a copy for every pool, kept until a listener of the pool has handled it.
//!
//! A notification leaves the engine when it is handled, given up or refused, and not before: a listener that dies, or gives
//! it back, leaves it to the next one. With a durable store, it is written there first, and delivered only then.

use std::time::{Duration, Instant};

use zmqv2_proto::{MessageId, Reason, Refusal, ServerName, TopicKey, Ttl};

use super::pending::{Held, Queue, State};
use super::{Action, Arrival, Counter, Engine, WorkerId};

/// How long a notification that was given back rests before its second delivery; then twice as long each time.
const FIRST_REST: Duration = Duration::from_millis(200);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is known of a notification that is kept.
#[derive(Debug)]
pub(super) struct Note {
    id: MessageId,
    key: TopicKey,
    /// Whose copy it is; the first pool that comes takes one that is nobody's.
    pub(super) pool: Option<ServerName>,
    pub(super) deliveries: u16,
    /// Its number in the durable store.
    number: Option<u64>,
    /// The word that it has been handled came before the acknowledgement did, over another connection: whether it shall
    /// come again.
    early: Option<bool>,
}

impl<O: Clone, L: Clone> Engine<O, L> {
    pub(super) fn notify(&mut self, now: Instant, arrival: Arrival<'_>, from: Option<O>, load: L) {
        let key = match TopicKey::parse(arrival.key) {
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
        // Without a sender nobody counts answers.
        let group = (pools.len() > 1 && from.is_some()).then(|| self.groups.insert(pools.len()));
        for pool in pools {
            let (id, key) = (arrival.id, key.clone());
            let note = Note { id, key, pool, deliveries: 0, number: None, early: None };
            self.keep(now, arrival, note, group, from.clone(), load.clone());
        }
    }

    /// Every pool that has listeners now, or nobody yet.
    fn pools_of(&self, key: &TopicKey) -> Vec<Option<ServerName>> {
        let topic = self.by_key.get(key).map(|topic| &self.topics[*topic]);
        let named = topic.into_iter().flat_map(|topic| &topic.named).filter(|(_, named)| !named.runs.is_empty());
        let pools: Vec<_> = named.map(|(_, named)| Some(named.name.clone())).collect();
        if pools.is_empty() { vec![None] } else { pools }
    }

    fn keep(&mut self, now: Instant, arrival: Arrival<'_>, note: Note, group: Option<usize>, from: Option<O>, load: L) {
        let Arrival { bytes, deadline, .. } = arrival;
        let full = self.cannot_keep(&note.key, bytes);
        let mut held = Held::new(from, Some(load), bytes, deadline, State::Storing);
        (held.group, held.wait_for_ready, held.note) = (group, true, Some(Box::new(note)));
        let tag = self.hold(held);
        if let Some(full) = full {
            self.refuse_note(tag, Refusal::new(Reason::Busy, full));
        } else if self.limits.durable {
            self.store(now, tag);
        } else {
            self.file(now, tag);
        }
    }

    fn hold(&mut self, held: Held<O, L>) -> u64 {
        self.kept_bytes += held.bytes;
        if let Some(note) = &held.note {
            *self.notes.entry(note.id).or_default() += 1;
        }
        let deadline = held.deadline;
        let tag = self.requests.insert(held);
        self.watch_deadline(deadline, tag);
        tag
    }

    fn store(&mut self, now: Instant, tag: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let Some(held) = self.requests.get_mut(tag) else { return };
        let ttl = Ttl::until(held.deadline, now);
        if let (Some(note), Some(load)) = (&mut held.note, held.load.clone()) {
            note.number = Some(number);
            let pool = note.pool.clone();
            self.actions.push_back(Action::Store { tag, number, pool, ttl, load });
        }
    }

    /// The durable store has it, or has not.
    pub(super) fn stored(&mut self, now: Instant, tag: u64, result: Result<(), String>) {
        let Some(held) = self.requests.get_mut(tag).filter(|held| held.state == State::Storing) else { return };
        match result {
            Ok(()) => {
                self.tell_kept(tag);
                self.file(now, tag);
            }
            Err(error) => {
                if let Some(note) = &mut held.note {
                    note.number = None;
                }
                let detail = format!("the store (rpc_zmq_notification_store) did not take it: {error}");
                self.refuse_note(tag, Refusal::new(Reason::Busy, detail));
            }
        }
    }

    /// Takes up what an earlier run of the broker had stored.
    pub(super) fn restore(&mut self, now: Instant, number: u64, arrival: Arrival<'_>, load: L) {
        self.next_number = self.next_number.max(number + 1);
        let Ok(key) = TopicKey::parse(arrival.key) else { return self.actions.push_back(Action::Erase { number }) };
        let pool = ServerName::new(arrival.server).ok();
        let note = Note { id: arrival.id, key, pool, deliveries: 0, number: Some(number), early: None };
        let mut held = Held::new(None, Some(load), arrival.bytes, arrival.deadline, State::Storing);
        (held.wait_for_ready, held.note) = (true, Some(Box::new(note)));
        let tag = self.hold(held);
        self.file(now, tag);
    }

    /// Gives a notification to a listener, or lets it wait for one, behind the others.
    fn file(&mut self, now: Instant, tag: u64) {
        if self.requests.get(tag).is_some_and(|held| held.deadline <= now) {
            return self.expire_note(tag);
        }
        let Some((topic, named)) = self.place_of(tag) else { return };
        let worker = match named {
            _ if self.leaves_notes() => None,
            Some(named) => self.take_worker_of(topic, named),
            None => self.take_worker(topic),
        };
        if let Some(worker) = worker {
            return self.hand_over(now, tag, worker);
        }
        self.enqueue(tag, Queue { topic, at: named.into() });
        self.tell_kept(tag);
    }

    fn place_of(&mut self, tag: u64) -> Option<(usize, Option<usize>)> {
        let note = self.requests.get(tag)?.note.as_ref()?;
        let (key, pool) = (note.key.clone(), note.pool.clone());
        Some(self.open_place(&key, pool.as_ref()))
    }

    /// Why a notification cannot be kept. Asked before anybody is told that it is: later it is too late.
    fn cannot_keep(&self, key: &TopicKey, bytes: usize) -> Option<String> {
        let (waiting, limit) =
            (self.by_key.get(key).map_or(0, |topic| self.topics[*topic].waiting), self.limits.topic_backlog);
        if waiting >= limit {
            return Some(format!("{limit} messages for {key} wait already (rpc_zmq_topic_backlog)"));
        }
        let (kept, limit) = (self.kept_bytes, self.limits.backlog_bytes);
        if kept + bytes > limit {
            return Some(format!(
                "{kept} bytes of notifications are kept already, {bytes} more are over {limit} (rpc_zmq_backlog_bytes)"
            ));
        }
        self.has_no_topic_left(key)
    }

    /// Tells the sender that it is kept; once, and not if a listener's acknowledgement was first.
    fn tell_kept(&mut self, tag: u64) {
        let Some(held) = self.requests.get_mut(tag) else { return };
        let Some(to) = held.origin.take() else { return };
        let pool = held.note.as_ref().and_then(|note| note.pool.clone());
        let group = held.group.take();
        let more = self.more(group);
        self.counters.add(Counter::Stored);
        self.actions.push_back(Action::Keep { to, pool, more });
    }

    /// A listener has accepted it, or has not.
    pub(super) fn note_answered(
        &mut self,
        now: Instant,
        worker: WorkerId,
        tag: u64,
        credit: u16,
        refused: Option<Reason>,
        load: L,
    ) {
        let Some(held) = self.requests.get_mut(tag) else { return };
        let early = held.note.as_mut().and_then(|note| note.early.take());
        let server = self.workers[worker].server;
        match refused {
            None => {
                self.forward(tag, load);
                self.requests.set_state(tag, State::Running { worker });
                if let Some(again) = early {
                    self.done(now, server, tag, again);
                }
            }
            Some(reason) => {
                self.servers[server].notes -= 1;
                let told = held.origin.is_some();
                match reason {
                    Reason::Busy | Reason::ShuttingDown => self.rest(now, tag),
                    Reason::Expired => {
                        self.forward(tag, load);
                        self.expire_note(tag);
                    }
                    // Nobody else could make more of it.
                    reason if told => {
                        self.forward(tag, load);
                        self.counters.add(Counter::refused(reason));
                        self.forget(tag);
                    }
                    reason => self.bury(tag, format!("its listener refused it: {reason}")),
                }
            }
        }
        self.settled(now, worker, credit);
    }

    /// Sends a listener's first answer to the sender.
    fn forward(&mut self, tag: u64, load: L) {
        let Some(held) = self.requests.get_mut(tag) else { return };
        if let Some(to) = held.origin.take() {
            let group = held.group.take();
            let more = self.more(group);
            self.counters.add(Counter::Answered);
            self.actions.push_back(Action::Answer { to, load, more });
        }
    }

    /// A listener says that it is done with it.
    pub(super) fn handled(
        &mut self,
        now: Instant,
        tag: u64,
        id: MessageId,
        credit: u16,
        requeue: Option<(Arrival<'_>, L)>,
    ) {
        // A tag is of one delivery, by one run of a broker: another one says nothing, not even with the right id.
        let held = self.requests.get_mut(tag).filter(|held| held.note.as_ref().is_some_and(|note| note.id == id));
        let at = held.and_then(|held| Some((held.state, held.state.worker()?, held.note.as_mut()?)));
        let Some((state, worker, note)) = at else {
            // From before this broker's start: it is known from the store, or not at all.
            self.counters.add(Counter::LateAnswers);
            if let Some((arrival, load)) = requeue.filter(|(arrival, _)| !self.keeps(id, arrival.server)) {
                self.counters.add(Counter::Requeued);
                self.notify(now, arrival, None, load);
            }
            return;
        };
        if matches!(state, State::InFlight { .. }) {
            note.early = Some(requeue.is_some());
        }
        let before = self.give_back(worker, credit);
        let server = self.workers[worker].server;
        if matches!(state, State::Running { .. }) {
            self.done(now, server, tag, requeue.is_some());
        }
        self.offer(now, worker, before);
        self.check_withdrawn(server);
    }

    /// Whether a pool's copy of this notification is here.
    fn keeps(&self, id: MessageId, pool: &str) -> bool {
        if !self.notes.contains_key(&id) {
            return false;
        }
        let is_it = |note: &Note| note.id == id && note.pool.as_ref().is_none_or(|name| name.as_str() == pool);
        !self.requests.tags_where(|held| held.note.as_ref().is_some_and(|note| is_it(note))).is_empty()
    }

    fn done(&mut self, now: Instant, server: usize, tag: u64, again: bool) {
        self.servers[server].notes -= 1;
        if !again {
            self.counters.add(Counter::Handled);
            return self.forget(tag);
        }
        self.rest(now, tag);
    }

    /// Lets a notification that was given back rest before it is delivered again: what failed now may not fail later.
    fn rest(&mut self, now: Instant, tag: u64) {
        if self.is_worn_out(tag) {
            return self.give_up(tag);
        }
        self.counters.add(Counter::Requeued);
        self.tell_kept(tag);
        let tag = self.requests.rename(tag);
        self.requests.set_state(tag, State::Resting);
        let Some(held) = self.requests.get(tag) else { return };
        let deliveries = held.note.as_ref().map_or(1, |note| u32::from(note.deliveries.max(1)));
        let pause = FIRST_REST.saturating_mul(1 << (deliveries - 1).min(16)).min(LONGEST_REST);
        self.watch_deadline(held.deadline.min(now + pause), tag);
    }

    /// A listener is gone with these.
    pub(super) fn take_back(&mut self, now: Instant, mut tags: Vec<u64>) {
        // The oldest is put in front at last.
        tags.sort_unstable_by_key(|tag| std::cmp::Reverse(self.requests.get(*tag).map(|held| held.order)));
        for tag in tags {
            let note = self.requests.get_mut(tag).and_then(|held| held.note.as_mut());
            match note.and_then(|note| note.early.take()) {
                // It had said so, before it could acknowledge.
                Some(false) => {
                    self.counters.add(Counter::Handled);
                    self.tell_kept(tag);
                    self.forget(tag);
                }
                _ if self.is_worn_out(tag) => self.give_up(tag),
                _ => self.put_back(now, tag),
            }
        }
    }

    /// It waits again, before those that came after it.
    fn put_back(&mut self, now: Instant, tag: u64) {
        if self.requests.get(tag).is_some_and(|held| held.deadline <= now) {
            self.requests.set_state(tag, State::Storing);
            return self.expire_note(tag);
        }
        self.counters.add(Counter::Requeued);
        let tag = self.requests.rename(tag);
        if let Some((topic, named)) = self.place_of(tag) {
            self.enqueue_first(tag, Queue { topic, at: named.into() });
            self.tell_kept(tag);
        }
        if let Some(deadline) = self.requests.get(tag).map(|held| held.deadline) {
            self.watch_deadline(deadline, tag);
        }
    }

    fn is_worn_out(&self, tag: u64) -> bool {
        let note = self.requests.get(tag).and_then(|held| held.note.as_ref());
        note.is_some_and(|note| note.deliveries >= self.limits.max_deliveries)
    }

    fn give_up(&mut self, tag: u64) {
        let limit = self.limits.max_deliveries;
        let detail = format!("delivered {limit} times (rpc_zmq_max_deliveries), and not handled");
        self.refuse_note(tag, Refusal::new(Reason::ServerLost, detail));
    }

    /// It has rested: behind the others.
    pub(super) fn rested(&mut self, now: Instant, tag: u64) {
        self.requests.set_last(tag);
        self.file(now, tag);
        if let Some(deadline) = self.requests.get(tag).map(|held| held.deadline) {
            self.watch_deadline(deadline, tag);
        }
    }

    pub(super) fn expire_note(&mut self, tag: u64) {
        self.counters.add(Counter::Expired);
        let detail = "its time to live ended before a listener handled it";
        self.refuse_note(tag, Refusal::new(Reason::Expired, detail));
    }

    /// It is not kept: the sender is told, or the operator when the sender has been told otherwise.
    fn refuse_note(&mut self, tag: u64, refusal: Refusal) {
        let told = self.requests.get(tag).is_some_and(|held| held.origin.is_none());
        if told {
            return self.bury(tag, refusal.detail);
        }
        if let Some((held, note)) = self.release(tag) {
            self.erase(note.number);
            self.refuse_held(held, note.pool, refusal.reason, refusal.detail);
        }
    }

    fn bury(&mut self, tag: u64, why: String) {
        let Some((held, note)) = self.release(tag) else { return };
        self.counters.add(Counter::DeadLetters);
        let Note { id, key, pool, deliveries, number, .. } = note;
        if let Some(load) = held.load {
            self.actions.push_back(Action::Bury { number, key, pool, id, deliveries, why, load });
        }
    }

    fn forget(&mut self, tag: u64) {
        if let Some((_, note)) = self.release(tag) {
            self.erase(note.number);
        }
    }

    fn erase(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.actions.push_back(Action::Erase { number });
        }
    }

    /// Takes a notification out, wherever it is.
    fn release(&mut self, tag: u64) -> Option<(Held<O, L>, Note)> {
        let mut held = self.requests.remove(tag)?;
        let note = held.note.take()?;
        self.kept_bytes -= held.bytes;
        if let Some(copies) = self.notes.get_mut(&note.id) {
            *copies -= 1;
            if *copies == 0 {
                self.notes.remove(&note.id);
            }
        }
        if let State::Queued(queue) = held.state {
            self.left(queue);
        }
        Some((held, *note))
    }
}
