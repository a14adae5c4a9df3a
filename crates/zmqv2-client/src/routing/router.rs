//! Where a message can go: the nodes of its target, in the order in which they are tried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_matchmaker::{Candidates, random_span};
use zmqv2_proto::{Address, Node, NodeName, Reason, ServerName, Target, TopicKey, Zone};

use crate::clock;
use crate::delivery::request::Request;
use crate::delivery::table::SearchPlan;
use crate::routing::directory::Directory;
use crate::routing::node_health::NodeHealth;
use crate::routing::probe::is_there;
use crate::routing::server_locations::ServerLocations;
use crate::routing::server_search::ServerSearch;

/// How many nodes a message that nobody blocks for, and that any server may take, tries in a round.
const MAX_DESTINATIONS: usize = 8;
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

/// A node that may take a message.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) node: NodeName,
    pub(crate) address: Address,
}

/// The nodes that may take a message, in the order in which they are tried.
#[derive(Debug)]
pub(crate) enum Destinations {
    Listed(Vec<Destination>),
    /// The first so many of these, from the one whose turn it is on: most messages need one of them, and no list.
    Near {
        candidates: Candidates,
        turn: usize,
        count: usize,
    },
}

impl Destinations {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Listed(destinations) => destinations.len(),
            Self::Near { count, .. } => *count,
        }
    }
}

impl FromIterator<Destination> for Destinations {
    fn from_iter<I: IntoIterator<Item = Destination>>(destinations: I) -> Self {
        Self::Listed(destinations.into_iter().collect())
    }
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

    /// The nodes that may take a message for any server, in the order in which they are tried: those of this node's zone
    /// first, among them the one whose turn it is.
    pub(crate) fn nodes_in_turn<'a>(
        &self,
        key: &TopicKey,
        candidates: &'a Candidates,
    ) -> impl Iterator<Item = &'a Node> + use<'a> {
        candidates.iter_near(self.turn(key, candidates), self.zone.as_ref())
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
            Destinations::Near { candidates, turn, count } => {
                let mut nodes = candidates.iter_near(*turn, self.zone.as_ref()).take(*count);
                nodes.nth(nth).map(|node| self.destination(node))
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

    /// Whether a message of this topic, for this server or any, should rather go to another node.
    pub(crate) fn should_avoid(
        &self,
        address: &Address,
        server: Option<&ServerName>,
        key: &TopicKey,
        now: Instant,
    ) -> bool {
        let mut health = self.health();
        if health.is_empty(now) {
            return false;
        }
        let avoid =
            if server.is_some() { health.is_unreachable(address) } else { health.should_avoid(address, key, now) };
        if avoid {
            self.probe(&mut health, now);
        }
        avoid
    }

    /// A node has refused a message. Whoever goes on asking a broker that stops may meet its end instead of its answer; one
    /// without a server, or with too much to do, is asked after the others for a while. That a certain server is not there
    /// says nothing about others.
    pub(crate) fn refused(&self, address: &Address, server: Option<&ServerName>, key: &TopicKey, reason: Reason) {
        match reason {
            Reason::ShuttingDown => self.health().mark_unreachable(address, clock::now()),
            Reason::NoRoute | Reason::Busy if server.is_none() => {
                self.health().mark_refused(address, key, clock::now());
            }
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
        let mut health = self.health();
        let now = health.may_have_entries().then(clock::now);
        let Some(now) = now.filter(|now| !health.is_empty(*now)) else {
            let count = candidates.len().min(MAX_DESTINATIONS);
            return Destinations::Near { candidates, turn, count };
        };
        let order = candidates.iter_near(turn, self.zone.as_ref());
        // With some to avoid, there may be others behind them.
        let (mut destinations, mut last) = (Vec::new(), Vec::new());
        for node in order {
            let destination = self.destination(node);
            if !health.should_avoid(&destination.address, key, now) {
                destinations.push(destination);
            } else if last.len() < MAX_DESTINATIONS {
                last.push(destination);
            }
            if destinations.len() >= MAX_DESTINATIONS {
                break;
            }
        }
        last.truncate(MAX_DESTINATIONS - destinations.len());
        destinations.append(&mut last);
        self.probe(&mut health, now);
        Destinations::Listed(destinations)
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
