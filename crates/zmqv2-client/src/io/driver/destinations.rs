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
use crate::io::outbound::{Parcel, Receipt};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::PartSender;

/// For how long a message that is for one server trusts what the directory has said of it.
const LOOK_UP_AFTER: Duration = Duration::from_millis(100);

impl Driver {
    /// The link to a candidate of a message.
    pub(super) fn link_to(&mut self, tag: Tag, candidate: usize, now: Instant) -> Option<LinkId> {
        let parcel = self.table.message_mut(tag)?;
        if let Some(search) = &mut parcel.search {
            search.ask(candidate);
        }
        let destination = parcel.destination(candidate, &self.router)?;
        let link = match self.links.find(&destination.address) {
            Some(link) => link,
            None => {
                let address = destination.address.clone();
                if self.links.is_full() {
                    self.close_surplus(1, now);
                }
                match self.links.open(&address, now) {
                    Ok(link) => self.watch(link)?,
                    Err(error) => {
                        log::debug!("cannot connect to {address}: {error}");
                        self.router.health().mark_unreachable(&address, now);
                        return None;
                    }
                }
            }
        };
        self.warm(link);
        Some(link)
    }

    pub(super) fn watch(&mut self, id: LinkId) -> Option<LinkId> {
        let watched = self.links.get(id)?.socket.fds().try_for_each(|fd| {
            self.poll.registry().register(&mut SourceFd(&fd), Token(id + FIRST_LINK), Interest::READABLE)
        });
        match watched {
            Ok(()) => Some(id),
            Err(error) => {
                log::error!("cannot wait for events of a socket: {error}");
                self.links.close(id);
                None
            }
        }
    }

    pub(super) fn unwatch(&self, socket: &Socket) {
        for fd in socket.fds() {
            drop(self.poll.registry().deregister(&mut SourceFd(&fd)));
        }
    }

    /// Where a message can go now, found out without waiting for the directory.
    pub(super) fn look_up(&mut self, tag: Tag, now: Instant) -> SearchPlan {
        let Some(parcel) = self.table.message_mut(tag) else { return SearchPlan::among(0) };
        let Some(search) = &mut parcel.search else { return SearchPlan::among(self.look_up_nodes(tag)) };
        let target = &parcel.content.target;
        // What its sender has just found in the directory is as good.
        if now.saturating_duration_since(parcel.looked_up) >= LOOK_UP_AFTER {
            match self.router.directory.poll_placement(target.key(), &mut parcel.lookup) {
                Some(Ok(placement)) => {
                    search.renew(placement.candidates(target.server.as_ref()));
                    parcel.looked_up = now;
                }
                Some(Err(error)) => log::debug!("cannot look up {target}: {error:?}"),
                None => {}
            }
        }
        self.router.plan_search(search, target, now)
    }

    /// Asks the directory for the nodes of a message again; how many candidates there are.
    fn look_up_nodes(&mut self, tag: Tag) -> usize {
        let Some(parcel) = self.table.message_mut(tag) else { return 0 };
        let target = &parcel.content.target;
        let placement = match self.router.directory.poll_placement(target.key(), &mut parcel.lookup) {
            Some(Ok(placement)) => placement,
            Some(Err(error)) => {
                log::debug!("cannot look up {target}: {error:?}");
                return 0;
            }
            None => return 0,
        };
        match &parcel.receipt {
            Receipt::Part(sender) if parcel.content.kind == Kind::Fanout => match parcel.destination(0, &self.router) {
                // It is for this node alone, which may have another address now.
                Some(destination) => {
                    let here = placement.nodes().iter().find(|placed| placed.node.name == destination.node);
                    // A node that is not there now may come again: without its name, this were one for all nodes.
                    let Some(placed) = here else { return 0 };
                    parcel.destinations = [self.router.destination(&placed.node)].into_iter().collect();
                    1
                }
                None => {
                    let others = spread(sender, &placement);
                    self.multiply(tag, &placement, others)
                }
            },
            _ => {
                parcel.destinations =
                    self.router.destinations(&target.key(), placement.candidates(target.server.as_ref()));
                parcel.destinations.len()
            }
        }
    }

    /// A message for all nodes, which had none, becomes the one for the first; the others are taken over as well.
    fn multiply(&mut self, tag: Tag, placement: &Placement, others: Vec<PartSender>) -> usize {
        let Some(parcel) = self.table.message_mut(tag) else { return 0 };
        let mut destinations = placement.nodes().iter().map(|placed| self.router.destination(&placed.node));
        parcel.destinations = destinations.next().into_iter().collect();
        let found = parcel.destinations.len();
        let (content, options) = (Arc::clone(&parcel.content), parcel.options);
        let options = DeliveryOptions { candidates: 1, bytes: content.header.len(), ..options };
        let before = self.incoming.len();
        self.incoming.extend(others.into_iter().zip(destinations).map(|(sender, destination)| {
            Parcel::new(Arc::clone(&content), [destination].into_iter().collect(), options, Receipt::Part(sender))
        }));
        let more = self.incoming.len() - before;
        self.line.gate.grow(more, more * options.bytes);
        self.counters.accepted.fetch_add(more as u64, Ordering::Relaxed);
        found
    }
}

/// The shares of all nodes but the first one.
fn spread(sender: &PartSender, placement: &Arc<Placement>) -> Vec<PartSender> {
    let nodes = placement.nodes().iter().enumerate();
    sender.split(
        nodes.map(|(place, placed)| (placed.node.name.clone(), ExpectedReceivers::Node(Arc::clone(placement), place))),
    )
}
