//! The route of one message: its candidates by number, and what their answers say about the node of
//! its server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_matchmaker::Candidates;
use zmqv2_proto::{NextStep, Node, NodeName, Target};

use crate::clock;
use crate::delivery::attempt::{SearchPlan, Verdict};
use crate::delivery::request::{CallOptions, Request};
use crate::delivery::table::DeliveryOptions;
use crate::outcome::send_error::SendError;
use crate::routing::destinations::{Destination, Destinations};
use crate::routing::directory::{Doubt, Listing};
use crate::routing::lookup::Lookup;
use crate::routing::router::Router;
use crate::routing::server_search::ServerSearch;

/// How long a search trusts the last lookup.
pub(crate) const LOOKUP_VALID_FOR: Duration = Duration::from_millis(100);

/// How long a message waits for the first answer of the directory, at most half its time. Then the
/// broker of this node is asked, which may have the server. The message goes on waiting if it has not.
const ALONE_AFTER: Duration = Duration::from_millis(500);

/// The candidates of one message.
#[derive(Debug)]
pub(crate) struct Route {
    candidates: RouteCandidates,
    /// Why other nodes may have the server, too.
    doubt: Option<Doubt>,
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
    /// The route of a request that starts now. If the directory names no node for it, and cannot
    /// say that there is none, the only candidate is the broker of this node.
    pub(crate) fn first(router: &Router, request: &Request<'_>) -> Result<Self, SendError> {
        let mut lookup = None;
        let wait_until = || Self::lookup_until(router, request);
        let listing = router.directory.listing(&request.options.key, wait_until, &mut lookup);
        Self::from_listing(router, request, listing, lookup)
    }

    /// How long a request waits for the first answer of the directory.
    pub(crate) fn lookup_until(router: &Router, request: &Request<'_>) -> Instant {
        let Request { started, deadline, .. } = *request;
        let left = deadline.saturating_duration_since(started);
        zmqv2_proto::deadline(started, if router.has_own_broker() { ALONE_AFTER.min(left / 2) } else { left })
    }

    /// As [`first`](Self::first), with what the directory has said. `lookup` has no answer yet.
    pub(crate) fn from_listing(
        router: &Router,
        request: &Request<'_>,
        listing: Listing,
        lookup: Option<Arc<Lookup>>,
    ) -> Result<Self, SendError> {
        let Request { options, started, .. } = *request;
        let CallOptions { target, key, wait_for_ready, .. } = options;
        let (candidates, doubt) = choose(router, listing, target);
        if let Some(doubt) = &doubt
            && candidates.is_empty()
        {
            if !wait_for_ready {
                let after = request.elapsed(clock::now());
                return Err(doubt.clone().into_error(request.boxed_target(), after));
            }
            log::debug!("cannot look up {target}: {doubt}");
        }
        let route = match &target.server {
            Some(server) => {
                let location = router.locations.location_of(key.clone(), server);
                Self::to_server(ServerSearch::new(location, candidates), started)
            }
            None => Self::to_any(router.destinations(key, candidates), started),
        };
        Ok(Self { doubt, lookup, ..route })
    }

    pub(crate) fn to_any(destinations: Destinations, looked_up: Instant) -> Self {
        Self { candidates: RouteCandidates::Any(destinations), doubt: None, asked: 0, lookup: None, looked_up }
    }

    fn to_server(search: ServerSearch, looked_up: Instant) -> Self {
        Self { candidates: RouteCandidates::One(search), doubt: None, asked: 0, lookup: None, looked_up }
    }

    /// Sets why other nodes may have the server, too.
    pub(crate) fn with_doubt(self, doubt: Option<Doubt>) -> Self {
        Self { doubt, ..self }
    }

    /// Why other nodes may have the server, too.
    pub(crate) fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    pub(crate) fn set_doubt(&mut self, doubt: Option<Doubt>) {
        self.doubt = doubt;
    }

    /// Whether no other node can take the message, even if its node has no server now.
    pub(crate) fn is_certain(&self) -> bool {
        self.doubt.is_none()
            && match &self.candidates {
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
        if is_old || self.is_preliminary() || matches!(self.candidates, RouteCandidates::Any(_)) {
            let listing = router.directory.poll_listing(&target.key(), &mut self.lookup);
            listing.doubt.iter().for_each(|doubt| log::debug!("cannot look up {target} for certain: {doubt}"));
            let names_none = listing.placement.is_empty();
            let (found, doubt) = choose(router, listing, target);
            self.doubt = doubt;
            match &mut self.candidates {
                RouteCandidates::Any(_) => self.set_destinations(router.destinations(&target.key(), found)),
                RouteCandidates::One(search) if names_none && self.doubt.is_some() && search.has_candidates() => {}
                RouteCandidates::One(search) => {
                    search.renew(found);
                    self.looked_up = now;
                }
            }
        }
        self.plan(router, target, now)
    }

    /// Plans the next round over the known candidates.
    pub(crate) fn plan(&mut self, router: &Router, target: &Target, now: Instant) -> SearchPlan {
        let plan = match &mut self.candidates {
            RouteCandidates::Any(destinations) => SearchPlan::among(destinations.len()),
            RouteCandidates::One(search) => router.plan_search(search, target, now),
        };
        SearchPlan { preliminary: self.is_preliminary(), ..plan }
    }

    /// Whether the directory has not answered yet.
    fn is_preliminary(&self) -> bool {
        self.doubt.as_ref().is_some_and(Doubt::is_silence)
    }

    /// Adds the number of candidates, or the queue of the server that is searched for.
    pub(crate) fn complete_options(&self, options: DeliveryOptions) -> DeliveryOptions {
        let options = DeliveryOptions { preliminary: self.is_preliminary(), ..options };
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

/// The nodes that may take a message, and why there may be others. If the directory names none, and
/// cannot say that there is none, the broker of this node is asked.
fn choose(router: &Router, listing: Listing, target: &Target) -> (Candidates, Option<Doubt>) {
    let Listing { placement, doubt } = listing;
    let listed = placement.candidates(target.server.as_ref());
    let alone = listed.is_empty() && doubt.is_some() && router.has_own_broker();
    (if alone { router.own_node() } else { listed }, doubt)
}
