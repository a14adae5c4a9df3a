//! A message as the I/O thread needs it.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Flags, Header, Kind, MessageId, Reason, Refusal, Target, TopicKey, Ttl, rewrite_hop};

use crate::delivery::table::{DeliveryOptions, Ending, Tag};
use crate::outcome::completion::CompletionSender;
use crate::outcome::receiver_answer::{AnswerKind, ReceiverAnswer};
use crate::outcome::result_group::PartSender;
use crate::outcome::{Completion, CompletionKind};
use crate::routing::directory::Lookup;
use crate::routing::router::{Destination, Destinations, Router};
use crate::routing::server_search::ServerSearch;

/// A message, the same for all its receivers.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) kind: Kind,
    pub(crate) target: Arc<Target>,
    /// Encoded; tag and time to live are written at each send.
    pub(crate) header: Vec<u8>,
    /// Shared by messages that differ in their headers.
    pub(crate) body: Arc<Vec<u8>>,
    pub(crate) started: Instant,
}

impl Message {
    /// The topic, if one server of any node is to take it. (Of those that all are to take it, some may have.)
    pub(crate) fn for_any(&self) -> Option<TopicKey> {
        (self.target.server.is_none() && self.kind != Kind::Fanout).then(|| self.target.key())
    }
}

/// A message on its way to one receiver, or to one after the other until one has taken it.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) message: Arc<Message>,
    /// Where it can go, if it is for no certain server.
    pub(crate) destinations: Destinations,
    /// The way to the server that it is for.
    pub(crate) search: Option<ServerSearch>,
    pub(crate) options: DeliveryOptions,
    pub(crate) result_sender: ResultSender,
    /// A question to the directory that has no answer yet.
    pub(crate) lookup: Option<Arc<Lookup>>,
    /// When the directory was asked for the way to its server.
    pub(crate) looked_up: Instant,
    /// Whether a link has taken it before.
    pub(crate) sent: bool,
}

/// Gets the result of the message.
#[derive(Debug)]
pub(crate) enum ResultSender {
    /// It is a message of its own, with one answer.
    Single(CompletionSender),
    /// It is one of several messages, or has several answers.
    Part(PartSender),
}

impl Outbound {
    pub(crate) fn new(
        message: Arc<Message>,
        destinations: Destinations,
        options: DeliveryOptions,
        result_sender: ResultSender,
    ) -> Self {
        let looked_up = message.started;
        Self { message, destinations, search: None, options, result_sender, lookup: None, looked_up, sent: false }
    }

    /// A message to one server.
    pub(crate) fn to_server(
        message: Arc<Message>,
        search: ServerSearch,
        options: DeliveryOptions,
        result_sender: ResultSender,
    ) -> Self {
        Self { search: Some(search), ..Self::new(message, Destinations::Listed(Vec::new()), options, result_sender) }
    }

    /// The candidate of this number.
    pub(crate) fn destination(&self, candidate: usize, router: &Router) -> Option<Destination> {
        match &self.search {
            Some(search) => search.node(candidate).map(|node| router.destination(node)),
            None => router.nth_destination(&self.destinations, candidate),
        }
    }

    /// The frames in front of the body, as they go over a DEALER: the delimiter that a REQ would add, and the header.
    pub(crate) fn head(&self, tag: Tag, ttl: Ttl) -> [Frame; 2] {
        let mut header = Frame::from(&self.message.header[..]);
        stamp(&mut header, tag, ttl);
        [Frame::new(), header]
    }

    /// Whether it may leave together with others.
    pub(crate) fn fits_into(&self, bundle: &Bundle) -> bool {
        Bundle::takes(self.message.body.len()) && bundle.has_room(self.message.header.len(), self.message.body.len())
    }

    /// It leaves together with others.
    pub(crate) fn add_to(&self, bundle: &mut Bundle, tag: Tag, ttl: Ttl) {
        stamp(bundle.push(&self.message.header, &self.message.body), tag, ttl);
    }

    /// The frames that ask for it, as they go over the same DEALER.
    pub(crate) fn inquiry(&self, tag: Tag, ttl: Ttl) -> [Frame; 3] {
        let mut header = Header::new(Kind::Inquire, self.message.id);
        (header.tag, header.ttl, header.flags) = (tag.to_wire(), ttl, Flags::BUNDLES);
        [Frame::new(), Frame::from(header.encode()), Frame::new()]
    }

    /// How it ended, in the words of its sender.
    pub(crate) fn completion(&self, ending: Ending<ReceiverAnswer>, router: &Router, now: Instant) -> Completion {
        let after = now.saturating_duration_since(self.message.started);
        let destination =
            |candidate: usize| self.destination(candidate, router).or_else(|| self.destination(0, router));
        let refusal =
            |reason, detail: String| CompletionKind::Refused { refusal: Refusal::new(reason, detail), node: None };
        let kind = match ending {
            Ending::Answered(ReceiverAnswer { kind: AnswerKind::InFlight, .. }) => CompletionKind::InFlight,
            Ending::Answered(ReceiverAnswer { server: Some(server), node, kind, .. }) => match kind {
                AnswerKind::Accepted | AnswerKind::Stored | AnswerKind::InFlight => {
                    CompletionKind::Answered { server, node, body: None }
                }
                AnswerKind::Reply(body) => CompletionKind::Answered { server, node, body: Some(body) },
                AnswerKind::Refused(refusal) => CompletionKind::Refused { refusal, node: Some(node) },
            },
            Ending::Answered(ReceiverAnswer { server: None, .. }) => CompletionKind::Closed { sent: true },
            Ending::Refused(refusal, node) => CompletionKind::Refused { refusal, node },
            Ending::NoCandidate => {
                refusal(Reason::NoRoute, format!("the directory knows no node of {}", self.message.target))
            }
            Ending::NeverReady => {
                refusal(Reason::Expired, format!("nobody became ready to take it for {}", self.message.target))
            }
            Ending::Closed { sent } => CompletionKind::Closed { sent },
            Ending::Unreachable { candidate } => destination(candidate)
                .map_or(CompletionKind::Closed { sent: false }, |Destination { node, address }| {
                    CompletionKind::Unreachable { node, address }
                }),
            Ending::ConnectionLost { candidate } => destination(candidate)
                .map_or(CompletionKind::Closed { sent: true }, |Destination { node, address }| {
                    CompletionKind::ConnectionLost { node, address }
                }),
            Ending::NoAnswer { candidate } => destination(candidate)
                .map_or(CompletionKind::Closed { sent: true }, |Destination { node, address }| {
                    CompletionKind::NoAnswer { node, address }
                }),
        };
        Completion { kind, after }
    }
}

/// Writes what belongs to this send into a header.
fn stamp(header: &mut [u8], tag: Tag, ttl: Ttl) {
    rewrite_hop(header, tag.to_wire(), ttl);
    Header::stamp_flags(header, Flags::BUNDLES);
}
