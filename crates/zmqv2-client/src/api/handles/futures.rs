//! The futures that an async client returns.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use zmqv2_proto::{Target, process_id};

use crate::api::connections::Connections;
use crate::api::draft::Draft;
use crate::api::handles::single::{CallHandle, CastHandle, SentMessage};
use crate::api::rpc_client::RpcClient;
use crate::api::send::not_queued;
use crate::io::waiting::SentNow;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::completion::CompletionReceiver;
use crate::outcome::result_reader::ResultReader;
use crate::outcome::send_error::SendError;
use crate::routing::directory::Asked;
use crate::routing::route::Route;

/// A future that sends a message, and has to wait before.
pub(crate) type Waiting<T> = Pin<Box<dyn Future<Output = Result<T, SendError>> + Send>>;

/// The future of a call, made by [`AsyncRpcClient::call`](crate::AsyncRpcClient::call).
///
/// Nothing is sent before the first poll, but the timeout of the call begins when the future is
/// made. It borrows nothing, so it can be given to `spawn`. If it is dropped before the call has
/// ended, the call is cancelled: it never runs if it still waits, here or at a broker.
#[must_use = "a future does nothing until it is polled"]
#[derive(Debug)]
pub struct CallFuture<R>(DetailedCallFuture<R>);

/// Like [`CallFuture`], and also gives which server answered and how long the call took.
#[must_use = "a future does nothing until it is polled"]
#[derive(Debug)]
pub struct DetailedCallFuture<R> {
    send: Sending<SentMessage>,
    reader: Option<ResultReader<R>>,
    handle: Option<CallHandle<R>>,
}

/// The future of a cast, a fanout or a notification. It gives the handle `H` as soon as the client
/// has the message, and the handle gives the outcome.
///
/// Nothing is sent before the first poll, but the timeout of the message begins when the future is
/// made. It borrows nothing, so it can be given to `spawn`. If it is dropped before it is ready,
/// nothing was sent.
#[must_use = "a future does nothing until it is polled"]
#[derive(Debug)]
pub struct SendFuture<H>(SendStage<H>);

#[derive(Debug)]
enum SendStage<H> {
    Cast(Sending<SentMessage>, fn(SentMessage) -> H),
    Group(Sending<H>),
}

/// Sends one message.
pub(crate) struct Sending<T> {
    pid: u32,
    stage: Stage<T>,
}

enum Stage<T> {
    /// It could not be encoded.
    Failed(SendError),
    /// Nothing was done yet.
    New(Arc<RpcClient>, Draft),
    Waiting(Arc<Target>, Waiting<T>),
    Ended,
}

impl<R> CallFuture<R> {
    pub(crate) fn new(client: &Arc<RpcClient>, draft: Result<Draft, SendError>, reader: ResultReader<R>) -> Self {
        Self(DetailedCallFuture::new(client, draft, reader))
    }
}

impl<R> DetailedCallFuture<R> {
    pub(crate) fn new(client: &Arc<RpcClient>, draft: Result<Draft, SendError>, reader: ResultReader<R>) -> Self {
        Self { send: Sending::single(client, draft), reader: Some(reader), handle: None }
    }
}

impl SendFuture<CastHandle> {
    pub(crate) fn cast(client: &Arc<RpcClient>, draft: Result<Draft, SendError>) -> Self {
        Self(SendStage::Cast(Sending::single(client, draft), CastHandle::new))
    }
}

impl<H> SendFuture<H> {
    /// The future of a fanout or a notification.
    pub(crate) fn waiting(target: Arc<Target>, waiting: Waiting<H>) -> Self {
        Self(SendStage::Group(Sending { pid: process_id(), stage: Stage::Waiting(target, waiting) }))
    }

    /// The future of a message that could not be encoded.
    pub(crate) fn failed(error: SendError) -> Self {
        Self(SendStage::Group(Sending { pid: process_id(), stage: Stage::Failed(error) }))
    }
}

impl Sending<SentMessage> {
    fn single(client: &Arc<RpcClient>, draft: Result<Draft, SendError>) -> Self {
        let stage = draft.map_or_else(Stage::Failed, |draft| Stage::New(Arc::clone(client), draft));
        Self { pid: process_id(), stage }
    }

    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<SentMessage, SendError>> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::New(client, _) if self.pid != process_id() => {
                let (target, parent) = (Box::new(Target::clone(&client.options.target)), self.pid);
                return Poll::Ready(Err(SendError::Inherited { target, parent }));
            }
            Stage::New(client, draft) => {
                let target = Arc::clone(&client.options.target);
                match start(client, draft, context) {
                    Started::Sent(sent) => return Poll::Ready(sent),
                    Started::Waiting(waiting) => self.stage = Stage::Waiting(target, waiting),
                }
            }
            other => self.stage = other,
        }
        self.poll(context)
    }
}

impl<T> Sending<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, SendError>> {
        let ended = match &mut self.stage {
            Stage::Waiting(target, _) if self.pid != process_id() => {
                let (target, parent) = (Box::new(Target::clone(target)), self.pid);
                return Poll::Ready(Err(SendError::Inherited { target, parent }));
            }
            Stage::Waiting(_, waiting) => waiting.as_mut().poll(context),
            Stage::Failed(_) => match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Failed(error) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            },
            Stage::New(..) | Stage::Ended => Poll::Pending,
        };
        if ended.is_ready() {
            self.stage = Stage::Ended;
        }
        ended
    }
}

impl<T> Drop for Sending<T> {
    fn drop(&mut self) {
        // A child leaves the queues of its parent alone.
        if self.pid != process_id() {
            std::mem::forget(std::mem::replace(&mut self.stage, Stage::Ended));
        }
    }
}

/// What came of the first poll.
enum Started {
    Sent(Result<SentMessage, SendError>),
    Waiting(Waiting<SentMessage>),
}

/// Sends a message at once, if neither the directory nor the client makes it wait. Most messages need
/// no more than this.
fn start(client: Arc<RpcClient>, draft: Draft, context: &Context<'_>) -> Started {
    let Connections { router, io_thread, .. } = &**client.connections;
    let options = &client.options;
    let Asked::Answered(listing) = router.directory.ask(&options.key) else {
        return Started::Waiting(Box::pin(look_up(client, draft)));
    };
    let id = draft.id();
    let (outbound, receiver) = match draft.route(router, options, listing, None) {
        Ok(routed) => routed,
        Err(error) => return Started::Sent(Err(error)),
    };
    match io_thread.send_now(outbound, context) {
        Ok(SentNow::Sent(queue)) => Started::Sent(Ok(SentMessage { id, receiver, queue })),
        Ok(SentNow::NotNow(outbound)) => {
            let waiting = async move {
                let sent = client.connections.io_thread.send_later(outbound).await;
                let queue = sent.map_err(|error| not_queued(error, &client.options.target))?;
                Ok(SentMessage { id, receiver, queue })
            };
            Started::Waiting(Box::pin(waiting))
        }
        Err(error) => Started::Sent(Err(not_queued(error, &options.target))),
    }
}

/// Sends a message whose topic is not known yet.
async fn look_up(client: Arc<RpcClient>, draft: Draft) -> Result<SentMessage, SendError> {
    let Connections { router, io_thread, .. } = &**client.connections;
    let (options, id, mut lookup) = (&client.options, draft.id(), None);
    let failed = |error| not_queued(error, &options.target);
    let wait_until = Route::lookup_until(router, &draft.request(options));
    let listing = io_thread.listing(&router.directory, &options.key, wait_until, &mut lookup).await;
    let (outbound, receiver): (_, CompletionReceiver) =
        draft.route(router, options, listing.map_err(failed)?, lookup)?;
    let queue = io_thread.send_later(outbound).await.map_err(failed)?;
    Ok(SentMessage { id, receiver, queue })
}

impl<R> Future for DetailedCallFuture<R> {
    type Output = Result<Answered<R>, CallError>;

    /// Once it has given the result, it stays pending for ever.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(handle) = &this.handle {
            return handle.poll_detailed(context);
        }
        match this.send.poll_sent(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(sent)) => match this.reader.take() {
                Some(reader) => this.handle.insert(CallHandle::new(sent, reader)).poll_detailed(context),
                None => Poll::Pending,
            },
        }
    }
}

impl<R> Future for CallFuture<R> {
    type Output = Result<R, CallError>;

    /// Once it has given the result, it stays pending for ever.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_ok(|answered| answered.value)
    }
}

impl<H> Future for SendFuture<H> {
    type Output = Result<H, SendError>;

    /// Once it has given the handle, it stays pending for ever.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            SendStage::Cast(sending, handle) => sending.poll_sent(context).map_ok(*handle),
            SendStage::Group(sending) => sending.poll(context),
        }
    }
}

// Whatever a handle or a result is, no part of a future is pinned: what must be pinned is in a box.
impl<R> Unpin for CallFuture<R> {}
impl<R> Unpin for DetailedCallFuture<R> {}
impl<H> Unpin for SendFuture<H> {}

impl<T> std::fmt::Debug for Sending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.stage {
            Stage::Failed(_) => "failed",
            Stage::New(..) => "new",
            Stage::Waiting(..) => "waiting",
            Stage::Ended => "ended",
        };
        f.debug_struct("Sending").field("stage", &stage).finish_non_exhaustive()
    }
}
