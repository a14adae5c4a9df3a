//! A message that is encoded and has no nodes yet. What follows needs the directory, and may wait.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use zmqv2_proto::{Kind, MessageId, MethodName, RequestContext, Target, Ttl};

use crate::api::rpc_client::RpcClient;
use crate::clock;
use crate::delivery::request::{CallOptions, EncodedRequest, Request};
use crate::delivery::table::DeliveryOptions;
use crate::interceptor::Verb;
use crate::interceptor::chain::{Around, Interceptors};
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::completion::{CompletionReceiver, CompletionSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::{GroupReceiver, Part, ResultGroup};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destinations;
use crate::routing::directory::Listing;
use crate::routing::lookup::Lookup;
use crate::routing::route::Route;
use crate::routing::router::Router;

/// The content of a message.
pub(super) enum Content<'a, A: ?Sized> {
    Args {
        context: Cow<'a, RequestContext>,
        method: &'a MethodName,
        args: &'a A,
    },
    /// A body that is ready.
    Body(Vec<u8>),
}

impl Content<'_, ()> {
    pub(super) fn ready(body: impl Into<Vec<u8>>) -> Self {
        Self::Body(body.into())
    }
}

impl<'a, A: Serialize + ?Sized> Content<'a, A> {
    pub(super) fn args(context: &'a RequestContext, method: &'a MethodName, args: &'a A) -> Self {
        Self::Args { context: Cow::Borrowed(context), method, args }
    }

    /// The content as interceptors leave it.
    fn intercepted<'b>(
        self,
        interceptors: &Interceptors,
        verb: Verb,
        target: &'b Target,
    ) -> Result<(Content<'b, A>, Around), SendError>
    where
        'a: 'b,
    {
        match self {
            Self::Args { context, method, args } => {
                let (context, around) = interceptors.before(verb, target, Some(method.as_str()), context)?;
                Ok((Content::Args { context, method, args }, around))
            }
            Self::Body(body) => Ok((Content::Body(body), interceptors.before_body(verb, target)?)),
        }
    }

    pub(super) fn encode(self, kind: Kind, request: &Request<'_>, limit: usize) -> Result<EncodedRequest, SendError> {
        match self {
            Self::Args { context, method, args } => request.encode(kind, &context, method, &args, limit),
            Self::Body(body) => request.ready(kind, body, limit),
        }
    }
}

/// A call or a cast.
#[derive(Debug)]
pub(crate) struct Draft {
    kind: Kind,
    started: Instant,
    deadline: Instant,
    encoded: EncodedRequest,
    around: Around,
}

impl Draft {
    pub(super) fn new<A: Serialize + ?Sized>(
        client: &RpcClient,
        kind: Kind,
        content: Content<'_, A>,
    ) -> Result<Self, SendError> {
        let verb = if kind == Kind::Call { Verb::Call } else { Verb::Cast };
        let (content, around) = content.intercepted(client.interceptors(), verb, client.target())?;
        Ok(Self { around, ..Self::without_interceptors(client, kind, content)? })
    }

    /// A message whose interceptors wait elsewhere.
    pub(super) fn without_interceptors<A: Serialize + ?Sized>(
        client: &RpcClient,
        kind: Kind,
        content: Content<'_, A>,
    ) -> Result<Self, SendError> {
        let request = client.request(kind);
        let encoded = content.encode(kind, &request, client.max_message_bytes())?;
        Ok(Self { kind, started: request.started, deadline: request.deadline, encoded, around: Around::default() })
    }

    pub(super) fn id(&self) -> MessageId {
        self.encoded.id
    }

    /// The request, with the options of the client that it was made for.
    pub(super) fn request<'a>(&self, options: &'a CallOptions) -> Request<'a> {
        Request { options, started: self.started, deadline: self.deadline }
    }

    /// The message as the I/O thread sends it, to the nodes that the directory lists. `lookup` has no
    /// answer yet.
    pub(super) fn route(
        self,
        router: &Router,
        options: &CallOptions,
        listing: Listing,
        lookup: Option<Arc<Lookup>>,
    ) -> Result<(Box<Outbound>, CompletionReceiver), SendError> {
        let request = self.request(options);
        let route = Route::from_listing(router, &request, listing, lookup)?;
        let message = message(self.kind, &request, self.encoded);
        let (sender, receiver) = CompletionSender::new(request.started, Arc::clone(&options.target));
        let sender = sender.with_interceptors(self.around, self.kind == Kind::Call);
        let bytes = message.header.len() + message.body.len();
        let options = DeliveryOptions { bytes, ..request.delivery_options(self.kind) };
        Ok((Box::new(Outbound::new(message, route, options, ResultSender::Single(sender))), receiver))
    }
}

/// A fanout.
#[derive(Debug)]
pub(super) struct FanoutDraft {
    options: CallOptions,
    deadline: Instant,
    message: Arc<Message>,
    around: Around,
}

impl FanoutDraft {
    pub(super) fn new<A: Serialize + ?Sized>(client: &RpcClient, content: Content<'_, A>) -> Result<Self, SendError> {
        let mut options = client.options.clone();
        let target = Arc::make_mut(&mut options.target);
        (target.server, target.fanout) = (None, false);
        let (content, around) = content.intercepted(client.interceptors(), Verb::Fanout, client.target())?;
        let request = Request::begin(&options, client.cast_timeout(), clock::now());
        let encoded = content.encode(Kind::Fanout, &request, client.max_message_bytes())?;
        let (deadline, message) = (request.deadline, message(Kind::Fanout, &request, encoded));
        Ok(Self { options, deadline, message, around })
    }

    pub(super) fn id(&self) -> MessageId {
        self.message.id
    }

    pub(super) fn options(&self) -> &CallOptions {
        &self.options
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// One message for each node that the directory lists.
    pub(super) fn route(
        &mut self,
        router: &Router,
        listing: Listing,
    ) -> Result<(Vec<Outbound>, GroupReceiver), SendError> {
        let Self { options, deadline, message, around } = self;
        let request = Request { options, started: message.started, deadline: *deadline };
        let Listing { placement, doubt } = listing;
        if let Some(doubt) = doubt.clone().filter(|_| placement.is_empty() && !options.wait_for_ready) {
            return Err(doubt.into_error(request.boxed_target(), request.elapsed(clock::now())));
        }

        let topic = &options.target.topic;
        let nodes = placement.nodes().iter().enumerate();
        let mut parts: Vec<Part> = nodes
            .map(|(index, placed)| {
                let expected = ExpectedReceivers::Node(Arc::clone(&placement), index);
                Part::new(topic.clone(), Some(placed.node.name.clone()), expected)
            })
            .collect();
        if parts.is_empty() {
            // The I/O thread waits for a node, or refuses the message with `NoRoute`.
            parts.push(Part::new(topic.clone(), None, ExpectedReceivers::Unknown));
        }
        let incomplete = doubt.as_ref().map(|doubt| doubt.to_string().into());
        let (receiver, part_senders) = ResultGroup::start(request.started, parts, incomplete, std::mem::take(around));
        // The messages share the body, so only the first one counts its bytes.
        let mut bytes = message.header.len() + message.body.len();
        let mut destinations = placement.nodes().iter().map(|placed| router.destination(&placed.node));
        let outbounds = part_senders.into_iter().map(|part_sender| {
            let destinations = Destinations::Listed(destinations.next().into_iter().collect());
            let bytes = std::mem::replace(&mut bytes, message.header.len());
            let options = DeliveryOptions { bytes, ..request.delivery_options(Kind::Fanout) };
            let route = Route::to_any(destinations, request.started).with_doubt(doubt.clone());
            Outbound::new(Arc::clone(message), route, options, ResultSender::Part(part_sender))
        });
        Ok((outbounds.collect(), receiver))
    }
}

/// The request as it goes to any node.
fn message(kind: Kind, request: &Request<'_>, encoded: EncodedRequest) -> Arc<Message> {
    Arc::new(Message {
        id: encoded.id,
        kind,
        target: Arc::clone(&request.options.target),
        header: encoded.header(kind, Ttl::ZERO).encode(),
        body: Arc::new(encoded.body),
        started: request.started,
    })
}
