//! Every request that is held: waiting or in flight, by tag.
//!
//! A tag is a slot's number and the slot's generation, so that the answer to a request that is long settled never
//! meets the request that has its slot now, and looking one up costs the same however many there are.

use std::collections::HashMap;
use std::time::Instant;

use zmqv2_proto::MessageId;

use super::WorkerId;
use super::notifications::Note;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A notification that is being written to the store.
    Storing,
    /// Waits for a worker.
    Queued(Queue),
    /// A notification that was given back, until it is to be delivered again.
    Resting,
    /// A worker has it.
    InFlight { worker: WorkerId },
    /// A worker has acknowledged this notification, and has not handled it yet.
    Running { worker: WorkerId },
    /// A worker has it, but its time is over and its sender is gone.
    Abandoned { worker: WorkerId },
}

impl State {
    /// Somebody waits for the next word about it, which must come from a worker or the store.
    fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight { .. } | Self::Storing)
    }

    /// The worker that has it.
    pub(super) fn worker(self) -> Option<WorkerId> {
        match self {
            Self::InFlight { worker } | Self::Running { worker } | Self::Abandoned { worker } => Some(worker),
            Self::Storing | Self::Queued(_) | Self::Resting => None,
        }
    }
}

/// Where a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) topic: usize,
    pub(super) at: At,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Any server of the topic.
    Any,
    /// A server of this name (its number in the topic).
    Named(usize),
    /// One run of a server, and no other: its copy of a fanout.
    Run(usize),
}

impl From<Option<usize>> for At {
    fn from(named: Option<usize>) -> Self {
        named.map_or(Self::Any, Self::Named)
    }
}

#[derive(Debug)]
pub(super) struct Held<O, L> {
    /// The path back; taken when the request is abandoned.
    pub(super) origin: Option<O>,
    /// The frames; taken when the request is delivered. A notification's stay until it is handled.
    pub(super) load: Option<L>,
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    /// Order of arrival; given by [`Requests::insert`].
    pub(super) order: u64,
    pub(super) state: State,
    /// It waits while no server of its target is there.
    pub(super) wait_for_ready: bool,
    /// A copy of a fanout: its bytes count also while a worker has it.
    pub(super) is_copy: bool,
    /// Its sender asks about it by this id.
    pub(super) asked_about: Option<MessageId>,
    /// The copies that are answered together with this one.
    pub(super) group: Option<usize>,
    /// What is known of a notification.
    pub(super) note: Option<Box<Note>>,
}

impl<O, L> Held<O, L> {
    pub(super) fn new(origin: Option<O>, load: Option<L>, bytes: usize, deadline: Instant, state: State) -> Self {
        let (asked_about, group, note) = (None, None, None);
        Self {
            origin,
            load,
            bytes,
            deadline,
            order: 0,
            state,
            wait_for_ready: false,
            is_copy: false,
            asked_about,
            group,
            note,
        }
    }
}

impl<O, L> Held<O, L> {
    /// What it counts for while a worker has it.
    pub(super) fn copied_bytes(&self) -> usize {
        if self.is_copy { self.bytes } else { 0 }
    }
}

#[derive(Debug)]
struct Slot<O, L> {
    generation: u32,
    held: Option<Held<O, L>>,
}

#[derive(Debug)]
pub(super) struct Requests<O, L> {
    slots: Vec<Slot<O, L>>,
    free: Vec<u32>,
    arrived: u64,
    in_flight: usize,
    /// The generation of a new slot.
    first_generation: u32,
    /// Those whose senders ask about them.
    asked_about: HashMap<MessageId, u64>,
}

impl<O, L> Default for Requests<O, L> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            arrived: 0,
            in_flight: 0,
            first_generation: 0,
            asked_about: HashMap::new(),
        }
    }
}

impl<O, L> Requests<O, L> {
    /// A table whose tags are other ones than those of a table with another number.
    pub(super) fn starting_at(first_generation: u32) -> Self {
        Self { first_generation, ..Self::default() }
    }

    /// Gives a request another tag: whatever was said of it under the old one is said of nothing.
    pub(super) fn rename(&mut self, tag: u64) -> u64 {
        match self.slots.get_mut(index(tag)).filter(|slot| slot.generation == generation(tag) && slot.held.is_some()) {
            Some(slot) => {
                slot.generation = slot.generation.wrapping_add(1);
                u64::from(slot.generation) << 32 | index(tag) as u64
            }
            None => tag,
        }
    }

    /// Keeps a request and gives it a tag.
    pub(super) fn insert(&mut self, mut held: Held<O, L>) -> u64 {
        self.arrived += 1;
        self.in_flight += usize::from(held.state.is_in_flight());
        held.order = self.arrived;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: self.first_generation, held: None });
                // More than 2^32 requests do not fit into memory.
                (self.slots.len() - 1) as u32
            }
        };
        let asked_about = held.asked_about;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.held = Some(held);
        let tag = u64::from(slot.generation) << 32 | u64::from(index);
        if let Some(id) = asked_about {
            self.asked_about.insert(id, tag);
        }
        tag
    }

    /// Whether a request whose sender asks about it is held.
    pub(super) fn is_held(&self, id: MessageId) -> bool {
        self.asked_about.contains_key(&id)
    }

    fn slot(&self, tag: u64) -> Option<&Slot<O, L>> {
        self.slots.get(index(tag)).filter(|slot| slot.generation == generation(tag) && slot.held.is_some())
    }

    pub(super) fn contains(&self, tag: u64) -> bool {
        self.slot(tag).is_some()
    }

    pub(super) fn get(&self, tag: u64) -> Option<&Held<O, L>> {
        self.slot(tag)?.held.as_ref()
    }

    pub(super) fn get_mut(&mut self, tag: u64) -> Option<&mut Held<O, L>> {
        self.slots.get_mut(index(tag)).filter(|slot| slot.generation == generation(tag))?.held.as_mut()
    }

    pub(super) fn remove(&mut self, tag: u64) -> Option<Held<O, L>> {
        let slot = self.slots.get_mut(index(tag)).filter(|slot| slot.generation == generation(tag))?;
        let held = slot.held.take()?;
        self.free.push(index(tag) as u32);
        self.in_flight -= usize::from(held.state.is_in_flight());
        if let Some(id) = held.asked_about.filter(|id| self.asked_about.get(id) == Some(&tag)) {
            self.asked_about.remove(&id);
        }
        Some(held)
    }

    /// Moves a request to another state.
    pub(super) fn set_state(&mut self, tag: u64, state: State) {
        if let Some(held) = self.get_mut(tag) {
            let before = std::mem::replace(&mut held.state, state);
            self.in_flight += usize::from(state.is_in_flight());
            self.in_flight -= usize::from(before.is_in_flight());
        }
    }

    /// Puts a request behind all others.
    pub(super) fn set_last(&mut self, tag: u64) {
        self.arrived += 1;
        let order = self.arrived;
        if let Some(held) = self.get_mut(tag) {
            held.order = order;
        }
    }

    /// Forgets the sender of a request that a worker still has.
    pub(super) fn abandon(&mut self, tag: u64, worker: WorkerId) {
        self.set_state(tag, State::Abandoned { worker });
        if let Some(held) = self.get_mut(tag) {
            held.origin = None;
        }
    }

    /// Requests held.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Requests that a worker has, or the store, and whose senders wait.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Tags of all that match; costs a walk over every slot, for rare events.
    pub(super) fn tags_where(&self, wanted: impl Fn(&Held<O, L>) -> bool) -> Vec<u64> {
        let tag_of = |(index, slot): (usize, &Slot<O, L>)| {
            slot.held.as_ref().filter(|held| wanted(held))?;
            Some(u64::from(slot.generation) << 32 | index as u64)
        };
        self.slots.iter().enumerate().filter_map(tag_of).collect()
    }
}

fn index(tag: u64) -> usize {
    (tag & u64::from(u32::MAX)) as usize
}

fn generation(tag: u64) -> u32 {
    (tag >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_tag_never_meets_the_slots_next_request() {
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let mut requests: Requests<(), ()> = Requests::default();
        let held = || Held::new(Some(()), Some(()), 1, now, State::InFlight { worker: 0 });
        let first = requests.insert(held());
        assert!(requests.remove(first).is_some());
        let second = requests.insert(held());
        assert_ne!(first, second);
        assert!(requests.get(first).is_none() && requests.remove(first).is_none() && requests.contains(second));
        assert_eq!((requests.len(), requests.in_flight()), (1, 1));
        assert!(requests.get(u64::MAX).is_none());
    }
}
