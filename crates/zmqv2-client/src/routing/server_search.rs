//! The way of a message to one server, which is at one of several nodes, and nobody but they can tell at which.

use std::sync::Arc;

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::Node;

use crate::delivery::table::SearchPlan;
use crate::routing::server_locations::Whereabout;

/// The nodes that may have the server, in the order in which they are asked. They may be thousands, and so may the
/// messages, so none has a list of its own.
#[derive(Debug)]
pub(crate) struct Search {
    server: Arc<Whereabout>,
    candidates: Candidates,
    order: Order,
    /// The position that was asked last.
    asked: Option<usize>,
}

#[derive(Debug)]
enum Order {
    /// This position alone.
    Only(usize),
    /// Round from the first one. `late` ones of the round, in ascending order, come after all others.
    Round { first: usize, late: Vec<usize> },
}

impl Search {
    pub(crate) fn new(server: Arc<Whereabout>, candidates: Candidates) -> Self {
        Self { server, candidates, order: Order::Round { first: 0, late: Vec::new() }, asked: None }
    }

    /// Tells apart the servers that a client searches for.
    pub(crate) fn number(&self) -> u64 {
        self.server.number()
    }

    pub(crate) fn renew(&mut self, candidates: Candidates) {
        (self.candidates, self.asked) = (candidates, None);
    }

    /// Chooses whom to ask: the node where the server was last; else all, beginning after the one that was asked last, or
    /// with the one whose turn it is. Those to `avoid` come last.
    pub(crate) fn plan(&mut self, turn: impl FnOnce() -> usize, avoid: Option<&dyn Fn(&Node) -> bool>) -> SearchPlan {
        let count = self.candidates.len();
        let avoided = |position: usize| avoid.is_some_and(|avoid| self.candidates.get(position).is_some_and(avoid));
        if count <= 1 {
            self.order = Order::Only(0);
            return SearchPlan { candidates: count, known: true, has_alternatives: false };
        }
        if let Some(position) = self.server.among(&self.candidates).filter(|position| !avoided(*position)) {
            self.order = Order::Only(position);
            return SearchPlan { candidates: 1, known: true, has_alternatives: true };
        }
        let first = self.asked.map_or_else(turn, |asked| asked + 1) % count;
        let late =
            if avoid.is_some() { (0..count).filter(|rank| avoided((first + rank) % count)).collect() } else { vec![] };
        self.order = Order::Round { first, late };
        SearchPlan { candidates: count, known: false, has_alternatives: false }
    }

    /// The node with this number in the order of now.
    pub(crate) fn node(&self, number: usize) -> Option<&Node> {
        self.candidates.get(self.position(number)?)
    }

    /// The node with this number is asked.
    pub(crate) fn ask(&mut self, number: usize) {
        self.asked = self.position(number);
    }

    /// The node that was asked last.
    pub(crate) fn asked(&self) -> Option<&Node> {
        self.candidates.get(self.asked?)
    }

    /// The server is at the node that was asked last.
    pub(crate) fn found(&self) {
        if let Some(node) = self.asked() {
            self.found_at(node);
        }
    }

    /// The server is not at the node that was asked last.
    pub(crate) fn missed(&self) {
        if let Some(node) = self.asked() {
            self.missed_at(node);
        }
    }

    /// The server is at this one of the nodes.
    pub(crate) fn found_at(&self, node: &Node) {
        if self.candidates.len() > 1 {
            self.server.found(node, self.asked.unwrap_or_default());
        }
    }

    /// The server is not at this one of the nodes.
    pub(crate) fn missed_at(&self, node: &Node) {
        self.server.missed(node);
    }

    fn position(&self, number: usize) -> Option<usize> {
        let count = self.candidates.len();
        match &self.order {
            Order::Only(position) => Some(*position),
            Order::Round { .. } if number >= count => None,
            Order::Round { first, late } => {
                let early = count - late.len();
                let rank = match number.checked_sub(early) {
                    Some(nth) => *late.get(nth)?,
                    None => late.iter().fold(number, |rank, late| rank + usize::from(*late <= rank)),
                };
                Some((first + rank) % count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_matchmaker::{PlacedNode, Placement};
    use zmqv2_proto::TopicKey;

    use super::*;
    use crate::routing::server_locations::Whereabouts;

    fn search(names: &[&str]) -> Search {
        let node = |name: &&str| Node::new(name.parse().unwrap(), name.parse().unwrap());
        let placement = Arc::new(Placement::new(names.iter().map(node).map(PlacedNode::unlisted).collect()));
        let server = Whereabouts::default().of(TopicKey::parse("x/t").unwrap(), &"s".parse().unwrap());
        Search::new(server, placement.candidates(None))
    }

    fn order(search: &mut Search, turn: usize, avoid: &[&str]) -> String {
        let plan = search.plan(|| turn, Some(&|node: &Node| avoid.contains(&node.name.as_str())));
        assert!(search.node(plan.candidates.max(1)).is_none() || plan.known);
        (0..plan.candidates).map(|number| search.node(number).unwrap().name.to_string()).collect()
    }

    #[test]
    fn every_node_is_asked_once_and_those_to_avoid_come_last() {
        let mut search = search(&["a", "b", "c", "d", "e"]);
        assert_eq!(order(&mut search, 0, &[]), "abcde");
        assert_eq!(order(&mut search, 8, &[]), "deabc");
        assert_eq!(order(&mut search, 1, &["b", "c", "a"]), "debca");
        assert_eq!(order(&mut search, 2, &["a", "b", "c", "d", "e"]), "cdeab");
    }

    #[test]
    fn where_it_was_last_is_asked_alone_until_it_is_missed_there() {
        let mut search = search(&["a", "b", "c"]);
        assert_eq!(order(&mut search, 0, &[]), "abc");
        search.ask(1);
        search.found();
        let again = search.plan(|| 0, None);
        assert_eq!(again, SearchPlan { candidates: 1, known: true, has_alternatives: true });
        assert_eq!(search.node(0).unwrap().name.as_str(), "b");
        assert_eq!(order(&mut search, 0, &["b"]), "cab", "not while it cannot be reached");
        search.missed();
        assert_eq!(order(&mut search, 0, &[]), "cab", "the one that was asked last comes last");
    }
}
