//! Chooses the nodes of a message, and the order in which they are asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_matchmaker::{Candidates, PlacedNode, Placement, random_span};
use zmqv2_proto::{
    Address, Avoid, NoConnection, Node, NodeName, Reason, ServerName, Target, TcpAddress, TopicKey, Zone,
};

use crate::clock;
use crate::delivery::attempt::SearchPlan;
use crate::peers::Peers;
use crate::routing::destinations::{Destination, Destinations, Order};
use crate::routing::directory::Directory;
use crate::routing::node_health::NodeHealth;
use crate::routing::probe::is_there;
use crate::routing::server_locations::ServerLocations;
use crate::routing::server_search::ServerSearch;

/// A message looks for nodes to avoid until it has found this many others.
const ENOUGH_GOOD_NODES: usize = 8;
/// The most probes at one time. Each has a thread.
const MAX_PROBES: usize = 8;

/// The directory, and what this client has seen of nodes and servers.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) directory: Directory,
    health: Arc<Mutex<NodeHealth>>,
    probes: Arc<AtomicUsize>,
    pub(super) locations: ServerLocations,
    pub(crate) peers: Peers,
    /// The zone of this node.
    zone: Option<Zone>,
    /// This node and the local socket of its broker.
    local_broker: (NodeName, Address),
    /// This node alone.
    own_node: Arc<Placement>,
}

impl Router {
    pub(crate) fn new(directory: Directory, local_broker: (NodeName, Address), zone: Option<Zone>) -> Self {
        let health = Arc::new(Mutex::new(NodeHealth::new(random_span)));
        // Its broker is reached over the local socket, so the TCP address is not used.
        let node = TcpAddress::new("127.0.0.1", 9501).map(|address| Node::new(local_broker.0.clone(), address));
        let own_node = Arc::new(Placement::new(node.map(PlacedNode::unlisted).into_iter().collect()));
        let (probes, locations, peers) = Default::default();
        Self { directory, health, probes, locations, peers, zone, local_broker, own_node }
    }

    /// This node as the only candidate.
    pub(crate) fn own_node(&self) -> Candidates {
        self.own_node.candidates(None)
    }

    /// Whether this node seems to have a broker: its local socket exists.
    pub(crate) fn has_own_broker(&self) -> bool {
        matches!(&self.local_broker.1, Address::Ipc(path) if path.exists())
    }

    /// The broker of this node is reached over its local socket, others over TCP.
    pub(crate) fn address(&self, node: &Node) -> Address {
        let (own, local) = &self.local_broker;
        if *own == node.name { local.clone() } else { Address::Tcp(node.address.clone()) }
    }

    pub(crate) fn destination(&self, node: &Node) -> Destination {
        Destination { node: node.name.clone(), address: self.address(node) }
    }

    /// The broker of this node.
    pub(crate) fn local_destination(&self) -> Destination {
        let (node, address) = self.local_broker.clone();
        Destination { node, address }
    }

    /// The destinations of a message for any server. Nodes to avoid come last.
    pub(crate) fn destinations(&self, key: &TopicKey, candidates: Candidates) -> Destinations {
        let turn = if candidates.len() > 1 { self.directory.turn(key) } else { 0 };
        self.destinations_from(key, turn, candidates)
    }

    /// The destination with this number.
    pub(crate) fn nth_destination(&self, destinations: &Destinations, nth: usize) -> Option<Destination> {
        match destinations {
            Destinations::Listed(destinations) => destinations.get(nth).cloned(),
            Destinations::Near { candidates, turn, order } => {
                let position = order.position(nth, candidates.len())?;
                let node = candidates.get_near(*turn, self.zone.as_ref(), position)?;
                Some(self.destination(node))
            }
        }
    }

    /// Plans the next round of a search: the last known node alone if it can be reached, else all
    /// candidates, unreachable ones last.
    pub(crate) fn plan_search(&self, search: &mut ServerSearch, target: &Target, now: Instant) -> SearchPlan {
        let mut health = self.health();
        if health.is_empty(now) {
            return search.plan(|| self.directory.turn(&target.key()), None);
        }
        let avoid = |node: &Node| health.is_unreachable(&self.address(node));
        let plan = search.plan(|| self.directory.turn(&target.key()), Some(&avoid));
        self.probe(&mut health, now);
        plan
    }

    /// A node has refused a message. That one certain server is missing says nothing about others.
    pub(crate) fn refused(&self, address: &Address, server: Option<&ServerName>, key: &TopicKey, reason: Reason) {
        match reason.avoid() {
            Avoid::Node => self.health().mark_unreachable(address, NoConnection::Unknown, clock::now()),
            Avoid::TopicAtNode if server.is_none() => self.health().mark_refused(address, key, clock::now()),
            _ => {}
        }
    }

    /// A node has not answered a message in time. It comes last until a probe succeeds, and in any
    /// case for a while for messages of this topic.
    pub(crate) fn not_answered(&self, address: &Address, topic: Option<&TopicKey>, now: Instant) {
        let mut health = self.health();
        if let Some(topic) = topic {
            health.mark_refused(address, topic, now);
        }
        health.mark_unanswered(address, now);
        self.probe(&mut health, now);
    }

    /// Like [`destinations`](Self::destinations), with a turn that was taken before.
    pub(crate) fn destinations_from(&self, key: &TopicKey, turn: usize, candidates: Candidates) -> Destinations {
        let order = if candidates.len() > 1 { self.order(key, turn, &candidates) } else { Order::default() };
        Destinations::Near { candidates, turn, order }
    }

    fn order(&self, key: &TopicKey, turn: usize, candidates: &Candidates) -> Order {
        let mut health = self.health();
        // Without entries, no clock is needed.
        let now = health.may_have_entries().then(clock::now);
        let Some(now) = now.filter(|now| !health.is_empty(*now)) else { return Order::default() };
        let mut nodes = candidates.iter_near(turn, self.zone.as_ref());
        let order = Order::avoiding(candidates.len(), ENOUGH_GOOD_NODES, |_| {
            nodes.next().is_some_and(|node| health.should_avoid(&self.address(node), key, now))
        });
        self.probe(&mut health, now);
        order
    }

    /// Starts the probes that are due, each on a thread of its own.
    fn probe(&self, health: &mut NodeHealth, now: Instant) {
        let room = MAX_PROBES.saturating_sub(self.probes.load(Ordering::Relaxed));
        for address in health.due_probes(room, now) {
            self.probes.fetch_add(1, Ordering::Relaxed);
            let (probed, known, probes) = (address.clone(), Arc::clone(&self.health), Arc::clone(&self.probes));
            let probe = move || {
                let there = is_there(&probed);
                probes.fetch_sub(1, Ordering::Relaxed);
                known.lock().unwrap_or_else(PoisonError::into_inner).probed(&probed, there, clock::now());
            };
            if let Err(error) = std::thread::Builder::new().name("zmqv2-probe".to_owned()).spawn(probe) {
                log::debug!("no thread to probe {address}: {error}");
                self.probes.fetch_sub(1, Ordering::Relaxed);
                health.probed(&address, false, now);
            }
        }
    }

    /// The health of nodes. Release it before calling another method of the router.
    pub(crate) fn health(&self) -> MutexGuard<'_, NodeHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
