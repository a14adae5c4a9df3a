//! The route of one message: its candidates by number, and what their answers say about the node of
//! its server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::{NextStep, Node, NodeName, Target};

use crate::delivery::attempt::{SearchPlan, Verdict};
use crate::delivery::request::{CallOptions, Request};
use crate::delivery::table::DeliveryOptions;
use crate::outcome::send_error::SendError;
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
    /// The route of a request that starts now.
    pub(crate) fn first(router: &Router, request: &Request<'_>) -> Result<Self, SendError> {
        let CallOptions { target, key, .. } = request.options;
        let candidates = router.directory.first_placement(request)?.candidates(target.server.as_ref());
        Ok(match &target.server {
            Some(server) => {
                let location = router.locations.location_of(key.clone(), server);
                Self::to_server(ServerSearch::new(location, candidates), request.started)
            }
            None => Self::to_any(router.destinations(key, candidates), request.started),
        })
    }

    pub(crate) fn to_any(destinations: Destinations, looked_up: Instant) -> Self {
        Self { candidates: RouteCandidates::Any(destinations), asked: 0, lookup: None, looked_up }
    }

    fn to_server(search: ServerSearch, looked_up: Instant) -> Self {
        Self { candidates: RouteCandidates::One(search), asked: 0, lookup: None, looked_up }
    }

    /// Whether no other node can take the message, even if its node has no server now.
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
        // The sender of a new message has just looked up its candidates.
        let is_old = now.saturating_duration_since(self.looked_up) >= LOOKUP_VALID_FOR;
        let placement = if is_old || matches!(self.candidates, RouteCandidates::Any(_)) {
            router.directory.poll_placement(&target.key(), &mut self.lookup)
        } else {
            None
        };
        let found = placement.map(|placement| placement.candidates(target.server.as_ref()));
        match (&mut self.candidates, found) {
            (RouteCandidates::Any(_), None) => return SearchPlan::among(0),
            (RouteCandidates::Any(_), Some(found)) => {
                self.set_destinations(router.destinations(&target.key(), found));
            }
            (RouteCandidates::One(_), None) => {}
            (RouteCandidates::One(search), Some(found)) => {
                search.renew(found);
                self.looked_up = now;
            }
        }
        self.plan(router, target, now)
    }

    /// Plans the next round over the known candidates.
    pub(crate) fn plan(&mut self, router: &Router, target: &Target, now: Instant) -> SearchPlan {
        match &mut self.candidates {
            RouteCandidates::Any(destinations) => SearchPlan::among(destinations.len()),
            RouteCandidates::One(search) => router.plan_search(search, target, now),
        }
    }

    /// Adds the number of candidates, or the queue of the server that is searched for.
    pub(crate) fn complete_options(&self, options: DeliveryOptions) -> DeliveryOptions {
        match &self.candidates {
            RouteCandidates::Any(destinations) => DeliveryOptions { candidates: destinations.len(), ..options },
            RouteCandidates::One(search) => DeliveryOptions { server_queue: Some(search.number()), ..options },
        }
    }

    /// Remembers whether the server is at the node that was asked last.
    pub(crate) fn note_server(&self, is_there: bool) {
        if let RouteCandidates::One(search) = &self.candidates {
            search.note_server(is_there);
        }
    }

    /// The message has ended. Remembers the node of its server, or that it is not there.
    pub(crate) fn learn<A>(&self, result: &Result<A, Verdict>) {
        match result {
            Ok(_) => self.note_server(true),
            Err(Verdict::ConnectionLost { .. }) => self.note_server(false),
            Err(Verdict::Refused(refusal, _)) => match refusal.reason.next_step() {
                NextStep::Retry | NextStep::OtherNode { server_is_there: false, .. } => self.note_server(false),
                _ => {}
            },
            Err(_) => {}
        }
    }
}
