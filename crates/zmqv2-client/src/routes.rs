//! Where a message can go: the nodes of its target, in the order in which they are tried.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::{Address, Node, NodeName, Target};

use crate::clock;
use crate::directory::Directory;
use crate::search::{Prospect, Search};
use crate::suspects::Suspects;
use crate::whereabouts::Whereabouts;

/// How many nodes a message that nobody blocks for, and that any server may take, tries in a round.
const MAX_STOPS: usize = 8;

/// The directory, and what this client has learned about addresses.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) directory: Directory,
    suspects: Mutex<Suspects>,
    whereabouts: Whereabouts,
    /// This node, and the local socket of its broker.
    local_broker: (NodeName, Address),
}

/// A node that may take a message.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) node: NodeName,
    pub(crate) address: Address,
}

impl Routes {
    pub(crate) fn new(directory: Directory, local_broker: (NodeName, Address)) -> Self {
        Self { directory, suspects: Mutex::default(), whereabouts: Whereabouts::default(), local_broker }
    }

    /// The broker of this node is reached over its local socket, others over TCP.
    pub(crate) fn address(&self, node: &Node) -> Address {
        let (own, local) = &self.local_broker;
        if *own == node.name { local.clone() } else { Address::Tcp(node.address.clone()) }
    }

    pub(crate) fn stop(&self, node: &Node) -> Stop {
        Stop { node: node.name.clone(), address: self.address(node) }
    }

    /// The broker of this node.
    pub(crate) fn local_stop(&self) -> Stop {
        let (node, address) = self.local_broker.clone();
        Stop { node, address }
    }

    /// The stops of one message: whose turn it is first, those that could not be reached lately last.
    pub(crate) fn stops(&self, target: &Target, candidates: &Candidates) -> Vec<Stop> {
        self.in_order(self.directory.order(target, candidates))
    }

    /// The same with a turn that was taken before.
    pub(crate) fn stops_from(&self, turn: usize, candidates: &Candidates) -> Vec<Stop> {
        self.in_order(candidates.iter_from(turn))
    }

    /// The way of a message to the server of this target, or the candidates again if it is for any.
    pub(crate) fn search(&self, target: &Target, candidates: Candidates) -> Result<Search, Candidates> {
        match &target.server {
            Some(server) => Ok(Search::new(self.whereabouts.of(target.key(), server), candidates)),
            None => Err(candidates),
        }
    }

    /// Chooses whom to ask for a server: where it was last, if it can be reached; else those that could not be reached
    /// lately come last.
    pub(crate) fn plan(&self, search: &mut Search, target: &Target, now: Instant) -> Prospect {
        let suspects = self.suspects();
        let avoid = |node: &Node| suspects.contains(&self.address(node), now);
        let avoid: Option<&dyn Fn(&Node) -> bool> = if suspects.is_empty() { None } else { Some(&avoid) };
        search.plan(|| self.directory.turn(&target.key()), avoid)
    }

    fn in_order<'a>(&self, order: impl Iterator<Item = &'a Node>) -> Vec<Stop> {
        let mut stops: Vec<Stop> = order.take(MAX_STOPS).map(|node| self.stop(node)).collect();
        if stops.len() > 1 {
            let (suspects, now) = (self.suspects(), clock::now());
            if !suspects.is_empty() {
                stops.sort_by_key(|stop| suspects.contains(&stop.address, now));
            }
        }
        stops
    }

    pub(crate) fn suspects(&self) -> MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
