//! Where a message can go: the nodes of its target, in the order in which they are tried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_matchmaker::{Candidates, random_span};
use zmqv2_proto::{Address, Avoid, Node, NodeName, Reason, ServerName, Target, TopicKey, Zone};

use crate::clock;
use crate::delivery::attempt::SearchPlan;
use crate::delivery::request::Request;
use crate::routing::destinations::{Destination, Destinations, Order};
use crate::routing::directory::Directory;
use crate::routing::node_health::NodeHealth;
use crate::routing::probe::is_there;
use crate::routing::server_locations::ServerLocations;
use crate::routing::server_search::ServerSearch;

/// A message looks for nodes to avoid until it has found this many others, which are asked first.
const ENOUGH_GOOD_NODES: usize = 8;
/// How many addresses are probed at one time; each has a thread for that long.
const MAX_PROBES: usize = 8;

/// The directory, and what this client has learned about addresses.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) directory: Directory,
    health: Arc<Mutex<NodeHealth>>,
    probes: Arc<AtomicUsize>,
    locations: ServerLocations,
    /// The zone of this node.
    zone: Option<Zone>,
    /// This node, and the local socket of its broker.
    local_broker: (NodeName, Address),
}

impl Router {
    pub(crate) fn new(directory: Directory, local_broker: (NodeName, Address), zone: Option<Zone>) -> Self {
        let health = Arc::new(Mutex::new(NodeHealth::new(random_span)));
        Self { directory, health, probes: Arc::default(), locations: ServerLocations::default(), zone, local_broker }
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

    fn turn(&self, key: &TopicKey, candidates: &Candidates) -> usize {
        if candidates.len() > 1 { self.directory.turn(key) } else { 0 }
    }

    /// The destinations of one message, in this order; those that did not take messages lately come last.
    pub(crate) fn destinations(&self, key: &TopicKey, candidates: Candidates) -> Destinations {
        self.destinations_from(key, self.turn(key, &candidates), candidates)
    }

    /// One of them.
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

    /// The way of a message to the server of this target, or the candidates again if it is for any.
    pub(crate) fn server_search(
        &self,
        request: &Request<'_>,
        candidates: Candidates,
    ) -> Result<ServerSearch, Candidates> {
        match &request.target.server {
            Some(server) => Ok(ServerSearch::new(self.locations.location_of(request.key.clone(), server), candidates)),
            None => Err(candidates),
        }
    }

    /// Chooses whom to ask for a server: where it was last, if it can be reached; else those that could not be reached
    /// lately come last.
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

    /// A node has refused a message. That a certain server is not there says nothing about others.
    pub(crate) fn refused(&self, address: &Address, server: Option<&ServerName>, key: &TopicKey, reason: Reason) {
        match reason.avoid() {
            Avoid::Node => self.health().mark_unreachable(address, clock::now()),
            Avoid::TopicAtNode if server.is_none() => self.health().mark_refused(address, key, clock::now()),
            _ => {}
        }
    }

    /// A node has not answered a message in its time: it is asked after the others until a look has found it alive, and for
    /// any server of this topic for a while in any case.
    pub(crate) fn not_answered(&self, address: &Address, topic: Option<&TopicKey>, now: Instant) {
        let mut health = self.health();
        if let Some(topic) = topic {
            health.mark_refused(address, topic, now);
        }
        health.mark_unanswered(address, now);
        self.probe(&mut health, now);
    }

    /// The destinations of one message, with a turn that was taken before.
    pub(crate) fn destinations_from(&self, key: &TopicKey, turn: usize, candidates: Candidates) -> Destinations {
        let order = if candidates.len() > 1 { self.order(key, turn, &candidates) } else { Order::default() };
        Destinations::Near { candidates, turn, order }
    }

    fn order(&self, key: &TopicKey, turn: usize, candidates: &Candidates) -> Order {
        let mut health = self.health();
        // Without entries, the clock is not needed.
        let now = health.may_have_entries().then(clock::now);
        let Some(now) = now.filter(|now| !health.is_empty(*now)) else { return Order::default() };
        let mut nodes = candidates.iter_near(turn, self.zone.as_ref());
        let order = Order::avoiding(candidates.len(), ENOUGH_GOOD_NODES, |_| {
            nodes.next().is_some_and(|node| health.should_avoid(&self.address(node), key, now))
        });
        self.probe(&mut health, now);
        order
    }

    /// Probes unreachable nodes that are due, each from a thread of its own, so that no message has to find out.
    fn probe(&self, health: &mut NodeHealth, now: Instant) {
        let room = MAX_PROBES.saturating_sub(self.probes.load(Ordering::Relaxed));
        for address in health.due_probes(room, now) {
            self.probes.fetch_add(1, Ordering::Relaxed);
            let (looked_at, known, probes) = (address.clone(), Arc::clone(&self.health), Arc::clone(&self.probes));
            let look = move || {
                let there = is_there(&looked_at);
                probes.fetch_sub(1, Ordering::Relaxed);
                known.lock().unwrap_or_else(PoisonError::into_inner).probed(&looked_at, there, clock::now());
            };
            if let Err(error) = std::thread::Builder::new().name("zmqv2-probe".to_owned()).spawn(look) {
                log::debug!("no thread to look at {address}: {error}");
                self.probes.fetch_sub(1, Ordering::Relaxed);
                health.probed(&address, false, now);
            }
        }
    }

    /// What this client has learned about addresses; not to be held while anything else is asked of the routes.
    pub(crate) fn health(&self) -> MutexGuard<'_, NodeHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
