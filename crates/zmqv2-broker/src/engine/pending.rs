//! The table of pending requests: waiting or in flight, by tag.
//!
//! A tag is the number of a slot and the slot's generation. So a late answer never matches the
//! request that has the slot now, and a lookup costs the same however many requests there are.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use zmqv2_proto::MessageId;

use super::notifications::Notification;
use super::{ClientId, WorkerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A notification that is being written to the store.
    Storing,
    Queued(Queue),
    /// A requeued notification, until its delay has ended.
    Delayed,
    InFlight {
        worker: WorkerId,
    },
    /// A worker has acknowledged this notification, and has not handled it yet.
    Acknowledged {
        worker: WorkerId,
    },
    /// A worker has this request, but it has expired and its sender no longer waits.
    Abandoned {
        worker: WorkerId,
    },
}

impl State {
    /// Whether a sender waits, and a worker or the store must act next.
    fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight { .. } | Self::Storing)
    }

    pub(super) fn worker(self) -> Option<WorkerId> {
        match self {
            Self::InFlight { worker } | Self::Acknowledged { worker } | Self::Abandoned { worker } => Some(worker),
            Self::Storing | Self::Queued(_) | Self::Delayed => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) topic: usize,
    pub(super) recipient: Recipient,
}

/// The server for which a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recipient {
    AnyServer,
    /// The server with this name; the number is its index in the topic.
    Server(usize),
    /// Only this run of a server: its copy of a fanout, for example.
    Run(usize),
}

/// The connection and the id by which a sender names its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    pub(super) client: ClientId,
    pub(super) id: MessageId,
    pub(super) is_call: bool,
}

#[derive(Debug)]
pub(super) struct Pending<O, P> {
    /// `None` once the request is answered or abandoned.
    pub(super) origin: Option<O>,
    /// `None` once the request is delivered. A notification keeps its payload until it is handled.
    pub(super) payload: Option<P>,
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    pub(super) order: u64,
    pub(super) state: State,
    /// Without a server of its target it waits, instead of being refused.
    pub(super) wait_for_ready: bool,
    /// A copy of a fanout. Its bytes count even while a worker has it.
    pub(super) is_copy: bool,
    /// The id by which its sender asks about it.
    pub(super) monitored: Option<MessageId>,
    /// The sender, who may cancel it.
    pub(super) sender: Option<Sender>,
    /// Its sender no longer wants it, and a worker has it.
    pub(super) cancelled: bool,
    /// The group of copies that are answered together.
    pub(super) group: Option<usize>,
    pub(super) notification: Option<Box<Notification>>,
}

impl<O, P> Pending<O, P> {
    pub(super) fn new(origin: Option<O>, payload: Option<P>, bytes: usize, deadline: Instant, state: State) -> Self {
        let (order, wait_for_ready, is_copy, monitored, sender, cancelled, group, notification) = Default::default();
        Self {
            origin,
            payload,
            bytes,
            deadline,
            order,
            state,
            wait_for_ready,
            is_copy,
            monitored,
            sender,
            cancelled,
            group,
            notification,
        }
    }

    /// The part of its bytes that counts while a worker has it.
    pub(super) fn bytes_while_delivered(&self) -> usize {
        if self.is_copy { self.bytes } else { 0 }
    }
}

#[derive(Debug)]
struct Slot<O, P> {
    generation: u32,
    request: Option<Pending<O, P>>,
}

impl<O, P> Slot<O, P> {
    fn tag(&self, index: usize) -> u64 {
        u64::from(self.generation) << 32 | index as u64
    }
}

#[derive(Debug)]
pub(super) struct PendingTable<O, P> {
    slots: Vec<Slot<O, P>>,
    free: Vec<usize>,
    arrived: u64,
    in_flight: usize,
    /// The first generation of a new slot.
    first_generation: u32,
    /// Tags of the requests whose senders ask about them.
    monitored: HashMap<MessageId, u64>,
    /// Tags of the requests that their senders may cancel, and whether they are calls.
    by_sender: HashMap<(ClientId, MessageId), (u64, bool)>,
}

impl<O, P> PendingTable<O, P> {
    /// A table whose tags differ from those of a table with another number.
    pub(super) fn with_first_generation(first_generation: u32) -> Self {
        let (slots, free, arrived, in_flight, monitored, by_sender) = Default::default();
        Self { slots, free, arrived, in_flight, first_generation, monitored, by_sender }
    }

    /// Gives a request a new tag, so that late messages with the old one match nothing.
    pub(super) fn renew_tag(&mut self, tag: u64) -> u64 {
        let Some(slot) = self.slot_mut(tag).filter(|slot| slot.request.is_some()) else { return tag };
        slot.generation = slot.generation.wrapping_add(1);
        slot.tag(index(tag))
    }

    pub(super) fn insert(&mut self, mut request: Pending<O, P>) -> u64 {
        self.arrived += 1;
        self.in_flight += usize::from(request.state.is_in_flight());
        request.order = self.arrived;
        let (monitored, sender) = (request.monitored, request.sender);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.first_generation, request: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        slot.request = Some(request);
        let tag = slot.tag(index);
        if let Some(id) = monitored {
            self.monitored.insert(id, tag);
        }
        if let Some(Sender { client, id, is_call }) = sender {
            self.by_sender.insert((client, id), (tag, is_call));
        }
        tag
    }

    /// The request with this id of this client.
    pub(super) fn tag_of(&self, client: ClientId, id: MessageId) -> Option<u64> {
        self.by_sender.get(&(client, id)).map(|(tag, _)| *tag)
    }

    /// Id and tag of each call of these clients. Walks over all requests: an ordered map would make
    /// each cast 9 % slower, so the ends of many connections share one walk.
    pub(super) fn calls_of(&self, clients: &[ClientId]) -> Vec<(MessageId, u64)> {
        let clients: HashSet<_> = clients.iter().collect();
        let calls = self.by_sender.iter().filter(|((client, _), (_, is_call))| *is_call && clients.contains(client));
        calls.map(|((_, id), (tag, _))| (*id, *tag)).collect()
    }

    pub(super) fn monitored(&self, id: MessageId) -> Option<&Pending<O, P>> {
        self.get(*self.monitored.get(&id)?)
    }

    fn slot_mut(&mut self, tag: u64) -> Option<&mut Slot<O, P>> {
        self.slots.get_mut(index(tag)).filter(|slot| slot.generation == generation(tag))
    }

    pub(super) fn contains(&self, tag: u64) -> bool {
        self.get(tag).is_some()
    }

    pub(super) fn get(&self, tag: u64) -> Option<&Pending<O, P>> {
        self.slots.get(index(tag)).filter(|slot| slot.generation == generation(tag))?.request.as_ref()
    }

    /// The notification with this tag. `None` for other requests.
    pub(super) fn notification(&self, tag: u64) -> Option<&Notification> {
        self.get(tag)?.notification.as_deref()
    }

    pub(super) fn get_mut(&mut self, tag: u64) -> Option<&mut Pending<O, P>> {
        self.slot_mut(tag)?.request.as_mut()
    }

    pub(super) fn remove(&mut self, tag: u64) -> Option<Pending<O, P>> {
        let request = self.slot_mut(tag)?.request.take()?;
        self.free.push(index(tag));
        self.in_flight -= usize::from(request.state.is_in_flight());
        if let Some(id) = request.monitored.filter(|id| self.monitored.get(id) == Some(&tag)) {
            self.monitored.remove(&id);
        }
        if let Some(Sender { client, id, .. }) = request.sender
            && self.tag_of(client, id) == Some(tag)
        {
            self.by_sender.remove(&(client, id));
        }
        Some(request)
    }

    pub(super) fn set_state(&mut self, tag: u64, state: State) {
        if let Some(request) = self.get_mut(tag) {
            let before = std::mem::replace(&mut request.state, state);
            self.in_flight += usize::from(state.is_in_flight());
            self.in_flight -= usize::from(before.is_in_flight());
        }
    }

    pub(super) fn move_to_end(&mut self, tag: u64) {
        self.arrived += 1;
        let order = self.arrived;
        if let Some(request) = self.get_mut(tag) {
            request.order = order;
        }
    }

    /// Forgets the sender of a request that a worker still has.
    pub(super) fn abandon(&mut self, tag: u64, worker: WorkerId) {
        self.set_state(tag, State::Abandoned { worker });
        if let Some(request) = self.get_mut(tag) {
            request.origin = None;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The tags of all requests that match. Walks over every slot, so it is for rare events only.
    pub(super) fn tags_where(&self, wanted: impl Fn(&Pending<O, P>) -> bool) -> Vec<u64> {
        let tag_of = |(index, slot): (usize, &Slot<O, P>)| {
            slot.request.as_ref().filter(|request| wanted(request))?;
            Some(slot.tag(index))
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
    fn an_old_tag_never_matches_the_next_request_of_its_slot() {
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let mut pending: PendingTable<(), ()> = PendingTable::with_first_generation(0);
        let request = || Pending::new(Some(()), Some(()), 1, now, State::InFlight { worker: 0 });
        let first = pending.insert(request());
        assert!(pending.remove(first).is_some());
        let second = pending.insert(request());
        assert_ne!(first, second);
        assert!(pending.get(first).is_none() && pending.remove(first).is_none() && pending.contains(second));
        assert_eq!((pending.len(), pending.in_flight()), (1, 1));
        assert!(pending.get(u64::MAX).is_none());
    }
}
