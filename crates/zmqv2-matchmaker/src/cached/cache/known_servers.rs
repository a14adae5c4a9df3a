//! The servers of one topic, as the directory has told them.

use std::collections::{BTreeMap, HashMap};

use zmqv2_proto::{Node, NodeName, ServerName};

use crate::api::{PlacedNode, Placement};
use crate::cached::remote::{Presence, ServerEntry, TopicState};

/// All known entries of a topic.
#[derive(Debug, Default)]
pub(super) struct KnownServers {
    /// `true` for a server that is there, `false` for a withdrawn one.
    servers: BTreeMap<NodeName, BTreeMap<ServerName, bool>>,
    nodes: HashMap<NodeName, Node>,
}

impl KnownServers {
    pub(super) fn apply(&mut self, state: TopicState) {
        if !state.changes_only {
            *self = Self::default();
        }
        for ServerEntry { node, server, presence } in state.entries {
            match presence {
                Presence::Ended => {
                    let servers = self.servers.entry(node.clone()).or_default();
                    servers.remove(&server);
                    if servers.is_empty() {
                        self.servers.remove(&node);
                        self.nodes.remove(&node);
                    }
                }
                Presence::Withdrawn => drop(self.servers.entry(node).or_default().insert(server, false)),
                Presence::At(at) => {
                    self.servers.entry(node.clone()).or_default().insert(server, true);
                    // The last address is the newest.
                    self.nodes.insert(node, at);
                }
            }
        }
    }

    /// The nodes that have servers, by name.
    pub(super) fn nodes(&self) -> Vec<PlacedNode> {
        let placed = |(name, servers): (&NodeName, &BTreeMap<ServerName, bool>)| {
            let there: Vec<_> = servers.iter().filter(|(_, there)| **there).map(|(server, _)| server.clone()).collect();
            let node = self.nodes.get(name).filter(|_| !there.is_empty())?;
            Some(PlacedNode { node: node.clone(), servers: there })
        };
        self.servers.iter().filter_map(placed).collect()
    }

    /// The fresh entries, and all shown entries that were not withdrawn.
    pub(super) fn merged(&self, shown: &Placement, fresh: &[PlacedNode]) -> Vec<PlacedNode> {
        let mut nodes: BTreeMap<NodeName, PlacedNode> =
            fresh.iter().map(|placed| (placed.node.name.clone(), placed.clone())).collect();
        for old in shown.nodes() {
            let name = &old.node.name;
            let withdrawn = |server| self.servers.get(name).and_then(|servers| servers.get(server)) == Some(&false);
            for server in old.servers.iter().filter(|server| !withdrawn(*server)) {
                let placed = nodes.entry(name.clone()).or_insert_with(|| PlacedNode::unlisted(old.node.clone()));
                if let Err(place) = placed.servers.binary_search(server) {
                    placed.servers.insert(place, server.clone());
                }
            }
        }
        nodes.into_values().collect()
    }
}
