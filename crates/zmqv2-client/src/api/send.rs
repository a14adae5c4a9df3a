//! The verbs that do not block: each gives messages to the I/O thread and returns a handle.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{Kind, MethodName, RequestContext, Target};

use crate::api::connections::Connections;
use crate::api::draft::{Content, Draft, FanoutDraft};
use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::single::{CallHandle, CastHandle, SentMessage};
use crate::api::rpc_client::RpcClient;
use crate::io::admission::NotQueued;
use crate::outcome::result_reader::ResultReader;
use crate::outcome::send_error::SendError;
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
        let method = MethodName::new(method)?;
        let draft = Draft::new(self, Kind::Call, Content::args(context, &method, args))?;
        Ok(CallHandle::new(self.send(draft)?, self.typed_reader(Some(method))))
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
        let method = &MethodName::new(method)?;
        let draft = Draft::new(self, Kind::Cast, Content::args(context, method, args))?;
        Ok(CastHandle::new(self.send(draft)?))
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
        let method = &MethodName::new(method)?;
        self.send_fanout(FanoutDraft::new(self, Content::args(context, method, args))?)
    }

    /// Sends a message with one receiver.
    pub(super) fn send(&self, draft: Draft) -> Result<SentMessage, SendError> {
        let Connections { router, io_thread, .. } = &**self.connections;
        let (options, id, mut lookup) = (&self.options, draft.id(), None);
        let request = draft.request(options);
        let wait_until = || Route::lookup_until(router, &request);
        let listing = router.directory.listing(&options.key, wait_until, &mut lookup);
        let (outbound, receiver) = draft.route(router, options, listing, lookup)?;
        let queue = io_thread.send(outbound).map_err(|error| not_queued(error, &options.target))?;
        Ok(SentMessage { id, receiver, queue })
    }

    pub(super) fn send_fanout(&self, mut draft: FanoutDraft) -> Result<FanoutHandle, SendError> {
        let Connections { router, io_thread, .. } = &**self.connections;
        let listing = router.directory.listing(&draft.options().key, || draft.deadline(), &mut None);
        let (outbounds, receiver) = draft.route(router, listing)?;
        io_thread.send_all(outbounds).map_err(|error| not_queued(error, &draft.options().target))?;
        Ok(FanoutHandle::new(draft.id(), receiver))
    }

    /// Reads the results of a method.
    pub(super) fn typed_reader<R: DeserializeOwned>(&self, method: Option<MethodName>) -> ResultReader<R> {
        ResultReader::typed(method, &self.options.target, &self.connections.settings.allowed_remote_modules)
    }
}

pub(super) fn not_queued(error: NotQueued, target: &Target) -> SendError {
    let target = Box::new(target.clone());
    match error {
        NotQueued::Full { open, bytes } => SendError::Full { open, bytes, target },
        NotQueued::Closed => SendError::Closed { target },
        NotQueued::NoThread(source) => SendError::Transport { target, source },
    }
}
