//! The nodes of a topic as one immutable snapshot, and the rule by which nodes are chosen from it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use zmqv2_proto::{Node, NodeName, ServerName, Zone};

/// A node that hosts a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedNode {
    /// The node.
    pub node: Node,
    /// The topic's servers there. Empty: the directory does not list them, only the node knows.
    pub servers: Vec<ServerName>,
}

impl PlacedNode {
    /// A node whose servers the directory does not list.
    #[must_use]
    pub fn unlisted(node: Node) -> Self {
        Self { node, servers: Vec::new() }
    }
}

/// Whether a list of nodes names every node.
///
/// A directory that has lost data, or that brokers could not write to, does not know all servers. It
/// still gives what it has. Whoever needs *any* server uses that. Whoever needs *all* servers, or one
/// that is not listed, must know that the list may lack some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Completeness {
    /// The list names every node, as far as the directory can know.
    #[default]
    Complete,
    /// The list may lack nodes. This may pass by itself.
    Incomplete {
        /// The reason in one line, such as "renewals are refused".
        reason: Arc<str>,
    },
}

impl Completeness {
    /// A list that may lack nodes, for this reason.
    #[must_use]
    pub fn incomplete(reason: impl Into<Arc<str>>) -> Self {
        Self::Incomplete { reason: reason.into() }
    }

    /// Whether the list names every node.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// Why the list may lack nodes. `None`: it is complete.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Complete => None,
            Self::Incomplete { reason } => Some(reason),
        }
    }
}

/// All nodes that host one topic. Immutable, so that one allocation serves every message until the
/// topic changes.
///
/// A placement that may lack nodes [says so](Self::completeness).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placement {
    // Shared by placements that differ only in their completeness.
    nodes: Arc<NodeSet>,
    completeness: Completeness,
}

#[derive(Debug, Default)]
struct NodeSet {
    nodes: Vec<PlacedNode>,
    // Made by the first request for one server. Most topics have no such request.
    index: OnceLock<Index>,
    // Made by the first request with a zone. A process is in one zone.
    near: OnceLock<(Zone, Nearness)>,
}

/// Positions in `Placement::nodes`: those of one zone, and all others.
#[derive(Debug, Clone)]
struct Nearness {
    near: Arc<[usize]>,
    far: Arc<[usize]>,
}

impl Nearness {
    fn new(nodes: &[PlacedNode], zone: &Zone) -> Self {
        let (near, far): (Vec<_>, Vec<_>) =
            (0..nodes.len()).partition(|place| nodes[*place].node.zone.as_ref() == Some(zone));
        Self { near: near.into(), far: far.into() }
    }
}

impl Placement {
    /// A placement of these nodes, in this order. Later entries of the same name are dropped,
    /// because a node that is listed twice would get every fanout twice.
    #[must_use]
    pub fn new(mut nodes: Vec<PlacedNode>) -> Self {
        let mut seen = HashSet::with_capacity(nodes.len());
        nodes.retain(|placed| seen.insert(placed.node.name.clone()));
        let nodes = NodeSet { nodes, index: OnceLock::new(), near: OnceLock::new() };
        Self { nodes: Arc::new(nodes), completeness: Completeness::Complete }
    }

    /// The same nodes with this mark. Copies no node.
    #[must_use]
    pub fn marked(&self, completeness: Completeness) -> Self {
        Self { nodes: Arc::clone(&self.nodes), completeness }
    }

    /// Whether these are all nodes of the topic. [`new`](Self::new) makes complete placements.
    #[must_use]
    pub fn completeness(&self) -> &Completeness {
        &self.completeness
    }

    /// The nodes, in the directory's order.
    #[must_use]
    pub fn nodes(&self) -> &[PlacedNode] {
        &self.nodes.nodes
    }

    /// Whether no node hosts the topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes().is_empty()
    }

    /// The nodes that may host `server`, or any server of the topic for `None`.
    ///
    /// For a server, the first rule that yields a node decides:
    /// 1. the nodes that list the server;
    /// 2. the node with the *name* of the server, if it lists no servers (in the legacy driver, a
    ///    server had the name of its host);
    /// 3. the nodes that list no servers, because only they know.
    ///
    /// So a node that lists other servers is never asked for this one.
    #[must_use]
    pub fn candidates(self: &Arc<Self>, server: Option<&ServerName>) -> Candidates {
        let chosen = server.map(|server| self.nodes.index.get_or_init(|| Index::new(self.nodes())).places_of(server));
        Candidates { placement: Arc::clone(self), chosen }
    }

    fn nearness(&self, zone: &Zone) -> Nearness {
        let (known, nearness) = self.nodes.near.get_or_init(|| (zone.clone(), Nearness::new(self.nodes(), zone)));
        if known == zone { nearness.clone() } else { Nearness::new(self.nodes(), zone) }
    }
}

impl PartialEq for NodeSet {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.nodes == other.nodes
    }
}

impl Eq for NodeSet {}

/// Some or all nodes of a [`Placement`], without a copy of any.
#[derive(Debug, Clone)]
pub struct Candidates {
    placement: Arc<Placement>,
    /// Positions in `Placement::nodes`. `None`: all nodes.
    chosen: Option<Arc<[usize]>>,
}

impl Candidates {
    /// The number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chosen.as_ref().map_or(self.placement.nodes().len(), |places| places.len())
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the placement names every node of the topic.
    #[must_use]
    pub fn completeness(&self) -> &Completeness {
        self.placement.completeness()
    }

    /// The nodes, in the directory's order.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        (0..self.len()).filter_map(|position| self.get(position))
    }

    /// The node at this position of [`iter`](Self::iter), in constant time.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<&Node> {
        let place = match &self.chosen {
            None => position,
            Some(places) => *places.get(position)?,
        };
        self.placement.nodes().get(place).map(|placed| &placed.node)
    }

    /// Every node once, starting with the `turn`-th modulo their number. The nodes of `zone` come
    /// first; both groups start with their own `turn`-th. Candidates for one server are not
    /// reordered.
    pub fn iter_near<'a>(&'a self, turn: usize, zone: Option<&Zone>) -> impl Iterator<Item = &'a Node> + use<'a> {
        let nearness = self.nearness(zone);
        (0..self.len()).filter_map(move |nth| self.get(self.position(turn, nearness.as_ref(), nth)?))
    }

    /// The node at position `nth` of [`iter_near`](Self::iter_near), in constant time.
    #[must_use]
    pub fn get_near(&self, turn: usize, zone: Option<&Zone>, nth: usize) -> Option<&Node> {
        if nth >= self.len() {
            return None;
        }
        self.get(self.position(turn, self.nearness(zone).as_ref(), nth)?)
    }

    fn nearness(&self, zone: Option<&Zone>) -> Option<Nearness> {
        zone.filter(|_| self.chosen.is_none()).map(|zone| self.placement.nearness(zone))
    }

    fn position(&self, turn: usize, nearness: Option<&Nearness>, nth: usize) -> Option<usize> {
        let pick = |list: &[usize], nth: usize| list.get((turn % list.len().max(1) + nth) % list.len().max(1)).copied();
        match nearness {
            None => (turn % self.len()).checked_add(nth)?.checked_rem(self.len()),
            Some(Nearness { near, .. }) if nth < near.len() => pick(near, nth),
            Some(Nearness { near, far }) => pick(far, nth - near.len()),
        }
    }
}

/// The positions in `Placement::nodes` where a server may be.
#[derive(Debug)]
struct Index {
    listed: HashMap<ServerName, Arc<[usize]>>,
    namesakes: HashMap<NodeName, Arc<[usize]>>,
    unlisted: Arc<[usize]>,
}

impl Index {
    fn new(nodes: &[PlacedNode]) -> Self {
        let mut listed: HashMap<ServerName, Vec<usize>> = HashMap::new();
        let mut namesakes = HashMap::new();
        let mut unlisted = Vec::new();
        for (place, placed) in nodes.iter().enumerate() {
            if placed.servers.is_empty() {
                namesakes.insert(placed.node.name.clone(), Arc::from([place]));
                unlisted.push(place);
            }
            for server in &placed.servers {
                let places = listed.entry(server.clone()).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        let listed = listed.into_iter().map(|(server, places)| (server, places.into())).collect();
        Self { listed, namesakes, unlisted: unlisted.into() }
    }

    fn places_of(&self, server: &ServerName) -> Arc<[usize]> {
        let places = self.listed.get(server).or_else(|| self.namesakes.get(server.as_str()));
        Arc::clone(places.unwrap_or(&self.unlisted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(name: &str, servers: &[&str]) -> PlacedNode {
        PlacedNode {
            node: Node::new(name.parse().unwrap(), name.parse().unwrap()),
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
        }
    }

    fn names(placement: &Arc<Placement>, server: &str) -> Vec<String> {
        let server = server.parse().unwrap();
        placement.candidates(Some(&server)).iter().map(|node| node.name.to_string()).collect()
    }

    #[test]
    fn a_listed_server_is_only_where_it_is_listed_rg01() {
        let placement =
            Arc::new(Placement::new(vec![placed("n1", &["s1"]), placed("n2", &["s2", "s1"]), placed("n3", &[])]));
        assert_eq!(names(&placement, "s2"), ["n2"]);
        assert_eq!(names(&placement, "s1"), ["n1", "n2"]);
        assert_eq!(names(&placement, "s9"), ["n3"], "only n3 lists no servers");
    }

    #[test]
    fn an_unknown_server_is_nowhere_when_every_node_lists_its_servers_rg02() {
        let placement = Arc::new(Placement::new(vec![placed("n1", &["s1"]), placed("n2", &["s2"])]));
        assert!(placement.candidates(Some(&"s9".parse().unwrap())).is_empty());
        assert!(names(&placement, "n1").is_empty(), "n1 lists its servers, and n1 is not among them");
    }

    #[test]
    fn a_server_named_like_a_node_is_there_alone() {
        let placement = Arc::new(Placement::new(vec![placed("h1", &[]), placed("h2", &[])]));
        assert_eq!(names(&placement, "h2"), ["h2"]);
        assert_eq!(names(&placement, "host@backend"), ["h1", "h2"]);
    }

    #[test]
    fn a_node_counts_once_rg04() {
        let placement = Arc::new(Placement::new(vec![placed("h1", &[]), placed("h1", &["s"])]));
        assert_eq!(placement.candidates(None).len(), 1);
    }

    #[test]
    fn a_mark_copies_no_node_and_makes_another_placement() {
        let complete = Placement::new(vec![placed("a", &[])]);
        let marked = complete.marked(Completeness::incomplete("a failover"));
        assert!(std::ptr::eq(complete.nodes(), marked.nodes()) && complete != marked);
        assert_eq!((complete.completeness().reason(), marked.completeness().reason()), (None, Some("a failover")));
        assert_eq!(Arc::new(marked).candidates(None).completeness().reason(), Some("a failover"));
    }

    #[test]
    fn iteration_goes_round_once_from_any_turn() {
        let placement = Arc::new(Placement::new(vec![placed("a", &[]), placed("b", &[]), placed("c", &[])]));
        let all = placement.candidates(None);
        let from = |turn| all.iter_near(turn, None).map(|node| node.name.as_str()).collect::<String>();
        assert_eq!([from(0), from(1), from(5), from(usize::MAX)], ["abc", "bca", "cab", "abc"]);
        assert_eq!(all.get(1).map(|node| node.name.as_str()), Some("b"));
        assert!(all.get(3).is_none());
    }

    #[test]
    fn the_own_zone_comes_first_and_both_groups_take_turns() {
        let in_zone = |(name, zone): (&str, &str)| {
            let mut placed = placed(name, &["s"]);
            placed.node.zone = (!zone.is_empty()).then(|| zone.parse().unwrap());
            placed
        };
        let nodes = [("a", "x"), ("b", "y"), ("c", "x"), ("d", ""), ("e", "y")].map(in_zone);
        let placement = Arc::new(Placement::new(nodes.to_vec()));
        let all = placement.candidates(None);
        let order = |turn, zone: &str| {
            let zone = zone.parse().ok();
            let nodes: Vec<&Node> = all.iter_near(turn, zone.as_ref()).collect();
            let each: Vec<&Node> = (0..6).filter_map(|nth| all.get_near(turn, zone.as_ref(), nth)).collect();
            assert_eq!(nodes, each);
            nodes.into_iter().map(|node| node.name.as_str()).collect::<String>()
        };
        assert_eq!([order(0, "x"), order(1, "x"), order(2, "x")], ["acbde", "cadeb", "acebd"]);
        assert_eq!([order(0, "y"), order(usize::MAX, "y")], ["beacd", "ebacd"], "another zone than the first one");
        assert_eq!([order(3, ""), order(3, "z")], ["deabc", "deabc"], "without a zone, or alone in it");
        let one = placement.candidates(Some(&"s".parse().unwrap()));
        assert_eq!(
            one.iter_near(1, Some(&"x".parse().unwrap())).map(|node| node.name.as_str()).collect::<String>(),
            "bcdea"
        );
        assert_eq!(Arc::new(Placement::default()).candidates(None).iter_near(7, None).count(), 0);
    }
}
