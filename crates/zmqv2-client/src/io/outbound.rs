//! A message as the I/O thread needs it.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{
    Flags, Header, HeaderView, Kind, MessageId, NodeName, Reason, Refusal, ServerName, Target, TopicKey, Ttl,
    rewrite_hop,
};

use crate::delivery::table::{DeliveryOptions, Ending, Tag};
use crate::outcome::completion::CompletionSender;
use crate::outcome::result_group::PartSender;
use crate::outcome::{Completion, CompletionKind};
use crate::routing::directory::Lookup;
use crate::routing::router::{Destination, Destinations, Router};
use crate::routing::server_search::ServerSearch;

/// The most bytes of a refusal's detail that are kept.
pub(crate) const MAX_DETAIL_BYTES: usize = 4096;

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

/// Who is told what becomes of it.
#[derive(Debug)]
pub(crate) enum ResultSender {
    /// It is a message of its own, with one answer.
    Single(CompletionSender),
    /// It is one of several messages, or has several answers.
    Part(PartSender),
}

/// An answer from the network, understood.
#[derive(Debug)]
pub(crate) enum ParsedAnswer {
    /// One receiver speaks. With `more`, others will.
    FromReceiver { answer: ReceiverAnswer, more: bool },
    /// The call itself is still waiting or running.
    InFlight,
    /// Of the whole message.
    Refusal(Refusal, Option<NodeName>),
}

/// What one receiver says.
#[derive(Debug)]
pub(crate) struct ReceiverAnswer {
    pub(crate) server: Option<ServerName>,
    pub(crate) node: NodeName,
    pub(crate) kind: AnswerKind,
    /// The number of the send that it answers.
    pub(crate) attempt: u8,
}

#[derive(Debug)]
pub(crate) enum AnswerKind {
    Accepted,
    Stored,
    Reply(Frame),
    /// A call, says its broker.
    InFlight,
    /// Of the copy that it was to have.
    Refused(Refusal),
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

    /// What this answer to its send `attempt` says of it; the error says why it is none.
    pub(crate) fn read(
        &self,
        view: &HeaderView<'_>,
        body: Frame,
        attempt: u8,
        names: &mut Option<(ServerName, NodeName)>,
        router: &Router,
    ) -> Result<ParsedAnswer, String> {
        let Message { id, kind, .. } = *self.message;
        if view.id() != id {
            return Err(format!("it answers message {}", view.id()));
        }
        // Of one that has many receivers, each speaks for itself, under its name.
        let many = kind == Kind::Fanout || kind == Kind::Notify && self.message.target.server.is_none();
        let answer_kind = match (kind, view.kind()) {
            (Kind::Cast | Kind::Fanout | Kind::Notify, Kind::Ack) => AnswerKind::Accepted,
            (Kind::Notify, Kind::Stored) if many && view.server().is_empty() => {
                let node = self.node(view, router)?;
                let answer = ReceiverAnswer { server: None, node, kind: AnswerKind::Stored, attempt };
                return Ok(ParsedAnswer::FromReceiver { answer, more: view.count() > 0 });
            }
            (Kind::Notify, Kind::Stored) => AnswerKind::Stored,
            (Kind::Call, Kind::Reply) => AnswerKind::Reply(body),
            (Kind::Call, Kind::InFlight) => return Ok(ParsedAnswer::InFlight),
            (Kind::Inquire, Kind::InFlight) => {
                let answer = ReceiverAnswer {
                    server: None,
                    node: self.node(view, router)?,
                    kind: AnswerKind::InFlight,
                    attempt,
                };
                return Ok(ParsedAnswer::FromReceiver { answer, more: false });
            }
            (_, Kind::Refusal) => {
                let refusal = read_refusal(view, &body)?;
                if !many || view.server().is_empty() {
                    let node = (!view.node().is_empty()).then(|| NodeName::new(view.node())).transpose();
                    return Ok(ParsedAnswer::Refusal(refusal, node.map_err(|error| error.to_string())?));
                }
                AnswerKind::Refused(refusal)
            }
            (asked, kind) => return Err(format!("it is a {kind:?}, and a {asked:?} was sent")),
        };
        let (server, node) = self.names(view, names, router)?;
        let answer = ReceiverAnswer { server: Some(server), node, kind: answer_kind, attempt };
        Ok(ParsedAnswer::FromReceiver { answer, more: many && view.count() > 0 })
    }

    /// Server and node of an answer. Those of the last one over the same link most often fit, and cost nothing.
    fn names(
        &self,
        view: &HeaderView<'_>,
        last: &mut Option<(ServerName, NodeName)>,
        router: &Router,
    ) -> Result<(ServerName, NodeName), String> {
        if let Some((server, node)) = last
            && server.as_str() == view.server()
            && node.as_str() == view.node()
        {
            return Ok((server.clone(), node.clone()));
        }
        let server = match view.server() {
            "" => self.message.target.server.clone().ok_or("it does not name its server")?,
            name => ServerName::new(name).map_err(|error| error.to_string())?,
        };
        let node = self.node(view, router)?;
        *last = Some((server.clone(), node.clone()));
        Ok((server, node))
    }

    fn node(&self, view: &HeaderView<'_>, router: &Router) -> Result<NodeName, String> {
        match view.node() {
            "" => {
                let asked = self.search.as_ref().and_then(ServerSearch::asked).map(|node| node.name.clone());
                let node = asked.or_else(|| Some(self.destination(0, router)?.node));
                Ok(node.ok_or("it does not name its node")?)
            }
            name => NodeName::new(name).map_err(|error| error.to_string()),
        }
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

fn read_refusal(view: &HeaderView<'_>, body: &[u8]) -> Result<Refusal, String> {
    let reason = view.reason().map_err(|error| error.to_string())?;
    let reason = reason.ok_or("it is a refusal without a reason")?;
    let shown = &body[..body.len().min(MAX_DETAIL_BYTES)];
    Ok(Refusal::new(reason, String::from_utf8_lossy(shown)))
}
