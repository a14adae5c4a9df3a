//! What a caller that does not block holds of its message.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use zmqv2_proto::{MessageId, MethodName, Target};

use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::completion::CompletionReceiver;
use crate::outcome::{Completion, Outcome};

/// A cast on its way, made by [`RpcClient::cast`](crate::RpcClient::cast).
///
/// `Send` and `Sync`. It can be polled, waited on, awaited on any executor, or dropped. A cast whose handle was dropped still has an outcome:
/// it counts, the [observer](crate::RpcClientBuilder::observer) sees it, and unless it is `Acked` a warning is logged.
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::{Outcome, RpcClient};
/// # use zmqv2_proto::{RequestContext, Target};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = RpcClient::builder(Target::topic("mailer")?).build()?;
/// let handle = client.cast(&RequestContext::new(), "send", &("ann", "hello"))?;
/// match handle.wait(Duration::from_secs(1)) {
///     Some(Outcome::Acked { server, .. }) => println!("{server} has it"),
///     Some(other) => println!("{other}"),
///     None => println!("no word yet"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, the outcome reaches only the counters, the observer and the log"]
pub struct CastHandle {
    id: MessageId,
    receiver: CompletionReceiver,
}

impl CastHandle {
    pub(crate) fn new(id: MessageId, receiver: CompletionReceiver) -> Self {
        Self { id, receiver }
    }

    /// The message's id, as servers and logs show it.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The outcome, if it is known by now.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.receiver.peek(Completion::outcome)
    }

    /// Waits for the outcome; `None` when it is not known within `timeout`. It is known by the cast timeout (+ 50 ms).
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Outcome> {
        self.receiver.wait(Some(timeout));
        self.outcome()
    }
}

impl Future for CastHandle {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if !self.receiver.poll(context.waker()) {
            return Poll::Pending;
        }
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A call on its way, made by [`RpcClient::call_async`](crate::RpcClient::call_async).
///
/// `Send` and `Sync`. It can be waited on or awaited on any executor. Dropped, it is forgotten: the method may run all the same.
#[must_use = "dropped, the result is lost"]
pub struct CallHandle<R> {
    id: MessageId,
    receiver: CompletionReceiver,
    info: CallInfo,
    result: PhantomData<fn() -> R>,
}

/// What the errors of a call speak of.
#[derive(Debug)]
pub(crate) struct CallInfo {
    pub(crate) method: MethodName,
    pub(crate) target: Arc<Target>,
    pub(crate) allowed_modules: Arc<[String]>,
}

impl<R: DeserializeOwned> CallHandle<R> {
    pub(crate) fn new(id: MessageId, receiver: CompletionReceiver, info: CallInfo) -> Self {
        Self { id, receiver, info, result: PhantomData }
    }

    /// The message's id, as servers and logs show it.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Whether the call has ended, so that [`wait`](Self::wait) returns at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.receiver.is_done()
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// As [`RpcClient::call`](crate::RpcClient::call), by the call's timeout (+ 50 ms) at the latest.
    pub fn wait(self) -> Result<R, CallError> {
        Ok(self.wait_detailed()?.value)
    }

    /// As [`wait`](Self::wait), and says who answered and how long it took.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_detailed(self) -> Result<Answered<R>, CallError> {
        self.receiver.wait(None);
        self.take().unwrap_or_else(|| Err(self.info.closed(true)))
    }

    fn take(&self) -> Option<Result<Answered<R>, CallError>> {
        let CallInfo { method, target, allowed_modules } = &self.info;
        Some(self.receiver.take()?.into_answered(method.as_str(), target, allowed_modules))
    }
}

impl<R: DeserializeOwned> Future for CallHandle<R> {
    type Output = Result<R, CallError>;

    /// After the result was given, it stays pending for ever.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.receiver.poll(context.waker()) {
            return Poll::Pending;
        }
        self.take().map_or(Poll::Pending, |result| Poll::Ready(result.map(|answered| answered.value)))
    }
}

impl<R> fmt::Debug for CallHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHandle").field("id", &self.id).field("about", &self.info).finish_non_exhaustive()
    }
}

impl CallInfo {
    fn closed(&self, sent: bool) -> CallError {
        CallError::Closed { target: Box::new(Target::clone(&self.target)), sent }
    }
}
