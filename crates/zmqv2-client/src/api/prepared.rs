//! Modified copies of a client.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{Exchange, InvalidName, Namespace, RequestContext, ServerName, Target, Topic, Version};

use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::single::{CallHandle, CastHandle};
use crate::api::rpc_client::RpcClient;
use crate::delivery::request::CallOptions;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::send_error::SendError;

/// A modified copy of a client, made by [`RpcClient::prepare`]. `Send`, `Sync` and cheap to clone; it shares the client's
/// sockets.
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::RpcClient;
/// # use zmqv2_proto::{RequestContext, Target, Version};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = RpcClient::builder(Target::topic("calculator")?).build()?;
/// let at_s1 = client.prepare().server("s1")?.version(Version::new(1, 2)).timeout(Duration::from_millis(300));
/// let sum: i64 = at_s1.call(&RequestContext::new(), "add", &(1, 2))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is called before `call`"]
pub struct Prepared {
    client: RpcClient,
    options: CallOptions,
}

impl Prepared {
    pub(crate) fn new(client: RpcClient, options: CallOptions) -> Self {
        Self { client, options }
    }

    /// Exactly this server of the topic: the call never goes to another one.
    ///
    /// # Errors
    /// [`InvalidName`] when `server` is not a server name.
    pub fn server(mut self, server: impl AsRef<str>) -> Result<Self, InvalidName> {
        Arc::make_mut(&mut self.options.target).server = Some(ServerName::new(server)?);
        Ok(self)
    }

    /// Another topic.
    ///
    /// # Errors
    /// [`InvalidName`] when `topic` is not a topic.
    pub fn topic(mut self, topic: impl AsRef<str>) -> Result<Self, InvalidName> {
        Arc::make_mut(&mut self.options.target).topic = Topic::new(topic)?;
        self.options.key = self.options.target.key();
        Ok(self)
    }

    /// Another exchange.
    ///
    /// # Errors
    /// [`InvalidName`] when `exchange` is not an exchange.
    pub fn exchange(mut self, exchange: impl AsRef<str>) -> Result<Self, InvalidName> {
        Arc::make_mut(&mut self.options.target).exchange = Some(Exchange::new(exchange)?);
        self.options.key = self.options.target.key();
        Ok(self)
    }

    /// Another namespace of the interface.
    ///
    /// # Errors
    /// [`InvalidName`] when `namespace` is not a namespace.
    pub fn namespace(mut self, namespace: impl AsRef<str>) -> Result<Self, InvalidName> {
        Arc::make_mut(&mut self.options.target).namespace = Some(Namespace::new(namespace)?);
        Ok(self)
    }

    /// The version of the interface that the message needs.
    pub fn version(mut self, version: Version) -> Self {
        Arc::make_mut(&mut self.options.target).version = Some(version);
        self
    }

    /// Another version cap ([`RpcClientBuilder::version_cap`](crate::RpcClientBuilder::version_cap)).
    pub fn version_cap(mut self, cap: Version) -> Self {
        self.options.version_cap = Some(cap);
        self
    }

    /// Another timeout, for calls and casts ([`RpcClientBuilder::timeout`](crate::RpcClientBuilder::timeout),
    /// [`cast_timeout`](crate::RpcClientBuilder::cast_timeout)).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        (self.options.timeout, self.options.cast_timeout) = (timeout, timeout);
        self
    }

    /// Another number of resends ([`RpcClientBuilder::retry`](crate::RpcClientBuilder::retry)).
    pub fn retry(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// Whether to wait for a server ([`RpcClientBuilder::wait_for_ready`](crate::RpcClientBuilder::wait_for_ready)).
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = wait;
        self
    }

    /// Watches over calls
    /// ([`RpcClientBuilder::call_monitor_timeout`](crate::RpcClientBuilder::call_monitor_timeout)).
    pub fn call_monitor_timeout(mut self, timeout: Duration) -> Self {
        self.options.monitor = Some(timeout);
        self
    }

    /// Whether messages of `version` may be sent: always, or as far as the cap goes.
    #[must_use]
    pub fn can_send_version(&self, version: Version) -> bool {
        self.options.can_send(version)
    }

    /// Whom this calls.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.options.target
    }

    /// As [`RpcClient::call`].
    ///
    /// # Errors
    /// As [`RpcClient::call`].
    pub fn call<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        Ok(self.call_detailed(context, method, args)?.value)
    }

    /// As [`RpcClient::call_detailed`].
    ///
    /// # Errors
    /// As [`RpcClient::call`].
    pub fn call_detailed<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<Answered<R>, CallError> {
        self.client.connections().call(&self.options, context, method, &args)
    }

    /// As [`RpcClient::cast`].
    ///
    /// # Errors
    /// As [`RpcClient::cast`].
    pub fn cast(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<CastHandle, SendError> {
        self.client.connections().cast(&self.options, context, method, &args)
    }

    /// As [`RpcClient::fanout`].
    ///
    /// # Errors
    /// As [`RpcClient::fanout`].
    pub fn fanout(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<FanoutHandle, SendError> {
        self.client.connections().fanout(&self.options, context, method, &args)
    }

    /// As [`RpcClient::call_async`].
    ///
    /// # Errors
    /// As [`RpcClient::call_async`].
    pub fn call_async<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<CallHandle<R>, SendError> {
        self.client.connections().call_async(&self.options, context, method, &args)
    }

    /// As [`RpcClient::ping`].
    ///
    /// # Errors
    /// As [`RpcClient::call`].
    pub fn ping(&self) -> Result<Answered<()>, CallError> {
        self.client.connections().ping(&self.options)
    }
}
