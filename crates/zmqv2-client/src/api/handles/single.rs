//! The handles of messages with one outcome: a cast or a call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zmqv2_proto::MessageId;

use crate::callback_thread;
use crate::io::queue::IoQueue;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::completion::CompletionReceiver;
use crate::outcome::result_reader::ResultReader;
use crate::outcome::{Completion, Outcome};

/// A message with one receiver that the I/O thread has.
pub(crate) struct SentMessage {
    pub(crate) id: MessageId,
    pub(crate) receiver: CompletionReceiver,
    /// The queue of the thread, by which a call can be given up.
    pub(crate) queue: Arc<IoQueue>,
}

/// The handle of a cast, made by [`RpcClient::cast`](crate::RpcClient::cast).
///
/// A handle is `Send` and `Sync`. It can be polled, waited on, awaited on any executor, or dropped.
/// If it is dropped, the cast still has its outcome: the counters count it, the
/// [observer](crate::RpcClientBuilder::observer) sees it, and a warning is logged unless it is
/// `Acked`.
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::{Outcome, RequestContext, RpcClient, Target};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = RpcClient::builder(Target::topic("mailer")?).build()?;
/// let handle = client.cast(&RequestContext::new(), "send", &("ann", "hello"))?;
/// match handle.wait(Duration::from_secs(1)) {
///     Some(Outcome::Acked { server, .. }) => println!("{server} accepted it"),
///     Some(other) => println!("{other}"),
///     None => println!("no outcome yet"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "without the handle, only the counters, the observer and the log show the outcome"]
pub struct CastHandle {
    id: MessageId,
    receiver: CompletionReceiver,
}

impl CastHandle {
    pub(crate) fn new(sent: SentMessage) -> Self {
        Self { id: sent.id, receiver: sent.receiver }
    }

    /// The id of the message in the logs.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The outcome, if it is known.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.receiver.peek(Completion::outcome)
    }

    /// Waits for the outcome. Returns `None` if it is not known within `timeout`. It is known at
    /// most 50 ms after the cast timeout. In a callback of a client (an observer or a waker), this
    /// returns at once, because it would wait for its own thread.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Outcome> {
        self.receiver.wait(Some(timeout));
        self.outcome()
    }

    /// Waits for the outcome, and gives the handle back if it is not known within `timeout`. So a
    /// program can look at signals between two waits.
    ///
    /// # Errors
    /// The handle itself. In a callback of a client this returns at once, as [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Outcome, Self> {
        self.wait(timeout).ok_or(self)
    }

    /// Whether the outcome is known. If not, `waker` is woken when it is.
    pub(super) fn poll_ended(&self, waker: &Waker) -> bool {
        self.receiver.poll(waker)
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

/// The handle of a call, made by [`RpcClient::call_async`](crate::RpcClient::call_async).
///
/// A handle is `Send` and `Sync`. It can be waited on, or awaited on any executor. If it is
/// dropped before the call has ended, the broker learns of it: a call that still waits there never
/// runs. One that a server has may run to its end. The counters count it as unacknowledged.
#[must_use = "without the handle, the result is lost"]
pub struct CallHandle<R> {
    id: MessageId,
    receiver: CompletionReceiver,
    queue: Weak<IoQueue>,
    reader: ResultReader<R>,
}

impl<R> CallHandle<R> {
    pub(crate) fn new(sent: SentMessage, reader: ResultReader<R>) -> Self {
        let SentMessage { id, receiver, queue } = sent;
        Self { id, receiver, queue: Arc::downgrade(&queue), reader }
    }

    /// The id of the message in the logs.
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
    /// As [`RpcClient::call`](crate::RpcClient::call), at most 50 ms after the timeout of the call.
    pub fn wait(self) -> Result<R, CallError> {
        Ok(self.wait_detailed()?.value)
    }

    /// Like [`wait`](Self::wait), and also returns which server answered and how long the call
    /// took.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_detailed(self) -> Result<Answered<R>, CallError> {
        if !self.receiver.wait(None) {
            return Err(CallError::WouldBlock { target: self.reader.target() });
        }
        self.result()
    }

    /// Waits for the result, and gives the handle back if the call has not ended within `timeout`. So a
    /// program can look at signals between two waits.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zmqv2_client::{RequestContext, RpcClient, Target};
    /// # fn stop_was_asked_for() -> bool { false }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = RpcClient::builder(Target::topic("backup")?).build()?;
    /// let mut call = client.call_async::<u64>(&RequestContext::new(), "run", &())?;
    /// let bytes = loop {
    ///     call = match call.wait_timeout(Duration::from_millis(200)) {
    ///         Ok(result) => break result?,
    ///         Err(still_open) if stop_was_asked_for() => return Ok(drop(still_open)),
    ///         Err(still_open) => still_open,
    ///     };
    /// };
    /// # println!("{bytes}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The handle itself. The result inside is that of [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<R, CallError>, Self> {
        if self.receiver.wait(Some(timeout)) {
            return Ok(self.result().map(|answered| answered.value));
        }
        if callback_thread::is_current() {
            return Ok(Err(CallError::WouldBlock { target: self.reader.target() }));
        }
        Err(self)
    }

    /// The result of a call that has ended.
    fn result(&self) -> Result<Answered<R>, CallError> {
        self.take().unwrap_or_else(|| Err(CallError::Closed { target: self.reader.target() }))
    }

    fn take(&self) -> Option<Result<Answered<R>, CallError>> {
        Some(self.reader.read(self.receiver.take()?))
    }

    /// Whether the call has ended. If not, `waker` is woken when it has.
    pub(super) fn poll_ended(&self, waker: &Waker) -> bool {
        self.receiver.poll(waker)
    }

    /// Like the future, and also gives which server answered and how long the call took.
    pub(super) fn poll_detailed(&self, context: &Context<'_>) -> Poll<Result<Answered<R>, CallError>> {
        if !self.receiver.poll(context.waker()) {
            return Poll::Pending;
        }
        self.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<R> Drop for CallHandle<R> {
    fn drop(&mut self) {
        if !self.receiver.is_done()
            && let Some(queue) = self.queue.upgrade()
        {
            queue.give_up(self.id);
        }
    }
}

impl<R> Future for CallHandle<R> {
    type Output = Result<R, CallError>;

    /// Once it has given the result, it stays pending for ever.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_detailed(context).map_ok(|answered| answered.value)
    }
}

impl<R> fmt::Debug for CallHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, reader, .. } = self;
        f.debug_struct("CallHandle").field("id", id).field("reader", reader).finish_non_exhaustive()
    }
}
