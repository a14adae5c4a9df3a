//! At which node a server was last, for directories that do not say it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::{Node, NodeName, ServerName, TopicKey};

/// How many servers are remembered, above those that have messages on their way.
const MAX_SERVERS: usize = 10_000;

/// The servers that this client has addressed, shared by all its messages.
#[derive(Debug)]
pub(crate) struct Whereabouts(Mutex<Servers>);

#[derive(Debug)]
struct Servers {
    known: HashMap<(TopicKey, ServerName), Arc<Whereabout>>,
    numbers: u64,
    /// Those that no message needs are forgotten when there are so many.
    most: usize,
}

/// One server of a topic. Whoever has a message for it holds it, so its number is its own as long as it matters.
#[derive(Debug)]
pub(crate) struct Whereabout {
    number: u64,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    node: NodeName,
    /// Where it stood among the candidates, and most likely still stands.
    position: usize,
}

impl Default for Whereabouts {
    fn default() -> Self {
        Self(Mutex::new(Servers { known: HashMap::new(), numbers: 0, most: MAX_SERVERS }))
    }
}

impl Whereabouts {
    pub(crate) fn of(&self, key: TopicKey, server: &ServerName) -> Arc<Whereabout> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (key, server.clone());
        if let Some(known) = servers.known.get(&name) {
            return Arc::clone(known);
        }
        if servers.known.len() >= servers.most {
            servers.known.retain(|_, server| Arc::strong_count(server) > 1);
            servers.most = MAX_SERVERS.max(2 * servers.known.len());
        }
        servers.numbers += 1;
        let new = Arc::new(Whereabout { number: servers.numbers, seen: Mutex::default() });
        servers.known.insert(name, Arc::clone(&new));
        new
    }
}

impl Whereabout {
    /// Tells the servers of a client apart.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The position of the node where it was last, if that is still one of the candidates.
    pub(crate) fn among(&self, candidates: &Candidates) -> Option<usize> {
        let mut seen = self.lock();
        let Seen { node, position } = seen.as_mut()?;
        if candidates.get(*position).is_none_or(|at| at.name != *node) {
            let Some(found) = candidates.iter().position(|at| at.name == *node) else {
                *seen = None;
                return None;
            };
            *position = found;
        }
        Some(*position)
    }

    pub(crate) fn found(&self, node: &Node, position: usize) {
        let mut seen = self.lock();
        if seen.as_ref().is_none_or(|seen| seen.node != node.name) {
            *seen = Some(Seen { node: node.name.clone(), position });
        }
    }

    /// It is not at this node, or not any more.
    pub(crate) fn missed(&self, node: &Node) {
        let mut seen = self.lock();
        if seen.as_ref().is_some_and(|seen| seen.node == node.name) {
            *seen = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_matchmaker::{PlacedNode, Placement};

    use super::*;

    fn candidates(names: &[&str]) -> Candidates {
        let node = |name: &&str| Node::new(name.parse().unwrap(), name.parse().unwrap());
        Arc::new(Placement::new(names.iter().map(node).map(PlacedNode::unlisted).collect())).candidates(None)
    }

    fn at(whereabouts: &Whereabouts, server: &str) -> Arc<Whereabout> {
        whereabouts.of(TopicKey::parse("x/t").unwrap(), &server.parse().unwrap())
    }

    #[test]
    fn a_server_is_where_it_was_found_until_it_is_missed_there_or_the_node_goes() {
        let (whereabouts, nodes) = (Whereabouts::default(), candidates(&["a", "b", "c"]));
        let server = at(&whereabouts, "s");
        assert_eq!(server.among(&nodes), None);
        server.found(nodes.get(1).unwrap(), 1);
        assert_eq!(at(&whereabouts, "s").among(&nodes), Some(1));
        assert_eq!(at(&whereabouts, "other").among(&nodes), None);
        assert_eq!(server.among(&candidates(&["b", "a"])), Some(0), "the directory has changed its order");
        server.missed(nodes.get(0).unwrap());
        assert_eq!(server.among(&nodes), Some(1), "missed where it is not");
        server.missed(nodes.get(1).unwrap());
        assert_eq!(server.among(&nodes), None);
        server.found(nodes.get(1).unwrap(), 1);
        assert_eq!(server.among(&candidates(&["a", "c"])), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_in_use_is_kept() {
        let whereabouts = Whereabouts::default();
        let used = at(&whereabouts, "used");
        for number in 0..2 * MAX_SERVERS {
            at(&whereabouts, &format!("s{number}"));
        }
        assert!(whereabouts.0.lock().unwrap().known.len() <= MAX_SERVERS);
        assert_eq!(at(&whereabouts, "used").number(), used.number());
    }
}
