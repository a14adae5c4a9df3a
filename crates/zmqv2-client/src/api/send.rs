//! The verbs that do not block: each gives messages to the I/O thread and returns a handle.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{Kind, RequestContext, Target, Ttl};

use crate::api::connections::Connections;
use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::single::{CallHandle, CallInfo, CastHandle};
use crate::clock;
use crate::delivery::request::{CallOptions, EncodedRequest, Request};
use crate::delivery::table::DeliveryOptions;
use crate::io::admission::NotAdmitted;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::io::thread::NotQueued;
use crate::outcome::completion::{CompletionReceiver, CompletionSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::{Part, ResultGroup};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destinations;

impl Connections {
    pub(crate) fn cast(
        &self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<CastHandle, SendError> {
        let request = Request::begin(options, options.cast_timeout, method, clock::now());
        let encoded = request.encode(Kind::Cast, options, context, args, self.settings.max_message_bytes)?;
        let id = encoded.id;
        Ok(CastHandle::new(id, self.send(Kind::Cast, options, &request, encoded)?))
    }

    pub(crate) fn call_async<R: DeserializeOwned>(
        &self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<CallHandle<R>, SendError> {
        let request = Request::begin(options, options.timeout, method, clock::now());
        let encoded = request.encode(Kind::Call, options, context, args, self.settings.max_message_bytes)?;
        let (id, method) = (encoded.id, encoded.method.clone());
        let receiver = self.send(Kind::Call, options, &request, encoded)?;
        let info = CallInfo {
            method,
            target: Arc::clone(&options.target),
            allowed_modules: Arc::clone(&self.settings.allowed_remote_modules),
        };
        Ok(CallHandle::new(id, receiver, info))
    }

    pub(crate) fn fanout(
        &self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<FanoutHandle, SendError> {
        let mut options = options.clone();
        let target = Arc::make_mut(&mut options.target);
        (target.server, target.fanout) = (None, false);
        let request = Request::begin(&options, options.cast_timeout, method, clock::now());
        let message = message(
            Kind::Fanout,
            &request,
            request.encode(Kind::Fanout, &options, context, args, self.settings.max_message_bytes)?,
        );
        let (id, topic) = (message.id, &options.target.topic);
        let placement = self.placement(&options, &request)?;

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
        let (receiver, part_senders) = ResultGroup::start(request.started, parts);
        // The messages share the body, so only the first one counts its bytes.
        let mut bytes = message.header.len() + message.body.len();
        let mut destinations = placement.nodes().iter().map(|placed| self.router.destination(&placed.node));
        let outbounds = part_senders.into_iter().map(|part_sender| {
            let destinations: Destinations = destinations.next().into_iter().collect();
            let bytes = std::mem::replace(&mut bytes, message.header.len());
            let delivery = DeliveryOptions {
                candidates: destinations.len(),
                bytes,
                ..options.delivery_options(Kind::Fanout, &request)
            };
            Outbound::new(Arc::clone(&message), destinations, delivery, ResultSender::Part(part_sender))
        });
        let sent = self.io_thread.send_all(outbounds.collect());
        sent.map_err(|error| not_queued(error, request.boxed_target()))?;
        Ok(FanoutHandle::new(id, receiver))
    }

    /// Sends a message with one receiver.
    fn send(
        &self,
        kind: Kind,
        options: &CallOptions,
        request: &Request<'_>,
        encoded: EncodedRequest,
    ) -> Result<CompletionReceiver, SendError> {
        let candidates = self.placement(options, request)?.candidates(request.target.server.as_ref());
        let message = message(kind, request, encoded);
        let (sender, receiver) = CompletionSender::new(request.started, Arc::clone(request.target));
        let result_sender = ResultSender::Single(sender);
        let bytes = message.header.len() + message.body.len();
        let delivery = DeliveryOptions { bytes, ..options.delivery_options(kind, request) };
        let outbound = match self.router.server_search(request, candidates) {
            Ok(search) => {
                let server_queue = Some(search.number());
                Outbound::to_server(message, search, DeliveryOptions { server_queue, ..delivery }, result_sender)
            }
            Err(candidates) => {
                let destinations = self.router.destinations(request.key, candidates);
                let candidates = destinations.len();
                Outbound::new(message, destinations, DeliveryOptions { candidates, ..delivery }, result_sender)
            }
        };
        self.io_thread.send(outbound).map_err(|error| not_queued(error, request.boxed_target()))?;
        Ok(receiver)
    }
}

/// The request as it goes to any node.
fn message(kind: Kind, request: &Request<'_>, encoded: EncodedRequest) -> Arc<Message> {
    Arc::new(Message {
        id: encoded.id,
        kind,
        target: Arc::clone(request.target),
        header: encoded.header(kind, Ttl::ZERO).encode(),
        body: Arc::new(encoded.body),
        started: request.started,
    })
}

pub(crate) fn not_queued(error: NotQueued, target: Box<Target>) -> SendError {
    match error {
        NotQueued::NotAdmitted(NotAdmitted::Full { open, bytes }) => SendError::Full { open, bytes, target },
        NotQueued::NotAdmitted(NotAdmitted::Closed) => SendError::Closed { target },
        NotQueued::NoThread(source) => SendError::Transport { target, source },
    }
}
