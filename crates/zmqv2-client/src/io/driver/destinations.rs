//! Where a message goes: links to the nodes of its target, and what the directory says later.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use zmqv2_matchmaker::Placement;
use zmqv2_proto::Kind;
use zmqv2_proto::transport::Socket;

use super::{Driver, FIRST_LINK};
use crate::delivery::table::{DeliveryOptions, LinkId, SearchPlan, Tag};
use crate::io::outbound::{Outbound, ResultSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::PartSender;

/// For how long a message that is for one server trusts what the directory has said of it.
const LOOKUP_VALID_FOR: Duration = Duration::from_millis(100);

impl Driver {
    /// The link to a candidate of a message.
    pub(super) fn link_to(&mut self, tag: Tag, candidate: usize, now: Instant) -> Option<LinkId> {
        let outbound = self.table.message_mut(tag)?;
        if let Some(search) = &mut outbound.search {
            search.ask(candidate);
        }
        let destination = outbound.destination(candidate, &self.router)?;
        let link = match self.links.find(&destination.address) {
            Some(link) => link,
            None => {
                let address = destination.address.clone();
                if self.links.is_full() {
                    self.close_surplus(1, now);
                }
                match self.links.open(&address, now) {
                    Ok(link) => self.register_events(link)?,
                    Err(error) => {
                        log::debug!("cannot connect to {address}: {error}");
                        self.router.health().mark_unreachable(&address, now);
                        return None;
                    }
                }
            }
        };
        self.mark_hot(link);
        Some(link)
    }

    pub(super) fn register_events(&mut self, id: LinkId) -> Option<LinkId> {
        let registered = self.links.get(id)?.socket.fds().try_for_each(|fd| {
            self.poll.registry().register(&mut SourceFd(&fd), Token(id + FIRST_LINK), Interest::READABLE)
        });
        match registered {
            Ok(()) => Some(id),
            Err(error) => {
                log::error!("cannot wait for events of a socket: {error}");
                self.links.close(id);
                None
            }
        }
    }

    pub(super) fn unregister_events(&self, socket: &Socket) {
        for fd in socket.fds() {
            drop(self.poll.registry().deregister(&mut SourceFd(&fd)));
        }
    }

    /// Where a message can go now, found out without waiting for the directory.
    pub(super) fn look_up(&mut self, tag: Tag, now: Instant) -> SearchPlan {
        let Some(outbound) = self.table.message_mut(tag) else { return SearchPlan::among(0) };
        let Some(search) = &mut outbound.search else { return SearchPlan::among(self.look_up_nodes(tag)) };
        let target = &outbound.message.target;
        // What its sender has just found in the directory is as good.
        if now.saturating_duration_since(outbound.looked_up) >= LOOKUP_VALID_FOR {
            match self.router.directory.poll_placement(target.key(), &mut outbound.lookup) {
                Some(Ok(placement)) => {
                    search.renew(placement.candidates(target.server.as_ref()));
                    outbound.looked_up = now;
                }
                Some(Err(error)) => log::debug!("cannot look up {target}: {error:?}"),
                None => {}
            }
        }
        self.router.plan_search(search, target, now)
    }

    /// Asks the directory for the nodes of a message again; how many candidates there are.
    fn look_up_nodes(&mut self, tag: Tag) -> usize {
        let Some(outbound) = self.table.message_mut(tag) else { return 0 };
        let target = &outbound.message.target;
        let placement = match self.router.directory.poll_placement(target.key(), &mut outbound.lookup) {
            Some(Ok(placement)) => placement,
            Some(Err(error)) => {
                log::debug!("cannot look up {target}: {error:?}");
                return 0;
            }
            None => return 0,
        };
        match &outbound.result_sender {
            ResultSender::Part(sender) if outbound.message.kind == Kind::Fanout => {
                match outbound.destination(0, &self.router) {
                    // It is for this node alone, which may have another address now.
                    Some(destination) => {
                        let here = placement.nodes().iter().find(|placed| placed.node.name == destination.node);
                        // A node that is not there now may come again: without its name, this were one for all nodes.
                        let Some(placed) = here else { return 0 };
                        outbound.destinations = [self.router.destination(&placed.node)].into_iter().collect();
                        1
                    }
                    None => {
                        let others = senders_of_other_nodes(sender, &placement);
                        self.split_to_nodes(tag, &placement, others)
                    }
                }
            }
            _ => {
                outbound.destinations =
                    self.router.destinations(&target.key(), placement.candidates(target.server.as_ref()));
                outbound.destinations.len()
            }
        }
    }

    /// A message for all nodes, which had none, becomes the one for the first; the others are taken over as well.
    fn split_to_nodes(&mut self, tag: Tag, placement: &Placement, others: Vec<PartSender>) -> usize {
        let Some(outbound) = self.table.message_mut(tag) else { return 0 };
        let mut destinations = placement.nodes().iter().map(|placed| self.router.destination(&placed.node));
        outbound.destinations = destinations.next().into_iter().collect();
        let found = outbound.destinations.len();
        let (message, options) = (Arc::clone(&outbound.message), outbound.options);
        let options = DeliveryOptions { candidates: 1, bytes: message.header.len(), ..options };
        let before = self.group_backlog.len();
        self.group_backlog.extend(others.into_iter().zip(destinations).map(|(sender, destination)| {
            Outbound::new(
                Arc::clone(&message),
                [destination].into_iter().collect(),
                options,
                ResultSender::Part(sender),
            )
        }));
        let more = self.group_backlog.len() - before;
        self.queue.admission.reserve_beyond_limit(more, more * options.bytes);
        self.counters.accepted.fetch_add(more as u64, Ordering::Relaxed);
        found
    }
}

/// The shares of all nodes but the first one.
fn senders_of_other_nodes(sender: &PartSender, placement: &Arc<Placement>) -> Vec<PartSender> {
    let nodes = placement.nodes().iter().enumerate();
    sender.split(
        nodes.map(|(index, placed)| (placed.node.name.clone(), ExpectedReceivers::Node(Arc::clone(placement), index))),
    )
}
