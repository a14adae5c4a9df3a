//! The verbs for async programs: no one of them blocks the executor.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{Kind, MethodName, RequestContext};

use crate::api::connections::Connections;
use crate::api::draft::{Content, Draft, FanoutDraft};
use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::futures::{CallFuture, DetailedCallFuture, SendFuture};
use crate::api::handles::single::CastHandle;
use crate::api::rpc_client::RpcClient;
use crate::api::send::not_queued;
use crate::outcome::raw_reply::RawReply;
use crate::outcome::send_error::SendError;

/// An [`RpcClient`] for async programs, made by [`RpcClient::asynchronous`].
///
/// Its verbs return futures that never block the executor: the first lookup of a topic, and a client
/// that is full, make the future wait. They need no certain executor, and none with timers. `await`
/// them, or give them to `spawn`: they borrow nothing.
///
/// It is cheap to clone, and shares everything with the client that it was made from.
///
/// ```no_run
/// use zmqv2_client::{RequestContext, RpcClient, Target};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RpcClient::builder(Target::topic("calculator")?).build()?.asynchronous();
/// let sum: i64 = client.call(&RequestContext::new(), "add", &(1, 2)).await?;
/// assert_eq!(sum, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a client does nothing until it sends a message"]
pub struct AsyncRpcClient(Arc<RpcClient>);

impl RpcClient {
    /// This client for async programs. It has the target and the options of this one.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("calculator")?).build()?;
    /// let at_s1 = client.prepare().server("s1")?.timeout(Duration::from_secs(1)).asynchronous();
    /// let sum: i64 = at_s1.call(&RequestContext::new(), "add", &(1, 2)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn asynchronous(&self) -> AsyncRpcClient {
        AsyncRpcClient(Arc::new(self.clone()))
    }
}

impl AsyncRpcClient {
    /// The client behind this one, for its counters, its target, and copies with other options. Its
    /// verbs and [`close`](RpcClient::close) block.
    pub fn blocking(&self) -> &RpcClient {
        &self.0
    }

    /// Calls `method` with `args` and gives its result. Everything else is as with
    /// [`RpcClient::call`].
    ///
    /// # Errors
    /// [`CallError`](crate::CallError), at most 50 ms after the client's timeout.
    pub fn call<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> CallFuture<R> {
        let (draft, method) = self.draft(Kind::Call, context, method, args);
        CallFuture::new(&self.0, draft, self.0.typed_reader(method))
    }

    /// Like [`call`](Self::call), and also gives which server answered and how long the call took.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_detailed<R: DeserializeOwned>(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> DetailedCallFuture<R> {
        let (draft, method) = self.draft(Kind::Call, context, method, args);
        DetailedCallFuture::new(&self.0, draft, self.0.typed_reader(method))
    }

    /// Like [`RpcClient::cast`]: gives a handle as soon as the client has the message. The casts that
    /// one task awaits one after the other leave in that order.
    ///
    /// ```no_run
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = RpcClient::builder(Target::topic("mailer")?).build()?.asynchronous();
    /// let handle = client.cast(&RequestContext::new(), "send", &("ann", "hello")).await?;
    /// println!("{}", handle.await);
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
    ) -> SendFuture<CastHandle> {
        SendFuture::cast(&self.0, self.draft(Kind::Cast, context, method, args).0)
    }

    /// Like [`RpcClient::fanout`]: gives a handle as soon as the client has the messages.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent.
    pub fn fanout(
        &self,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> SendFuture<FanoutHandle> {
        let draft = MethodName::new(method).map_err(SendError::from);
        let draft = draft.and_then(|method| FanoutDraft::new(&self.0, Content::args(context, &method, args)));
        self.send_fanout(draft)
    }

    /// Like [`RpcClient::call_raw`].
    ///
    /// # Errors
    /// As [`RpcClient::call_raw`].
    pub fn call_raw(&self, body: impl Into<Vec<u8>>) -> DetailedCallFuture<RawReply> {
        let draft = Draft::new(&self.0, Kind::Call, Content::ready(body));
        DetailedCallFuture::new(&self.0, draft, self.0.raw_reader())
    }

    /// Like [`RpcClient::cast_raw`].
    ///
    /// # Errors
    /// As [`cast`](Self::cast).
    pub fn cast_raw(&self, body: impl Into<Vec<u8>>) -> SendFuture<CastHandle> {
        SendFuture::cast(&self.0, Draft::new(&self.0, Kind::Cast, Content::ready(body)))
    }

    /// Like [`RpcClient::fanout_raw`].
    ///
    /// # Errors
    /// As [`fanout`](Self::fanout).
    pub fn fanout_raw(&self, body: impl Into<Vec<u8>>) -> SendFuture<FanoutHandle> {
        self.send_fanout(FanoutDraft::new(&self.0, Content::ready(body)))
    }

    /// A call or a cast, and its method. If the name of the method is not valid, the draft is an error
    /// and nobody reads the method.
    fn draft(
        &self,
        kind: Kind,
        context: &RequestContext,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> (Result<Draft, SendError>, Option<MethodName>) {
        match MethodName::new(method) {
            Ok(method) => {
                let draft = Draft::new(&self.0, kind, Content::args(context, &method, args));
                (draft, Some(method))
            }
            Err(error) => (Err(error.into()), None),
        }
    }

    fn send_fanout(&self, draft: Result<FanoutDraft, SendError>) -> SendFuture<FanoutHandle> {
        match draft {
            Ok(draft) => {
                let target = Arc::clone(&draft.options().target);
                SendFuture::waiting(target, Box::pin(fanout(Arc::clone(&self.0), draft)))
            }
            Err(error) => SendFuture::failed(error),
        }
    }
}

async fn fanout(client: Arc<RpcClient>, mut draft: FanoutDraft) -> Result<FanoutHandle, SendError> {
    let Connections { router, io_thread, .. } = &**client.connections;
    let target = Arc::clone(&draft.options().target);
    let failed = |error| not_queued(error, &target);
    let listing = io_thread.listing(&router.directory, &draft.options().key, draft.deadline(), &mut None).await;
    let (outbounds, receiver) = draft.route(router, listing.map_err(failed)?)?;
    io_thread.send_all_later(outbounds).await.map_err(failed)?;
    Ok(FanoutHandle::new(draft.id(), receiver))
}
