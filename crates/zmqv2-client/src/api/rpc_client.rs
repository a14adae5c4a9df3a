//! The client itself: a target, its defaults, and the verbs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{RequestContext, Target, Version};

use crate::api::connections::Connections;
use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::single::{CallHandle, CastHandle};
use crate::api::notifier_builder::NotifierBuilder;
use crate::api::prepared::Prepared;
use crate::api::rpc_client_builder::RpcClientBuilder;
use crate::delivery::request::CallOptions;
use crate::io::thread::Closed;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::counters::Counters;
use crate::outcome::send_error::SendError;

/// Calls the methods of one service.
///
/// `Send`, `Sync` and cheap to clone: clones and threads share the sockets, the turns among nodes, and the libzmq
/// context. Make one per service and share it; services that are called from one process can share a context
/// ([`RpcClientBuilder::transport`]). A call blocks its thread, and uses one socket meanwhile.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_client::{CallError, RpcClient};
/// use zmqv2_proto::{RequestContext, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RpcClient::builder(Target::topic("calculator")?).timeout(Duration::from_secs(5)).build()?;
/// let context = RequestContext::new().with("user", "ann");
/// match client.call::<i64>(&context, "add", &(1, 2)) {
///     Ok(sum) => println!("{sum}"),
///     Err(CallError::Remote(error)) => println!("it failed over there: {error}"),
///     Err(error) if error.may_have_run() => println!("look before you ask again: {error}"),
///     Err(error) => println!("safe to ask again: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RpcClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connections: Arc<Connections>,
    options: CallOptions,
}

impl RpcClient {
    /// Starts a client for `target`: a topic, or exactly one server of it. Nothing is opened before the first call.
    ///
    /// A target that names no exchange is in the configured one (option `control_exchange`).
    pub fn builder(target: Target) -> RpcClientBuilder {
        RpcClientBuilder::new(target)
    }

    pub(crate) fn new(connections: Arc<Connections>, options: CallOptions) -> Self {
        Self(Arc::new(Shared { connections, options }))
    }

    /// Calls `method` with `args` and waits for its result.
    ///
    /// `args` is a struct or map for named arguments, as other drivers expect, or any JSON value between services
    /// that use this one. With `R` = `Box<serde_json::value::RawValue>`, the result comes as JSON text.
    ///
    /// # Errors
    /// [`CallError`], by the client's timeout (+ 50 ms) at the latest.
    pub fn call<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        Ok(self.call_detailed(context, method, args)?.value)
    }

    /// As [`call`](Self::call), and says who answered and how long it took.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_detailed<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<Answered<R>, CallError> {
        self.0.connections.call(&self.0.options, context, method, &args)
    }

    /// Sends `method` with `args` to a server, and does not wait: the handle tells what becomes of it.
    ///
    /// This blocks only for room ([`WhenFull::Wait`](crate::WhenFull::Wait)) and for the first lookup of a topic. What one
    /// thread casts to one node leaves in the order of its casts.
    ///
    /// ```no_run
    /// # use zmqv2_client::RpcClient;
    /// # use zmqv2_proto::{RequestContext, Target};
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
        self.0.connections.cast(&self.0.options, context, method, &args)
    }

    /// Sends `method` with `args` to every server of the topic, and does not wait: the handle tells what becomes of it at
    /// each. The target's server, if there is one, does not count.
    ///
    /// One message goes to every node that the directory knows, whose broker makes a copy for each of its servers. A node
    /// that is slow or dead delays no other. The messages of one fanout are taken over all at once, as soon as there is room
    /// for one ([`max_outstanding`](RpcClientBuilder::max_outstanding)).
    ///
    /// With [`retry`](RpcClientBuilder::retry), a node whose connection broke, or that did not answer completely within its
    /// share of the timeout, gets the message again; a server runs it once.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zmqv2_client::RpcClient;
    /// # use zmqv2_proto::{RequestContext, Target};
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
    /// [`SendError`]: nothing was sent. That the directory knows no node is no error but the report's only result,
    /// `NoRoute`.
    pub fn fanout(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<FanoutHandle, SendError> {
        self.0.connections.fanout(&self.0.options, context, method, &args)
    }

    /// As [`call`](Self::call), and does not wait: the handle gives the result. Many calls can be on their way at once,
    /// over one connection per node.
    ///
    /// ```no_run
    /// # use zmqv2_client::RpcClient;
    /// # use zmqv2_proto::{RequestContext, Target};
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
        self.0.connections.call_async(&self.0.options, context, method, &args)
    }

    /// What became so far of the messages that this client and its clones have sent without blocking.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.connections.counters()
    }

    /// Takes no more casts and calls that do not block, from any clone, and waits up to `timeout` for the outcomes of those
    /// that are on their way. The rest ends as `Unacknowledged`. Blocking calls still work.
    ///
    /// Dropping the last clone does the same, with [`DROP_TIMEOUT`](crate::DROP_TIMEOUT).
    pub fn close(&self, timeout: Duration) -> Closed {
        self.0.connections.close(timeout)
    }

    /// Asks whether a server of the target answers at all. Every server does, by the method
    /// `oslo_rpc_server_ping`, unless it switched that off.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn ping(&self) -> Result<Answered<()>, CallError> {
        self.0.connections.ping(&self.0.options)
    }

    /// Starts a notifier that sends through this client: it shares the client's directory, connections, thread, bounds,
    /// observer and counters, and ends with it when the client is [closed](Self::close). What
    /// [`Notifier::builder`](crate::Notifier::builder) would ask for to make its own is not asked for again.
    ///
    /// ```no_run
    /// # use zmqv2_client::RpcClient;
    /// # use zmqv2_proto::{RequestContext, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("compute")?).build()?;
    /// let notifier = client.notifier("compute.node-7").build()?;
    /// drop(notifier.info(&RequestContext::new(), "instance.created", &7)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn notifier(&self, publisher_id: impl Into<String>) -> NotifierBuilder {
        NotifierBuilder::through(Arc::clone(&self.0.connections), publisher_id.into())
    }

    /// A copy of this client with another server, version, timeout, ..., for one call or many.
    pub fn prepare(&self) -> Prepared {
        Prepared::new(self.clone(), self.0.options.clone())
    }

    /// Whether messages of `version` may be sent: always, or as far as the
    /// [cap](RpcClientBuilder::version_cap) goes.
    #[must_use]
    pub fn can_send_version(&self, version: Version) -> bool {
        self.0.options.can_send(version)
    }

    /// Whom this client calls.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.0.options.target
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.0.connections
    }
}
