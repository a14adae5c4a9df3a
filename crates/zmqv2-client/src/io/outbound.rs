//! Messages as the I/O thread sends them.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::transport::{Frame, TransportError};
use zmqv2_proto::{Address, Flags, Header, Kind, MessageId, Target, TopicKey, Ttl, rewrite_hop};

use crate::delivery::attempt::Verdict;
use crate::delivery::table::{DeliveryOptions, Tag};
use crate::outcome::Completion;
use crate::outcome::completion::CompletionSender;
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::outcome::result_group::PartSender;
use crate::peers::Stamp;
use crate::routing::route::Route;
use crate::routing::router::Router;

/// A message, the same for all its receivers.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) kind: Kind,
    pub(crate) target: Arc<Target>,
    /// Encoded. Each send writes its tag and time to live into it.
    pub(crate) header: Vec<u8>,
    /// Messages of one fanout or notification share it.
    pub(crate) body: Arc<Vec<u8>>,
    pub(crate) started: Instant,
}

impl Message {
    /// The topic, if any server of the topic may take the message.
    pub(crate) fn for_any(&self) -> Option<TopicKey> {
        (self.target.server.is_none() && self.kind != Kind::Fanout).then(|| self.target.key())
    }
}

/// A message on its way to one of the candidates of its route.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) message: Arc<Message>,
    pub(crate) route: Route,
    pub(crate) options: DeliveryOptions,
    pub(crate) result_sender: ResultSender,
    /// The error, if no socket to the last candidate could be opened.
    pub(crate) socket_error: Option<TransportError>,
    /// Whether the message was sent before.
    pub(crate) sent: bool,
}

/// Receives the result of a message.
#[derive(Debug)]
pub(crate) enum ResultSender {
    /// For a message with one receiver.
    Single(CompletionSender),
    /// For a part of a group, or a message with many receivers.
    Part(PartSender),
}

impl Outbound {
    pub(crate) fn new(
        message: Arc<Message>,
        route: Route,
        options: DeliveryOptions,
        result_sender: ResultSender,
    ) -> Self {
        let options = route.complete_options(options);
        Self { message, route, options, result_sender, socket_error: None, sent: false }
    }

    /// The frames before the body: the delimiter, which a REQ socket would add, and the header.
    pub(crate) fn head(&self, tag: Tag, ttl: Ttl, stamp: Option<Stamp>) -> [Frame; 2] {
        let mut header = Frame::from(self.header(stamp));
        self.prepare(&mut header, tag, ttl, stamp);
        [Frame::new(), header]
    }

    pub(crate) fn fits_into(&self, bundle: &Bundle) -> bool {
        Bundle::takes(self.message.body.len()) && bundle.has_room(self.message.header.len(), self.message.body.len())
    }

    pub(crate) fn add_to(&self, bundle: &mut Bundle, tag: Tag, ttl: Ttl, stamp: Option<Stamp>) {
        self.prepare(bundle.push(self.header(stamp), &self.message.body), tag, ttl, stamp);
    }

    /// The header with the node of this client, if the broker takes it.
    fn header(&self, stamp: Option<Stamp>) -> &[u8] {
        let header = &self.message.header;
        let takes_caller = stamp.is_some_and(|stamp| stamp.with_caller);
        &header[..if takes_caller { header.len() } else { Header::length_without_node(header) }]
    }

    /// Writes the tag, the time to live, its time and the flags of one send into a header.
    fn prepare(&self, header: &mut [u8], tag: Tag, ttl: Ttl, stamp: Option<Stamp>) {
        let waits = self.options.wait_for_ready && self.route.is_certain();
        rewrite_hop(header, tag.to_wire(), ttl);
        if !stamp.is_some_and(|stamp| stamp.with_caller) {
            Header::forget_node(header);
        }
        if let Some(stamp) = stamp.filter(|_| self.message.kind.is_request()) {
            stamp.write(header);
        }
        let is_cast = matches!(self.message.kind, Kind::Cast | Kind::Fanout);
        let flags = if is_cast { Flags::BUNDLES.with(Flags::NO_METHOD) } else { Flags::BUNDLES };
        Header::stamp_flags(header, if waits { flags.with(Flags::WAIT_FOR_READY) } else { flags });
    }

    /// The frames that ask whether this message is still in flight.
    pub(crate) fn inquiry(&self, tag: Tag, ttl: Ttl) -> [Frame; 3] {
        let mut header = Header::new(Kind::Inquire, self.message.id);
        (header.tag, header.ttl, header.flags) = (tag.to_wire(), ttl, Flags::BUNDLES);
        [Frame::new(), Frame::from(header.encode()), Frame::new()]
    }

    /// The result for its sender.
    pub(crate) fn completion(
        &mut self,
        result: Result<ReceiverAnswer, Verdict>,
        router: &Router,
        now: Instant,
    ) -> Completion {
        let Self { message, route, socket_error, .. } = self;
        let after = now.saturating_duration_since(message.started);
        let destination = |candidate| route.destination(candidate, router).or_else(|| route.destination(0, router));
        let result = result.map_err(|verdict| {
            let cause = |address: &Address| router.health().cause(address);
            verdict.into_call_error(&message.target, after, destination, route.doubt(), socket_error.take(), cause)
        });
        Completion { result, after }
    }
}
