//! Every request that is held: waiting or in flight, by tag.
//!
//! A tag is a slot's number and the slot's generation, so that the answer to a request that is long settled never
//! meets the request that has its slot now, and looking one up costs the same however many there are.

use std::time::Instant;

use super::WorkerId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for any worker of the topic, or of one of its servers (a number in the topic).
    Queued { topic: usize, server: Option<usize> },
    /// A worker has it.
    InFlight { worker: WorkerId },
    /// A worker has it, but its time is over and its sender is gone.
    Abandoned { worker: WorkerId },
}

#[derive(Debug)]
pub(super) struct Held<O, L> {
    /// The path back; taken when the request is abandoned.
    pub(super) origin: Option<O>,
    /// The frames; taken when the request is delivered.
    pub(super) load: Option<L>,
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    /// Order of arrival; given by [`Requests::insert`].
    pub(super) order: u64,
    pub(super) state: State,
    /// It waits while no server of its target is there.
    pub(super) wait_for_ready: bool,
}

impl<O, L> Held<O, L> {
    pub(super) fn new(origin: O, load: Option<L>, bytes: usize, deadline: Instant, state: State) -> Self {
        Self { origin: Some(origin), load, bytes, deadline, order: 0, state, wait_for_ready: false }
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
}

impl<O, L> Default for Requests<O, L> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), arrived: 0, in_flight: 0 }
    }
}

impl<O, L> Requests<O, L> {
    /// Keeps a request and gives it a tag.
    pub(super) fn insert(&mut self, mut held: Held<O, L>) -> u64 {
        self.arrived += 1;
        self.in_flight += usize::from(matches!(held.state, State::InFlight { .. }));
        held.order = self.arrived;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, held: None });
                // More than 2^32 requests do not fit into memory.
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.held = Some(held);
        u64::from(slot.generation) << 32 | u64::from(index)
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
        self.in_flight -= usize::from(matches!(held.state, State::InFlight { .. }));
        Some(held)
    }

    /// A waiting request goes to `worker`: its load and the deadline to keep.
    pub(super) fn deliver(&mut self, tag: u64, worker: WorkerId) -> Option<(L, Instant, usize)> {
        let held = self.get_mut(tag)?;
        let load = held.load.take()?;
        held.state = State::InFlight { worker };
        let taken = (load, held.deadline, held.bytes);
        self.in_flight += 1;
        Some(taken)
    }

    /// Forgets the sender of a request that a worker still has.
    pub(super) fn abandon(&mut self, tag: u64) {
        if let Some(held) = self.get_mut(tag)
            && let State::InFlight { worker } = held.state
        {
            held.state = State::Abandoned { worker };
            held.origin = None;
            self.in_flight -= 1;
        }
    }

    /// Requests held.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Requests that a worker has and whose senders wait.
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
        let held = || Held::new((), Some(()), 1, now, State::InFlight { worker: 0 });
        let first = requests.insert(held());
        assert!(requests.remove(first).is_some());
        let second = requests.insert(held());
        assert_ne!(first, second);
        assert!(requests.get(first).is_none() && requests.remove(first).is_none() && requests.contains(second));
        assert_eq!((requests.len(), requests.in_flight()), (1, 1));
        assert!(requests.get(u64::MAX).is_none());
    }
}
