//! The table of pending messages: those that have no outcome yet. Pure: no socket, clock or thread.
//!
//! A message goes to one of its *candidates* (nodes, by number) over a *link* (a connection, by
//! number). The table reports what to do as an [`Action`]; the driver reports what happened as an
//! [`Input`]. [`Attempt`](crate::delivery::attempt::Attempt) decides how a message goes on. The
//! table adds the timers, the queues of the links, and the order of messages to one server. Each
//! message ends exactly once.
//!
//! The files of this folder are one type in parts, and import each other.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

#[cfg(test)]
mod cancel_tests;
mod entry;
mod events;
mod inputs;
mod link_queue;
#[cfg(all(test, feature = "proptest"))]
mod properties;
mod server_queue;
#[cfg(all(test, feature = "proptest"))]
mod server_queue_properties;
#[cfg(test)]
mod server_queue_tests;
mod tag;
#[cfg(test)]
mod tests;

use crate::delivery::attempt::{SearchPlan, Verdict};
use entry::{Entry, Stage};
pub(crate) use events::{Action, DeliveryOptions, Input, Limits};
use link_queue::LinkQueue;
pub(crate) use server_queue::QueueId;
use server_queue::ServerQueue;
pub(crate) use tag::Tag;

/// The number of a link. The driver chooses it.
pub(crate) type LinkId = usize;

/// `M` is a message of the driver, `A` an answer.
#[derive(Debug)]
pub(crate) struct PendingTable<M, A> {
    limits: Limits,
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    open: usize,
    bytes: usize,
    arrivals: u64,
    tickets: u64,
    /// The timers of the entries, by slot.
    timers: BTreeSet<(Instant, u32)>,
    links: Vec<LinkQueue>,
    /// The number of links with something to send.
    waiting_links: usize,
    server_queues: HashMap<QueueId, ServerQueue>,
    /// Queues whose next message may be able to go on.
    changed_queues: Vec<QueueId>,
    actions: VecDeque<Action<M, A>>,
}

#[derive(Debug)]
struct Slot<M> {
    generation: u32,
    entry: Option<Entry<M>>,
}

impl<M, A> PendingTable<M, A> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            bytes: 0,
            arrivals: 0,
            tickets: 0,
            timers: BTreeSet::new(),
            links: Vec::new(),
            waiting_links: 0,
            server_queues: HashMap::new(),
            changed_queues: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes over a message, or returns it if a limit is reached. A message above the limit of
    /// bytes is accepted if it is the only one.
    pub(crate) fn admit(&mut self, now: Instant, message: M, options: DeliveryOptions) -> Result<(), M> {
        let full = self.bytes.saturating_add(options.bytes) > self.limits.bytes && self.open > 0;
        if self.open >= self.limits.messages || full {
            return Err(message);
        }
        self.admit_beyond_limits(now, message, options);
        Ok(())
    }

    /// Takes over a message without checking the limits: one of a group that was admitted together.
    pub(crate) fn admit_beyond_limits(&mut self, now: Instant, message: M, options: DeliveryOptions) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        self.open += 1;
        self.bytes += options.bytes;
        self.arrivals += 1;
        let mut entry = Entry::new(message, options, self.limits.jitter, now, self.arrivals);
        let found = SearchPlan { preliminary: options.preliminary, ..SearchPlan::among(options.candidates) };
        let step = options.server_queue.is_none().then(|| entry.attempt.found(now, found));
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
        let tag = Tag::new(index, slot.generation, 0);
        match step {
            Some(step) => self.follow(now, tag, step),
            None => self.join_queue(now, tag),
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<A>) {
        match input {
            Input::LinkChosen { tag, link } => self.link_chosen(now, tag, link),
            Input::LookedUp { tag, plan } => self.looked_up(now, tag, plan),
            Input::Sent { tag } => self.sent(now, tag),
            Input::Answered { tag, answer, more } => self.answered(tag, answer, more),
            Input::Refused { tag, refusal, node } => self.refused(now, tag, refusal, node),
            Input::InFlight { tag, silence, node } => self.in_flight(now, tag, silence, node),
            Input::ConnectionLost { link } => self.connection_lost(now, link),
            Input::LinkClosed { link } => {
                self.connection_lost(now, link);
                self.requeue_elsewhere(now, link);
            }
            Input::LinkFailed { link } => self.link_failed(now, link),
            Input::GivenUp { tag } => self.closed(tag),
            Input::Close => self.close(),
        }
        self.advance_queues(now);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action<M, A>> {
        self.actions.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Handles all timers that are due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(at, index)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let slot = &mut self.slots[index as usize];
            let Some(entry) = slot.entry.as_mut() else { continue };
            entry.timer = None;
            let tag = Tag::new(index, slot.generation, entry.sends);
            match entry.wake {
                Some(wake) if wake > now => self.set_timer(tag, wake),
                Some(_) => self.timer_fired(now, tag),
                None => {}
            }
        }
        self.advance_queues(now);
    }

    /// The message of a tag, if it has not ended.
    pub(crate) fn message(&self, tag: Tag) -> Option<&M> {
        self.entry(tag).map(|entry| &entry.message)
    }

    /// A message that matches. Walks over all messages.
    pub(crate) fn find(&self, wanted: impl Fn(&M) -> bool) -> Option<Tag> {
        let (index, slot) = self.slots.iter().enumerate().find(|(_, slot)| {
            let entry = slot.entry.as_ref();
            entry.is_some_and(|entry| wanted(&entry.message))
        })?;
        let entry = slot.entry.as_ref()?;
        Some(Tag::new(index as u32, slot.generation, entry.sends))
    }

    pub(crate) fn message_mut(&mut self, tag: Tag) -> Option<&mut M> {
        self.entry_mut(tag).map(|entry| &mut entry.message)
    }

    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// The number of links with something to send. Most often they are not connected yet.
    pub(crate) fn waiting_links(&self) -> usize {
        self.waiting_links
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves an entry to a stage, which ends by itself at `wake`.
    fn set_stage(&mut self, tag: Tag, stage: Stage, wake: Option<Instant>) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let before = std::mem::replace(&mut entry.stage, stage);
        entry.wake = wake;
        for (stage, up) in [(before, false), (stage, true)] {
            let count = match stage {
                Stage::Queued { link } => &mut self.links[link].queued,
                Stage::Sent { link } => &mut self.links[link].in_flight,
                _ => continue,
            };
            let before = *count;
            *count = if up { before + 1 } else { before - 1 };
            if matches!(stage, Stage::Queued { .. }) {
                self.waiting_links += usize::from(before == 0);
                self.waiting_links -= usize::from(*count == 0);
            }
        }
        if let Some(wake) = wake {
            self.set_timer(tag, wake);
        }
    }

    /// Sets the timer of an entry to `wake`. A timer that is earlier stays, and is moved when it
    /// fires: most messages end before, and need one timer instead of one per stage.
    fn set_timer(&mut self, tag: Tag, wake: Instant) {
        let Some(entry) = self.entry_mut(tag) else { return };
        if entry.timer.is_some_and(|timer| timer <= wake) {
            return;
        }
        if let Some(late) = entry.timer.replace(wake) {
            self.timers.remove(&(late, tag.slot()));
        }
        self.timers.insert((wake, tag.slot()));
    }

    fn end(&mut self, tag: Tag, result: Result<A, Verdict>) {
        let cancel = self.entry(tag).and_then(|entry| entry.holder(tag.sends(), &result));
        self.leave_queue(tag);
        self.set_stage(tag, Stage::ChoosingLink, None);
        let slot = &mut self.slots[tag.slot() as usize];
        let Some(entry) = slot.entry.take_if(|_| tag.matches(slot.generation)) else { return };
        if let Some(timer) = entry.timer {
            self.timers.remove(&(timer, tag.slot()));
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(tag.slot());
        self.open -= 1;
        self.bytes -= entry.bytes;
        self.actions.push_back(Action::End { message: entry.message, result, cancel });
    }

    fn entry(&self, tag: Tag) -> Option<&Entry<M>> {
        let slot = self.slots.get(tag.slot() as usize)?;
        slot.entry.as_ref().filter(|_| tag.matches(slot.generation))
    }

    fn entry_mut(&mut self, tag: Tag) -> Option<&mut Entry<M>> {
        let slot = self.slots.get_mut(tag.slot() as usize)?;
        slot.entry.as_mut().filter(|_| tag.matches(slot.generation))
    }
}
