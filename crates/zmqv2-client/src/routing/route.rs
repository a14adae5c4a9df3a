//! The route of one message: its candidates by number, and what their answers say about the node of
//! its server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::{NextStep, Node, NodeName, Target};

use crate::delivery::attempt::{SearchPlan, Verdict};
use crate::routing::destinations::{Destination, Destinations};
use crate::routing::directory::Lookup;
use crate::routing::router::Router;
use crate::routing::server_search::ServerSearch;

/// How long a search trusts the last lookup.
pub(crate) const LOOKUP_VALID_FOR: Duration = Duration::from_millis(100);

/// The candidates of one message.
#[derive(Debug)]
pub(crate) struct Route {
    candidates: RouteCandidates,
    /// The candidate that was asked last.
    asked: usize,
    /// A lookup without an answer yet.
    pub(crate) lookup: Option<Arc<Lookup>>,
    looked_up: Instant,
}

#[derive(Debug)]
enum RouteCandidates {
    /// Any server may take it.
    Any(Destinations),
    /// It is for one server.
    One(ServerSearch),
}

impl Route {
    pub(crate) fn to_any(destinations: Destinations, looked_up: Instant) -> Self {
        Self { candidates: RouteCandidates::Any(destinations), asked: 0, lookup: None, looked_up }
    }

    pub(crate) fn to_server(search: ServerSearch, looked_up: Instant) -> Self {
        Self { candidates: RouteCandidates::One(search), asked: 0, lookup: None, looked_up }
    }

    /// Whether the message cannot have another node, even if it has no server there now.
    pub(crate) fn is_certain(&self) -> bool {
        match &self.candidates {
            RouteCandidates::Any(_) => true,
            RouteCandidates::One(search) => search.is_certain(),
        }
    }

    /// Replaces the candidates of a message that any server may take.
    pub(crate) fn set_destinations(&mut self, destinations: Destinations) {
        (self.candidates, self.asked) = (RouteCandidates::Any(destinations), 0);
    }

    /// The candidate with this number.
    pub(crate) fn destination(&self, candidate: usize, router: &Router) -> Option<Destination> {
        match &self.candidates {
            RouteCandidates::Any(destinations) => router.nth_destination(destinations, candidate),
            RouteCandidates::One(search) => search.node(candidate).map(|node| router.destination(node)),
        }
    }

    /// The candidate with this number, which is asked now.
    pub(crate) fn ask(&mut self, candidate: usize, router: &Router) -> Option<Destination> {
        self.asked = candidate;
        if let RouteCandidates::One(search) = &mut self.candidates {
            search.ask(candidate);
        }
        self.destination(candidate, router)
    }

    /// The node that was asked last.
    pub(crate) fn asked_node(&self, router: &Router) -> Option<NodeName> {
        match &self.candidates {
            RouteCandidates::Any(_) => self.destination(self.asked, router).map(|destination| destination.node),
            RouteCandidates::One(search) => search.asked().map(|node: &Node| node.name.clone()),
        }
    }

    /// Looks up the candidates again, without waiting for the directory. If that fails, a message
    /// for any server has no candidates, and a search keeps those that it had.
    pub(crate) fn look_up(&mut self, router: &Router, target: &Target, now: Instant) -> SearchPlan {
        // Its sender has just looked up a new message.
        let is_old = now.saturating_duration_since(self.looked_up) >= LOOKUP_VALID_FOR;
        let placement = if is_old || matches!(self.candidates, RouteCandidates::Any(_)) {
            router.directory.poll_placement(target.key(), &mut self.lookup)
        } else {
            None
        };
        let found = match placement {
            Some(Ok(placement)) => Some(placement.candidates(target.server.as_ref())),
            Some(Err(error)) => {
                log::debug!("cannot look up {target}: {error:?}");
                None
            }
            None => None,
        };
        match (&mut self.candidates, found) {
            (RouteCandidates::Any(_), None) => SearchPlan::among(0),
            (RouteCandidates::Any(_), Some(found)) => {
                let destinations = router.destinations(&target.key(), found);
                let plan = SearchPlan::among(destinations.len());
                self.set_destinations(destinations);
                plan
            }
            (RouteCandidates::One(search), found) => {
                if let Some(found) = found {
                    search.renew(found);
                    self.looked_up = now;
                }
                router.plan_search(search, target, now)
            }
        }
    }

    /// The server is at the node that was asked last.
    pub(crate) fn server_found(&self) {
        if let RouteCandidates::One(search) = &self.candidates {
            search.found();
        }
    }

    /// The server is not at the node that was asked last.
    pub(crate) fn server_not_found(&self) {
        if let RouteCandidates::One(search) = &self.candidates {
            search.not_found();
        }
    }

    /// The message has ended. Remembers the node of its server, or that it is not there.
    pub(crate) fn learn<A>(&self, result: &Result<A, Verdict>) {
        match result {
            Ok(_) => self.server_found(),
            Err(Verdict::ConnectionLost { .. }) => self.server_not_found(),
            Err(Verdict::Refused(refusal, _)) => match refusal.reason.next_step() {
                NextStep::Retry => self.server_not_found(),
                NextStep::OtherNode { server_is_there: false, .. } => self.server_not_found(),
                _ => {}
            },
            Err(_) => {}
        }
    }
}
