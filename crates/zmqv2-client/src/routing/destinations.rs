//! The nodes that may take a message, in the order in which they are asked.

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::{Address, NodeName};

/// A node that may take a message.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) node: NodeName,
    pub(crate) address: Address,
}

/// The nodes that may take a message. There may be thousands of nodes and of messages, so a message
/// has no list of its own.
#[derive(Debug)]
pub(crate) enum Destinations {
    /// A short list.
    Listed(Vec<Destination>),
    /// All nodes of a topic: those of the zone of this client first. Each group starts with the
    /// node whose turn it is.
    Near { candidates: Candidates, turn: usize, order: Order },
}

impl Destinations {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Listed(destinations) => destinations.len(),
            Self::Near { candidates, .. } => candidates.len(),
        }
    }
}

/// The order of positions from 0, except that some positions come last. They are kept in ascending
/// order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: Vec<usize>,
}

impl Order {
    /// Moves the positions that `avoid` names to the end. It looks until it has found `enough`
    /// others.
    pub(crate) fn avoiding(count: usize, enough: usize, mut avoid: impl FnMut(usize) -> bool) -> Self {
        let (mut last, mut others) = (Vec::new(), 0);
        for position in 0..count {
            if avoid(position) {
                last.push(position);
            } else {
                others += 1;
                if others >= enough {
                    break;
                }
            }
        }
        // If all are to be avoided, the order stays the same.
        Self { last: if others > 0 { last } else { Vec::new() } }
    }

    /// The position with this number in the order.
    pub(crate) fn position(&self, number: usize, count: usize) -> Option<usize> {
        if number >= count {
            return None;
        }
        match number.checked_sub(count - self.last.len()) {
            Some(nth) => self.last.get(nth).copied(),
            None => Some(self.last.iter().fold(number, |position, last| position + usize::from(*last <= position))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_to_avoid_come_last_and_each_comes_once() {
        let order = |count, enough, avoid: &[usize]| {
            let order = Order::avoiding(count, enough, |position| avoid.contains(&position));
            assert_eq!(order.position(count, count), None);
            (0..count).map(|number| order.position(number, count).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(order(5, 9, &[]), [0, 1, 2, 3, 4]);
        assert_eq!(order(5, 9, &[0, 2, 3]), [1, 4, 0, 2, 3]);
        assert_eq!(order(5, 9, &[0, 1, 2, 3, 4]), [0, 1, 2, 3, 4]);
        // Position 4 is behind enough others.
        assert_eq!(order(6, 2, &[1, 4]), [0, 2, 3, 4, 5, 1]);
    }

    #[test]
    fn an_order_that_avoids_nothing_has_no_list() {
        assert_eq!(Order::avoiding(1_000, 8, |_| false).last.capacity(), 0);
    }
}
