//! The client: its target, the options of its messages, and the verbs.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zmqv2_proto::{
    Exchange, InvalidName, Kind, MethodName, Namespace, RequestContext, ServerName, Target, Topic, Version,
};

use crate::api::connections::{Connections, SharedConnections};
use crate::api::draft::{Content, Draft};
use crate::api::handles::single::CallHandle;
use crate::api::notifier::{Notifier, NotifyOptions};
use crate::api::rpc_client_builder::{RpcClientBuilder, call_setters};
use crate::delivery::request::{CallOptions, Request};
use crate::direct::call::DirectCaller;
use crate::interceptor::Verb;
use crate::interceptor::chain::Interceptors;
use crate::io::thread::Closed;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::counters::Counters;
use crate::outcome::result_reader::ResultReader;
use crate::outcome::send_error::SendError;
use crate::{callback_thread, clock};

const PING: &str = "oslo_rpc_server_ping";

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pong {
    Pong,
}

/// Calls the methods of one service.
///
/// A client is `Send`, `Sync` and cheap to clone. All clones share the connections, the I/O thread
/// and the turns among nodes. Make one client per service and share it. Clients of several services
/// can share a libzmq context ([`transport`](RpcClientBuilder::transport)).
///
/// [`prepare`](Self::prepare) makes a copy for another server, version or timeout. The setters of
/// that copy have the names of the [builder's](RpcClientBuilder) setters.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_client::{CallError, RequestContext, RpcClient, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let target = Target::topic("calculator")?;
/// let client = RpcClient::builder(target).timeout(Duration::from_secs(5)).build()?;
/// let context = RequestContext::new().with("user", "ann");
/// match client.call::<i64>(&context, "add", &(1, 2)) {
///     Ok(sum) => println!("{sum}"),
///     Err(CallError::Remote(error)) => println!("the method failed: {error}"),
///     Err(error) if error.may_have_run() => println!("check before you call again: {error}"),
///     Err(error) => println!("safe to call again: {error}"),
/// }
///
/// let at_s1 = client.prepare().server("s1")?.timeout(Duration::from_millis(300));
/// let sum: i64 = at_s1.call(&context, "add", &(1, 2))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a client does nothing until it sends a message"]
pub struct RpcClient {
    pub(super) connections: Arc<SharedConnections>,
    pub(super) options: CallOptions,
}

/// Making a client.
impl RpcClient {
    /// Starts to build a client for `target`: a topic, or one server of it. No connection is opened
    /// before the first message.
    ///
    /// A target without an exchange gets the configured one (option `control_exchange`).
    pub fn builder(target: Target) -> RpcClientBuilder {
        RpcClientBuilder::new(target)
    }

    pub(crate) fn new(connections: Arc<SharedConnections>, options: CallOptions) -> Self {
        Self { connections, options }
    }

    /// Makes a copy that shares everything with this client. The following setters change the copy,
    /// for one message or for many.
    pub fn prepare(&self) -> Self {
        self.clone()
    }

    /// Sends to exactly this server of the topic, and never to another one.
    ///
    /// # Errors
    /// [`InvalidName`] if `server` is not a valid server name.
    pub fn server(self, server: impl AsRef<str>) -> Result<Self, InvalidName> {
        let server = ServerName::new(server)?;
        Ok(self.with_target(|target| target.server = Some(server)))
    }

    /// Sends to another topic.
    ///
    /// # Errors
    /// [`InvalidName`] if `topic` is not a valid topic.
    pub fn topic(self, topic: impl AsRef<str>) -> Result<Self, InvalidName> {
        let topic = Topic::new(topic)?;
        Ok(self.with_target(|target| target.topic = topic).with_new_key())
    }

    /// Sends to the topic in another exchange.
    ///
    /// # Errors
    /// [`InvalidName`] if `exchange` is not a valid exchange.
    pub fn exchange(self, exchange: impl AsRef<str>) -> Result<Self, InvalidName> {
        let exchange = Exchange::new(exchange)?;
        Ok(self.with_target(|target| target.exchange = Some(exchange)).with_new_key())
    }

    /// Calls methods of another namespace.
    ///
    /// # Errors
    /// [`InvalidName`] if `namespace` is not a valid namespace.
    pub fn namespace(self, namespace: impl AsRef<str>) -> Result<Self, InvalidName> {
        let namespace = Namespace::new(namespace)?;
        Ok(self.with_target(|target| target.namespace = Some(namespace)))
    }

    /// Sets the version of the interface that the method needs.
    pub fn version(self, version: Version) -> Self {
        self.with_target(|target| target.version = Some(version))
    }

    /// Sets namespace and version together.
    pub(super) fn with_interface(self, namespace: Option<Namespace>, version: Version) -> Self {
        self.with_target(|target| (target.namespace, target.version) = (namespace, Some(version)))
    }

    call_setters!();

    /// Sets both timeouts: [of calls](RpcClientBuilder::timeout) and
    /// [of casts](RpcClientBuilder::cast_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        (self.options.timeout, self.options.cast_timeout) = (Some(timeout), Some(timeout));
        self
    }

    fn with_target(mut self, change: impl FnOnce(&mut Target)) -> Self {
        change(Arc::make_mut(&mut self.options.target));
        self
    }

    /// After a change of the topic or the exchange.
    fn with_new_key(mut self) -> Self {
        self.options.key = self.options.target.key();
        self
    }

    /// Makes a notifier for `publisher_id`, such as `compute.node-7`. It sends through this client:
    /// it shares the connections, the bounds, the observer and the counters, and
    /// [`close`](Self::close) ends both.
    ///
    /// ```no_run
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("compute")?).build()?;
    /// let notifier = client.notifier("compute.node-7").topics(["audit"])?.retry(2);
    /// drop(notifier.info(&RequestContext::new(), "instance.created", &7)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The settings of the connections are those of the client, so the notifier has no setter for
    /// them:
    ///
    /// ```compile_fail
    /// # use zmqv2_client::{Config, RpcClient};
    /// fn notifier(client: &RpcClient) {
    ///     client.notifier("compute.node-7").config(Config::default());
    /// }
    /// ```
    pub fn notifier(&self, publisher_id: impl Into<String>) -> Notifier {
        Notifier::new(Arc::clone(&self.connections), NotifyOptions::new(publisher_id.into()))
    }
}

/// Sending messages.
impl RpcClient {
    /// Calls `method` with `args` and waits for its result.
    ///
    /// `args` is a struct or a map of named arguments. Services that use zmqv2 on both sides can
    /// use any JSON value. If `R` is `Box<serde_json::value::RawValue>`, the result is the JSON
    /// text.
    ///
    /// # Errors
    /// [`CallError`], at most 50 ms after the client's timeout.
    pub fn call<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        Ok(self.call_detailed(context, method, args)?.value)
    }

    /// Like [`call`](Self::call), and also returns which server answered and how long the call
    /// took.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_detailed<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<Answered<R>, CallError> {
        let method = MethodName::new(method)?;
        let (verb, target, context) = (Verb::Call, &self.options.target, Cow::Borrowed(context));
        let (context, around) = self.interceptors().before(verb, target, Some(method.as_str()), context)?;
        let content = |_| Content::args(&context, &method, args);
        let result = self.call_blocking(content, &self.typed_reader(Some(method.clone())));
        around.returned(&result);
        result
    }

    /// Asks whether a server of the target answers. Every server has the method
    /// `oslo_rpc_server_ping` for this, unless the server disabled it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn ping(&self) -> Result<Answered<()>, CallError> {
        let answered = self.call_detailed(&RequestContext::new(), PING, &serde_json::Map::new())?;
        Ok(answered.map(|Pong::Pong| ()))
    }

    /// Calls and waits. `content` makes the content: with `true`, it will not be needed again.
    pub(super) fn call_blocking<'a, A: Serialize + ?Sized + 'a, R>(
        &self,
        mut content: impl FnMut(bool) -> Content<'a, A>,
        reader: &ResultReader<R>,
    ) -> Result<Answered<R>, CallError> {
        if callback_thread::is_current() {
            return Err(SendError::WouldBlock { target: reader.target() }.into());
        }
        // A single call uses a REQ socket, which is the fastest. Concurrent calls share the
        // connection of the I/O thread, which costs less for each of them (decision 0016).
        let (active, alone) = self.connections.enter_call();
        let result = if alone { None } else { self.call_over_io_thread(|| content(false), reader) };
        let result = result.unwrap_or_else(|| self.call_directly(content(true), reader));
        drop(active);
        result
    }

    /// `None`: the I/O thread cannot take the call.
    fn call_over_io_thread<'a, A: Serialize + ?Sized + 'a, R>(
        &self,
        content: impl FnOnce() -> Content<'a, A>,
        reader: &ResultReader<R>,
    ) -> Option<Result<Answered<R>, CallError>> {
        if !self.connections.io_thread.has_room() {
            return None;
        }
        match Draft::without_interceptors(self, Kind::Call, content()).and_then(|draft| self.send(draft)) {
            Ok(sent) => Some(CallHandle::new(sent, reader.clone()).wait_detailed()),
            Err(SendError::Full { .. } | SendError::Closed { .. } | SendError::Transport { .. }) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    fn call_directly<A: Serialize + ?Sized, R>(
        &self,
        content: Content<'_, A>,
        reader: &ResultReader<R>,
    ) -> Result<Answered<R>, CallError> {
        let Connections { settings, router, req_sockets, io_thread, .. } = &**self.connections;
        let request = self.request(Kind::Call);
        let encoded = content.encode(Kind::Call, &request, settings.config.max_message_bytes)?;
        let caller = DirectCaller { settings, router, req_sockets, io_thread };
        reader.read(caller.call(request, encoded)?)
    }

    /// A call or a cast that starts now.
    pub(super) fn request(&self, kind: Kind) -> Request<'_> {
        let timeout = if kind == Kind::Call { self.call_timeout() } else { self.cast_timeout() };
        Request::begin(&self.options, timeout, clock::now())
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.options.timeout.unwrap_or(self.connections.settings.config.response_timeout)
    }

    pub(super) fn cast_timeout(&self) -> Duration {
        self.options.cast_timeout.unwrap_or(self.connections.settings.config.cast_timeout)
    }

    pub(super) fn interceptors(&self) -> &Interceptors {
        &self.connections.settings.interceptors
    }

    pub(super) fn max_message_bytes(&self) -> usize {
        self.connections.settings.config.max_message_bytes
    }

    /// Whether a message of `version` may be sent: yes without a
    /// [version cap](RpcClientBuilder::version_cap), otherwise if the cap covers it.
    #[must_use]
    pub fn can_send_version(&self, version: Version) -> bool {
        self.options.version_cap.is_none_or(|cap| cap.serves(version))
    }

    /// The target of this client.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.options.target
    }

    /// Counts the messages that this client and its copies have sent without blocking.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.connections.counters()
    }

    /// Closes this client and all its copies: they send no more messages, except calls that block.
    /// Waits up to `timeout` for the outcomes of open messages. The rest end as `Unacknowledged`.
    ///
    /// Dropping the last copy does the same with a timeout of 1 s. A callback (an observer or a waker)
    /// does not wait: there, `close` returns the number of messages that are open now, and the client
    /// closes when they have ended.
    pub fn close(&self, timeout: Duration) -> Closed {
        self.connections.close(timeout)
    }
}
