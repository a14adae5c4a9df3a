//! The links that are still to be opened. A server may have 4,096 workers, and to open a link takes
//! longer than to route a message. So the loop opens a few in each turn, for each server in turn.

use std::collections::{HashMap, VecDeque};

use zmqv2_proto::InstanceId;

use crate::engine::WorkerId;

/// Links that are opened, and links that are closed, in one turn of the loop: about one millisecond.
pub(super) const LINKS_PER_TURN: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) worker: WorkerId,
    pub(super) instance: InstanceId,
    pub(super) index: u16,
    pub(super) shared: bool,
}

#[derive(Debug, Default)]
pub(super) struct OpeningLinks {
    by_server: VecDeque<(InstanceId, VecDeque<(u64, Opening)>)>,
    /// The links that are still wanted. The number of a worker may be used again for another
    /// server, so each has a number of its own.
    wanted: HashMap<WorkerId, u64>,
    next: u64,
}

impl OpeningLinks {
    pub(super) fn add(&mut self, opening: Opening) {
        self.next += 1;
        self.wanted.insert(opening.worker, self.next);
        let entry = (self.next, opening);
        // The links of a server come one after the other.
        match self.by_server.back_mut().filter(|(instance, _)| *instance == opening.instance) {
            Some((_, links)) => links.push_back(entry),
            None => self.by_server.push_back((opening.instance, VecDeque::from([entry]))),
        }
    }

    /// Forgets a link. Returns false if it is not here, because it is open.
    pub(super) fn cancel(&mut self, worker: WorkerId) -> bool {
        self.wanted.remove(&worker).is_some()
    }

    /// The link to open next in a turn of the loop that has opened `opened` links. `None`: the turn
    /// has opened enough, or no link is left.
    pub(super) fn next_in_turn(&mut self, opened: usize) -> Option<Opening> {
        if opened < LINKS_PER_TURN { self.next() } else { None }
    }

    /// The link to open next: each server in turn.
    fn next(&mut self) -> Option<Opening> {
        while let Some((instance, mut links)) = self.by_server.pop_front() {
            let wanted = &mut self.wanted;
            let found = std::iter::from_fn(|| links.pop_front()).find(|(number, opening)| {
                let is_wanted = wanted.get(&opening.worker) == Some(number);
                if is_wanted {
                    wanted.remove(&opening.worker);
                }
                is_wanted
            });
            if !links.is_empty() {
                self.by_server.push_back((instance, links));
            }
            if let Some((_, opening)) = found {
                return Some(opening);
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_server.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(server: u8) -> InstanceId {
        InstanceId::from_bytes([server; 16])
    }

    fn add(opening: &mut OpeningLinks, server: u8, workers: std::ops::Range<usize>) {
        for (index, worker) in workers.enumerate() {
            opening.add(Opening { worker, instance: instance(server), index: index as u16, shared: false });
        }
    }

    #[test]
    fn a_small_server_does_not_wait_for_a_large_one() {
        let mut opening = OpeningLinks::default();
        add(&mut opening, 1, 0..4096);
        add(&mut opening, 2, 4096..4098);
        let first: Vec<u8> =
            (0..6).filter_map(|_| opening.next()).map(|opening| opening.instance.as_bytes()[0]).collect();
        assert_eq!(first, [1, 2, 1, 2, 1, 1]);
        assert_eq!(std::iter::from_fn(|| opening.next()).count(), 4098 - 6);
        assert!(opening.is_empty() && opening.wanted.is_empty());
    }

    #[test]
    fn a_turn_of_the_loop_opens_few_links() {
        let mut opening = OpeningLinks::default();
        add(&mut opening, 1, 0..4096);
        let opened = (0..).map_while(|opened| opening.next_in_turn(opened)).count();
        assert_eq!((opened, opening.wanted.len()), (LINKS_PER_TURN, 4096 - LINKS_PER_TURN));
    }

    #[test]
    fn a_forgotten_link_is_not_opened_even_if_its_number_is_used_again() {
        let mut opening = OpeningLinks::default();
        add(&mut opening, 1, 0..3);
        assert!(opening.next().is_some_and(|opening| opening.worker == 0));
        // The first one is open.
        assert_eq!([0, 1, 2].map(|worker| opening.cancel(worker)), [false, true, true]);
        add(&mut opening, 2, 1..2);
        let next = opening.next().unwrap();
        assert_eq!((next.worker, next.instance), (1, instance(2)));
        assert_eq!((opening.next(), opening.is_empty()), (None, true));
    }
}
