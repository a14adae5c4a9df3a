//! The verbs that do not block: each gives messages to the I/O thread and returns a handle.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{Kind, RequestContext, Target, Ttl};

use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::single::{CallHandle, CastHandle};
use crate::api::rpc_client::RpcClient;
use crate::clock;
use crate::delivery::request::{EncodedRequest, Request};
use crate::delivery::table::DeliveryOptions;
use crate::io::admission::NotQueued;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::outcome::completion::{CompletionReceiver, CompletionSender};
use crate::outcome::receiver_tracker::ExpectedReceivers;
use crate::outcome::result_group::{Part, ResultGroup};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::Destinations;
use crate::routing::directory::Listing;
use crate::routing::route::Route;

/// Sending messages without waiting.
impl RpcClient {
    /// Like [`call`](Self::call), but does not wait: the handle gives the result. One thread can
    /// have many calls open, over one connection per node.
    ///
    /// ```no_run
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = RpcClient::builder(Target::topic("calculator")?).build()?;
    /// let context = RequestContext::new();
    /// let one = client.call_async::<i64>(&context, "add", &(1, 2))?;
    /// let two = client.call_async::<i64>(&context, "add", &(3, 4))?;
    /// assert_eq!(one.wait()? + two.wait()?, 10);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent.
    pub fn call_async<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<CallHandle<R>, SendError> {
        let request = Request::begin(&self.options, self.call_timeout(), method, clock::now());
        let encoded = request.encode(Kind::Call, context, &args, self.max_message_bytes())?;
        let (id, method) = (encoded.id, encoded.method.clone());
        let receiver = self.send(Kind::Call, &request, encoded)?;
        let allowed_modules = Arc::clone(&self.connections.settings.allowed_remote_modules);
        let queue = self.connections.io_thread.queue();
        Ok(CallHandle::new(id, receiver, queue, method, Arc::clone(&self.options.target), allowed_modules))
    }

    /// Sends `method` with `args` to a server and does not wait: the handle gives the outcome.
    ///
    /// This blocks only while the client has no room ([`WhenFull::Wait`](crate::WhenFull::Wait)),
    /// and for the first lookup of a topic. The casts of one thread to one node leave in order.
    ///
    /// ```no_run
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("mailer")?).build()?;
    /// let handle = client.cast(&RequestContext::new(), "send", &("ann", "hello"))?;
    /// drop(handle); // or poll it, wait on it, await it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent.
    pub fn cast(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<CastHandle, SendError> {
        let request = Request::begin(&self.options, self.cast_timeout(), method, clock::now());
        let encoded = request.encode(Kind::Cast, context, &args, self.max_message_bytes())?;
        Ok(CastHandle::new(encoded.id, self.send(Kind::Cast, &request, encoded)?))
    }

    /// Sends `method` with `args` to every server of the topic and does not wait: the handle gives
    /// the outcome of each server. A server in the target is ignored.
    ///
    /// The client sends one message to every node that the directory knows, and the broker there
    /// makes a copy for each of its servers. A slow or dead node delays no other node. The client
    /// accepts all messages of one fanout together, as soon as it has room for one
    /// ([`max_outstanding`](crate::RpcClientBuilder::max_outstanding)).
    ///
    /// With [`retry`](Self::retry), a node gets the message again if its connection broke or if its
    /// answer was incomplete. A server runs it once.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("cache")?).build()?;
    /// let handle = client.fanout(&RequestContext::new(), "forget", &("ann",))?;
    /// if let Some(report) = handle.wait(Duration::from_secs(5)) {
    ///     println!("{report:#}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent. If the directory is sure that there is no node of the topic,
    /// this is no error: the report then has one result, `NoRoute`.
    pub fn fanout(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<FanoutHandle, SendError> {
        let mut options = self.options.clone();
        let target = Arc::make_mut(&mut options.target);
        (target.server, target.fanout) = (None, false);
        let request = Request::begin(&options, self.cast_timeout(), method, clock::now());
        let encoded = request.encode(Kind::Fanout, context, &args, self.max_message_bytes())?;
        let message = message(Kind::Fanout, &request, encoded);
        let router = &self.connections.router;
        let mut lookup = None;
        let Listing { placement, doubt } = router.directory.listing(&options.key, || request.deadline, &mut lookup);
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
        let (receiver, part_senders) = ResultGroup::start(request.started, parts, incomplete);
        // The messages share the body, so only the first one counts its bytes.
        let mut bytes = message.header.len() + message.body.len();
        let mut destinations = placement.nodes().iter().map(|placed| router.destination(&placed.node));
        let outbounds = part_senders.into_iter().map(|part_sender| {
            let destinations = Destinations::Listed(destinations.next().into_iter().collect());
            let bytes = std::mem::replace(&mut bytes, message.header.len());
            let options = DeliveryOptions { bytes, ..request.delivery_options(Kind::Fanout) };
            let route = Route::to_any(destinations, request.started).with_doubt(doubt.clone());
            Outbound::new(Arc::clone(&message), route, options, ResultSender::Part(part_sender))
        });
        let sent = self.connections.io_thread.send_all(outbounds.collect());
        sent.map_err(|error| not_queued(error, &options.target))?;
        Ok(FanoutHandle::new(message.id, receiver))
    }

    /// Sends a message with one receiver.
    fn send(
        &self,
        kind: Kind,
        request: &Request<'_>,
        encoded: EncodedRequest,
    ) -> Result<CompletionReceiver, SendError> {
        let route = Route::first(&self.connections.router, request)?;
        let target = &request.options.target;
        let message = message(kind, request, encoded);
        let (sender, receiver) = CompletionSender::new(request.started, Arc::clone(target));
        let bytes = message.header.len() + message.body.len();
        let options = DeliveryOptions { bytes, ..request.delivery_options(kind) };
        let outbound = Outbound::new(message, route, options, ResultSender::Single(sender));
        self.connections.io_thread.send(outbound).map_err(|error| not_queued(error, target))?;
        Ok(receiver)
    }

    fn max_message_bytes(&self) -> usize {
        self.connections.settings.config.max_message_bytes
    }

    fn cast_timeout(&self) -> Duration {
        self.options.cast_timeout.unwrap_or(self.connections.settings.config.cast_timeout)
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

pub(super) fn not_queued(error: NotQueued, target: &Target) -> SendError {
    let target = Box::new(target.clone());
    match error {
        NotQueued::Full { open, bytes } => SendError::Full { open, bytes, target },
        NotQueued::Closed => SendError::Closed { target },
        NotQueued::NoThread(source) => SendError::Transport { target, source },
    }
}
