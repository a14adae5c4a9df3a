//! Remembers the node of each server, for directories that do not list servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::{Node, NodeName, ServerName, TopicKey};

/// The most servers that are remembered, beside those with pending messages.
const MAX_SERVERS: usize = 10_000;

/// The servers that this client has sent to. All its messages share them.
#[derive(Debug)]
pub(crate) struct ServerLocations(Mutex<Servers>);

#[derive(Debug)]
struct Servers {
    known: HashMap<(TopicKey, ServerName), Arc<ServerLocation>>,
    numbers: u64,
    /// When this many are known, those without pending messages are forgotten.
    most: usize,
}

/// One server of a topic. Its messages hold it, so its number is unique while they are pending.
#[derive(Debug)]
pub(crate) struct ServerLocation {
    /// The number of the server, unique within a client.
    pub(super) number: u64,
    last_seen: Mutex<Option<LastSeen>>,
}

#[derive(Debug)]
struct LastSeen {
    node: NodeName,
    /// Its position among the candidates, which may have changed.
    position: usize,
}

impl Default for ServerLocations {
    fn default() -> Self {
        Self(Mutex::new(Servers { known: HashMap::new(), numbers: 0, most: MAX_SERVERS }))
    }
}

impl ServerLocations {
    pub(crate) fn location_of(&self, key: TopicKey, server: &ServerName) -> Arc<ServerLocation> {
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
        let new = Arc::new(ServerLocation { number: servers.numbers, last_seen: Mutex::default() });
        servers.known.insert(name, Arc::clone(&new));
        new
    }
}

impl ServerLocation {
    /// The position of its last known node, if that is still a candidate.
    pub(crate) fn position_in(&self, candidates: &Candidates) -> Option<usize> {
        let mut last_seen = self.lock();
        let LastSeen { node, position } = last_seen.as_mut()?;
        if candidates.get(*position).is_none_or(|at| at.name != *node) {
            let Some(found) = candidates.iter().position(|at| at.name == *node) else {
                *last_seen = None;
                return None;
            };
            *position = found;
        }
        Some(*position)
    }

    pub(crate) fn found(&self, node: &Node, position: usize) {
        let mut last_seen = self.lock();
        if last_seen.as_ref().is_none_or(|last_seen| last_seen.node != node.name) {
            *last_seen = Some(LastSeen { node: node.name.clone(), position });
        }
    }

    /// The server is not at this node, or not any more.
    pub(crate) fn not_found(&self, node: &Node) {
        let mut last_seen = self.lock();
        if last_seen.as_ref().is_some_and(|last_seen| last_seen.node == node.name) {
            *last_seen = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<LastSeen>> {
        self.last_seen.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn at(locations: &ServerLocations, server: &str) -> Arc<ServerLocation> {
        locations.location_of(TopicKey::parse("x/t").unwrap(), &server.parse().unwrap())
    }

    #[test]
    fn a_server_stays_where_it_was_found_until_it_is_not_found_there_or_the_node_leaves() {
        let (locations, nodes) = (ServerLocations::default(), candidates(&["a", "b", "c"]));
        let server = at(&locations, "s");
        assert_eq!(server.position_in(&nodes), None);
        server.found(nodes.get(1).unwrap(), 1);
        assert_eq!(at(&locations, "s").position_in(&nodes), Some(1));
        assert_eq!(at(&locations, "other").position_in(&nodes), None);
        assert_eq!(server.position_in(&candidates(&["b", "a"])), Some(0), "the directory has changed its order");
        server.not_found(nodes.get(0).unwrap());
        assert_eq!(server.position_in(&nodes), Some(1), "missed where it is not");
        server.not_found(nodes.get(1).unwrap());
        assert_eq!(server.position_in(&nodes), None);
        server.found(nodes.get(1).unwrap(), 1);
        assert_eq!(server.position_in(&candidates(&["a", "c"])), None);
    }

    #[test]
    fn remembered_locations_are_bounded_and_those_in_use_are_kept() {
        let locations = ServerLocations::default();
        let used = at(&locations, "used");
        for number in 0..2 * MAX_SERVERS {
            at(&locations, &format!("s{number}"));
        }
        assert!(locations.0.lock().unwrap().known.len() <= MAX_SERVERS);
        assert_eq!(at(&locations, "used").number, used.number);
    }
}
