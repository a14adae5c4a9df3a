//! Where a message can go: the nodes of its target, in the order in which they are tried.

use std::sync::{Mutex, MutexGuard, PoisonError};

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::{Address, Node, NodeName, Target};

use crate::clock;
use crate::directory::Directory;
use crate::suspects::Suspects;

/// How many nodes one message that nobody blocks for tries in a round.
const MAX_STOPS: usize = 8;

/// The directory, and what this client has learned about addresses.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) directory: Directory,
    suspects: Mutex<Suspects>,
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
        Self { directory, suspects: Mutex::default(), local_broker }
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
