//! Where a message can go: the nodes of its target, in the order in which they are tried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_matchmaker::{Candidates, random_span};
use zmqv2_proto::{Address, Node, NodeName, Reason, ServerName, Target, TopicKey, Zone};

use crate::clock;
use crate::delivery::request::Journey;
use crate::delivery::table::SearchPlan;
use crate::routing::directory::Directory;
use crate::routing::node_health::Suspects;
use crate::routing::probe::is_there;
use crate::routing::server_locations::Whereabouts;
use crate::routing::server_search::Search;

/// How many nodes a message that nobody blocks for, and that any server may take, tries in a round.
const MAX_STOPS: usize = 8;
/// How many addresses are probed at one time; each has a thread for that long.
const MAX_PROBES: usize = 8;

/// The directory, and what this client has learned about addresses.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) directory: Directory,
    suspects: Arc<Mutex<Suspects>>,
    probes: Arc<AtomicUsize>,
    whereabouts: Whereabouts,
    /// The zone of this node.
    zone: Option<Zone>,
    /// This node, and the local socket of its broker.
    local_broker: (NodeName, Address),
}

/// A node that may take a message.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) node: NodeName,
    pub(crate) address: Address,
}

/// The nodes that may take a message, in the order in which they are tried.
#[derive(Debug)]
pub(crate) enum Stops {
    Listed(Vec<Stop>),
    /// The first so many of these, from the one whose turn it is on: most messages need one of them, and no list.
    Near {
        candidates: Candidates,
        turn: usize,
        count: usize,
    },
}

impl Stops {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Listed(stops) => stops.len(),
            Self::Near { count, .. } => *count,
        }
    }
}

impl FromIterator<Stop> for Stops {
    fn from_iter<I: IntoIterator<Item = Stop>>(stops: I) -> Self {
        Self::Listed(stops.into_iter().collect())
    }
}

impl Routes {
    pub(crate) fn new(directory: Directory, local_broker: (NodeName, Address), zone: Option<Zone>) -> Self {
        let suspects = Arc::new(Mutex::new(Suspects::new(random_span)));
        Self { directory, suspects, probes: Arc::default(), whereabouts: Whereabouts::default(), zone, local_broker }
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

    /// The nodes that may take a message for any server, in the order in which they are tried: those of this node's zone
    /// first, among them the one whose turn it is.
    pub(crate) fn order<'a>(
        &self,
        key: &TopicKey,
        candidates: &'a Candidates,
    ) -> impl Iterator<Item = &'a Node> + use<'a> {
        candidates.iter_near(self.turn(key, candidates), self.zone.as_ref())
    }

    fn turn(&self, key: &TopicKey, candidates: &Candidates) -> usize {
        if candidates.len() > 1 { self.directory.turn(key) } else { 0 }
    }

    /// The stops of one message, in this order, but those that did not take messages lately last.
    pub(crate) fn stops(&self, key: &TopicKey, candidates: Candidates) -> Stops {
        self.stops_from(key, self.turn(key, &candidates), candidates)
    }

    /// One of them.
    pub(crate) fn nth_stop(&self, stops: &Stops, nth: usize) -> Option<Stop> {
        match stops {
            Stops::Listed(stops) => stops.get(nth).cloned(),
            Stops::Near { candidates, turn, count } => {
                let mut nodes = candidates.iter_near(*turn, self.zone.as_ref()).take(*count);
                nodes.nth(nth).map(|node| self.stop(node))
            }
        }
    }

    /// The way of a message to the server of this target, or the candidates again if it is for any.
    pub(crate) fn search(&self, journey: &Journey<'_>, candidates: Candidates) -> Result<Search, Candidates> {
        match &journey.target.server {
            Some(server) => Ok(Search::new(self.whereabouts.of(journey.key.clone(), server), candidates)),
            None => Err(candidates),
        }
    }

    /// Chooses whom to ask for a server: where it was last, if it can be reached; else those that could not be reached
    /// lately come last.
    pub(crate) fn plan(&self, search: &mut Search, target: &Target, now: Instant) -> SearchPlan {
        let mut suspects = self.suspects();
        if suspects.is_empty(now) {
            return search.plan(|| self.directory.turn(&target.key()), None);
        }
        let avoid = |node: &Node| suspects.is_unreachable(&self.address(node));
        let plan = search.plan(|| self.directory.turn(&target.key()), Some(&avoid));
        self.probe(&mut suspects, now);
        plan
    }

    /// Whether a message of this topic, for this server or any, should rather go to another node.
    pub(crate) fn avoid(&self, address: &Address, server: Option<&ServerName>, key: &TopicKey, now: Instant) -> bool {
        let mut suspects = self.suspects();
        if suspects.is_empty(now) {
            return false;
        }
        let avoid = if server.is_some() { suspects.is_unreachable(address) } else { suspects.avoid(address, key, now) };
        if avoid {
            self.probe(&mut suspects, now);
        }
        avoid
    }

    /// A node has refused a message. Whoever goes on asking a broker that stops may meet its end instead of its answer; one
    /// without a server, or with too much to do, is asked after the others for a while. That a certain server is not there
    /// says nothing about others.
    pub(crate) fn refused(&self, address: &Address, server: Option<&ServerName>, key: &TopicKey, reason: Reason) {
        match reason {
            Reason::ShuttingDown => self.suspects().mark(address, clock::now()),
            Reason::NoRoute | Reason::Busy if server.is_none() => self.suspects().refused(address, key, clock::now()),
            _ => {}
        }
    }

    /// A node has not answered a message in its time: it is asked after the others until a look has found it alive, and for
    /// any server of this topic for a while in any case.
    pub(crate) fn silent(&self, address: &Address, topic: Option<&TopicKey>, now: Instant) {
        let mut suspects = self.suspects();
        if let Some(topic) = topic {
            suspects.refused(address, topic, now);
        }
        suspects.silent(address, now);
        self.probe(&mut suspects, now);
    }

    /// The stops of one message with a turn that was taken before.
    pub(crate) fn stops_from(&self, key: &TopicKey, turn: usize, candidates: Candidates) -> Stops {
        let mut suspects = self.suspects();
        let now = suspects.any().then(clock::now);
        let Some(now) = now.filter(|now| !suspects.is_empty(*now)) else {
            let count = candidates.len().min(MAX_STOPS);
            return Stops::Near { candidates, turn, count };
        };
        let order = candidates.iter_near(turn, self.zone.as_ref());
        // With some to avoid, there may be others behind them.
        let (mut stops, mut last) = (Vec::new(), Vec::new());
        for node in order {
            let stop = self.stop(node);
            if !suspects.avoid(&stop.address, key, now) {
                stops.push(stop);
            } else if last.len() < MAX_STOPS {
                last.push(stop);
            }
            if stops.len() >= MAX_STOPS {
                break;
            }
        }
        last.truncate(MAX_STOPS - stops.len());
        stops.append(&mut last);
        self.probe(&mut suspects, now);
        Stops::Listed(stops)
    }

    /// Looks at suspects whose time has come, each from a thread of its own, so that no message has to find out.
    fn probe(&self, suspects: &mut Suspects, now: Instant) {
        let room = MAX_PROBES.saturating_sub(self.probes.load(Ordering::Relaxed));
        for address in suspects.due(room, now) {
            self.probes.fetch_add(1, Ordering::Relaxed);
            let (looked_at, known, probes) = (address.clone(), Arc::clone(&self.suspects), Arc::clone(&self.probes));
            let look = move || {
                let there = is_there(&looked_at);
                probes.fetch_sub(1, Ordering::Relaxed);
                known.lock().unwrap_or_else(PoisonError::into_inner).probed(&looked_at, there, clock::now());
            };
            if let Err(error) = std::thread::Builder::new().name("zmqv2-probe".to_owned()).spawn(look) {
                log::debug!("no thread to look at {address}: {error}");
                self.probes.fetch_sub(1, Ordering::Relaxed);
                suspects.probed(&address, false, now);
            }
        }
    }

    /// What this client has learned about addresses; not to be held while anything else is asked of the routes.
    pub(crate) fn suspects(&self) -> MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
