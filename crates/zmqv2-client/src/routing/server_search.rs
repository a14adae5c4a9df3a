//! Searches for one server that may be at several nodes.

use std::sync::Arc;

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::Node;

use crate::delivery::attempt::SearchPlan;
use crate::routing::destinations::Order;
use crate::routing::server_locations::ServerLocation;

/// The nodes that may have the server, in the order in which they are asked. There may be thousands
/// of nodes and of messages, so a message has no list of its own.
#[derive(Debug)]
pub(crate) struct ServerSearch {
    server: Arc<ServerLocation>,
    candidates: Candidates,
    order: SearchOrder,
    /// The position that was asked last.
    asked: Option<usize>,
}

#[derive(Debug)]
enum SearchOrder {
    /// Only this position.
    Only(usize),
    /// All positions, from the first one on.
    Round { first: usize, order: Order },
}

impl ServerSearch {
    pub(crate) fn new(server: Arc<ServerLocation>, candidates: Candidates) -> Self {
        Self { server, candidates, order: SearchOrder::Round { first: 0, order: Order::default() }, asked: None }
    }

    /// The number of the server, unique within a client.
    pub(crate) fn number(&self) -> u64 {
        self.server.number
    }

    pub(crate) fn has_candidates(&self) -> bool {
        !self.candidates.is_empty()
    }

    pub(crate) fn renew(&mut self, candidates: Candidates) {
        (self.candidates, self.asked) = (candidates, None);
    }

    /// Plans the next round. If the last known node is not to be avoided, it is asked alone. Else
    /// all are asked, from the one after the last one or from the one whose turn it is. Nodes to
    /// `avoid` come last.
    pub(crate) fn plan(&mut self, turn: impl FnOnce() -> usize, avoid: Option<&dyn Fn(&Node) -> bool>) -> SearchPlan {
        let count = self.candidates.len();
        let avoided = |position: usize| avoid.is_some_and(|avoid| self.candidates.get(position).is_some_and(avoid));
        if count <= 1 {
            self.order = SearchOrder::Only(0);
            return SearchPlan { known: true, ..SearchPlan::among(count) };
        }
        if let Some(position) = self.server.position_in(&self.candidates).filter(|position| !avoided(*position)) {
            self.order = SearchOrder::Only(position);
            return SearchPlan { known: true, has_alternatives: true, ..SearchPlan::among(1) };
        }
        let first = self.asked.map_or_else(turn, |asked| asked + 1) % count;
        let order = match avoid {
            Some(_) => Order::avoiding(count, count, |rank| avoided((first + rank) % count)),
            None => Order::default(),
        };
        self.order = SearchOrder::Round { first, order };
        SearchPlan::among(count)
    }

    /// Whether the server cannot be at another node.
    pub(crate) fn is_certain(&self) -> bool {
        self.candidates.len() <= 1
    }

    /// The node with this number in the present order.
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

    /// Remembers whether the server is at the node that was asked last.
    pub(crate) fn note_server(&self, is_there: bool) {
        match (self.asked(), self.asked) {
            (Some(node), Some(position)) if is_there && self.candidates.len() > 1 => self.server.found(node, position),
            (Some(node), _) if !is_there => self.server.not_found(node),
            _ => {}
        }
    }

    fn position(&self, number: usize) -> Option<usize> {
        let count = self.candidates.len();
        match &self.order {
            SearchOrder::Only(position) => Some(*position),
            SearchOrder::Round { first, order } => Some((first + order.position(number, count)?) % count),
        }
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_matchmaker::{PlacedNode, Placement};
    use zmqv2_proto::TopicKey;

    use super::*;
    use crate::routing::server_locations::ServerLocations;

    fn search(names: &[&str]) -> ServerSearch {
        let node = |name: &&str| Node::new(name.parse().unwrap(), name.parse().unwrap());
        let placement = Arc::new(Placement::new(names.iter().map(node).map(PlacedNode::unlisted).collect()));
        let server = ServerLocations::default().location_of(TopicKey::parse("x/t").unwrap(), &"s".parse().unwrap());
        ServerSearch::new(server, placement.candidates(None))
    }

    fn order(search: &mut ServerSearch, turn: usize, avoid: &[&str]) -> String {
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
    fn the_last_location_is_asked_alone_until_the_server_is_not_found_there() {
        let mut search = search(&["a", "b", "c"]);
        assert_eq!(order(&mut search, 0, &[]), "abc");
        search.ask(1);
        search.note_server(true);
        let again = search.plan(|| 0, None);
        assert_eq!(again, SearchPlan { known: true, has_alternatives: true, ..SearchPlan::among(1) });
        assert_eq!(search.node(0).unwrap().name.as_str(), "b");
        assert_eq!(order(&mut search, 0, &["b"]), "cab", "not while it cannot be reached");
        search.note_server(false);
        assert_eq!(order(&mut search, 0, &[]), "cab", "the one that was asked last comes last");
    }
}
