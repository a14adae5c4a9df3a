//! Finds the links of messages, and looks up their candidates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use zmqv2_matchmaker::{PlacedNode, Placement};
use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{Address, Kind};

use super::Driver;
use crate::delivery::attempt::SearchPlan;
use crate::delivery::table::{DeliveryOptions, LinkId, Tag};
use crate::io::outbound::{Outbound, ResultSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::PartSender;
use crate::routing::destinations::Destinations;
use crate::routing::directory::Listing;
use crate::routing::node_health::cause_of;
use crate::routing::route::Route;

impl Driver {
    /// The link to a candidate of a message.
    pub(super) fn link_to(&mut self, tag: Tag, candidate: usize, now: Instant) -> Option<LinkId> {
        let outbound = self.table.message_mut(tag)?;
        outbound.socket_error = None;
        let destination = outbound.route.ask(candidate, &self.router)?;
        let address = destination.address;
        let link = match self.links.find(&address) {
            Some(link) => link,
            None => {
                if self.links.is_full() {
                    self.close_surplus(1, now);
                }
                match self.links.open(&address, self.router.peers.at(&address), now) {
                    Ok(link) => self.register_events(link)?,
                    Err(error) => {
                        self.link_not_opened(tag, &address, error, now);
                        return None;
                    }
                }
            }
        };
        if let Err(error) = self.connect(link) {
            self.link_not_opened(tag, &address, error, now);
            return None;
        }
        self.observe_later(link, now);
        self.mark_hot(link);
        Some(link)
    }

    fn link_not_opened(&mut self, tag: Tag, address: &Address, error: TransportError, now: Instant) {
        log::debug!("cannot connect to {address}: {error}");
        match cause_of(&error) {
            Some(cause) => self.router.health().mark_unreachable(address, cause, now),
            None => {
                if let Some(outbound) = self.table.message_mut(tag) {
                    outbound.socket_error = Some(error);
                }
            }
        }
    }

    /// Looks up the candidates of a message without waiting for the directory.
    pub(super) fn look_up(&mut self, tag: Tag, now: Instant) -> SearchPlan {
        let Some(outbound) = self.table.message_mut(tag) else { return SearchPlan::among(0) };
        if outbound.message.kind == Kind::Fanout {
            return self.look_up_fanout(tag);
        }
        outbound.route.look_up(&self.router, &outbound.message.target, now)
    }

    /// Looks up the nodes of a fanout, and returns the candidates of this message.
    fn look_up_fanout(&mut self, tag: Tag) -> SearchPlan {
        let none = SearchPlan::among(0);
        let Some(outbound) = self.table.message_mut(tag) else { return none };
        let target = &outbound.message.target;
        let Listing { placement, doubt } =
            self.router.directory.poll_listing(&target.key(), &mut outbound.route.lookup);
        let Some(destination) = outbound.route.destination(0, &self.router) else {
            let ResultSender::Part(sender) = &outbound.result_sender else { return none };
            let incomplete = doubt.as_ref().map(|doubt| doubt.to_string().into());
            outbound.route.set_doubt(doubt);
            if placement.is_empty() {
                return none;
            }
            let others = senders_of_other_nodes(sender, &placement, incomplete);
            return SearchPlan::among(self.split_to_nodes(tag, &placement, others));
        };
        // The message is for this node alone, which may have another address now. A missing node
        // may come back, so the message keeps its name.
        let Some(placed) = placement.nodes().iter().find(|placed| placed.node.name == destination.node) else {
            return none;
        };
        outbound.route.set_destinations(Destinations::Listed(vec![self.router.destination(&placed.node)]));
        SearchPlan::among(1)
    }

    /// A fanout that had no nodes becomes the message for the first node. The messages for the
    /// others are added.
    fn split_to_nodes(&mut self, tag: Tag, placement: &Placement, others: Vec<PartSender>) -> usize {
        let Some(outbound) = self.table.message_mut(tag) else { return 0 };
        let mut destinations = placement.nodes().iter().map(|placed| self.router.destination(&placed.node));
        let first = Vec::from_iter(destinations.next());
        let found = first.len();
        outbound.route.set_destinations(Destinations::Listed(first));
        let (message, options) = (Arc::clone(&outbound.message), outbound.options);
        let options = DeliveryOptions { bytes: message.header.len(), ..options };
        let before = self.group_backlog.len();
        self.group_backlog.extend(others.into_iter().zip(destinations).map(|(sender, destination)| {
            let route = Route::to_any(Destinations::Listed(vec![destination]), message.started);
            Outbound::new(Arc::clone(&message), route, options, ResultSender::Part(sender))
        }));
        let more = self.group_backlog.len() - before;
        self.queue.admission.reserve_beyond_limit(more, more * options.bytes);
        self.counters.accepted.fetch_add(more as u64, Ordering::Relaxed);
        found
    }
}

/// The result senders of all nodes but the first.
fn senders_of_other_nodes(
    sender: &PartSender,
    placement: &Arc<Placement>,
    incomplete: Option<Arc<str>>,
) -> Vec<PartSender> {
    let nodes = placement.nodes().iter().enumerate();
    let expected = |(index, placed): (usize, &PlacedNode)| {
        (placed.node.name.clone(), ExpectedReceivers::Node(Arc::clone(placement), index))
    };
    sender.split(nodes.map(expected), incomplete)
}
