//! Interceptors: code of the program around every message of a client.

pub(crate) mod chain;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tracing")]
mod tracing;

use std::borrow::Cow;
use std::time::Duration;

pub use zmqv2_proto::observe::Verb;
use zmqv2_proto::{RequestContext, Target};

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(feature = "tracing")]
pub use self::tracing::Tracing;
use crate::outcome::Outcome;
use crate::outcome::call_error::CallError;

/// Sees every message of a client or a notifier: before it is encoded, and after it has ended.
///
/// It may read and extend the context, refuse the message, or measure it. Several interceptors run
/// [`before`](Self::before) in the order in which they were added, and [`after`](Self::after) in the
/// opposite order. Every message whose `before` has succeeded has one `after`, also if it was never
/// sent or if its handle was dropped.
///
/// ```
/// use std::time::Instant;
/// use zmqv2_client::{Ended, Interceptor, Outgoing, RefusedBy, RpcClient, Target};
///
/// struct Stamp;
///
/// impl Interceptor for Stamp {
///     type State = String;
///
///     fn before(&self, message: &mut Outgoing<'_>) -> Result<String, RefusedBy> {
///         if message.method() == Some("forbidden") {
///             return Err("this program must not call it".into());
///         }
///         message.extend_context("program", "billing");
///         Ok(message.target().to_string())
///     }
///
///     fn after(&self, target: String, ended: &Ended<'_>) {
///         println!("{target}: {} after {:?}", ended.label(), ended.elapsed);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RpcClient::builder(Target::topic("invoices")?).interceptor(Stamp).build()?;
/// # Ok(())
/// # }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// What `before` gives to `after`, for example a start time.
    type State: Send + 'static;

    /// Runs before the message is encoded, in the thread that sends it. A panic is logged, and the
    /// message goes on without this interceptor.
    ///
    /// # Errors
    /// The message is not sent. The sender gets [`SendError::Intercepted`](crate::SendError::Intercepted)
    /// with this error.
    fn before(&self, message: &mut Outgoing<'_>) -> Result<Self::State, RefusedBy>;

    /// Runs after the message has ended, before its sender is woken. It runs in the client's I/O
    /// thread, or in the thread of a call that blocks. So it must be quick and must not block. A panic
    /// is logged.
    fn after(&self, state: Self::State, ended: &Ended<'_>) {
        let _ = (state, ended);
    }
}

/// Why an interceptor refuses a message: any error, or a text (`"reason".into()`).
pub type RefusedBy = Box<dyn std::error::Error + Send + Sync>;

/// A message before it is encoded.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub(crate) verb: Verb,
    pub(crate) target: &'a Target,
    pub(crate) method: Option<&'a str>,
    pub(crate) context: Option<Cow<'a, RequestContext>>,
}

impl Outgoing<'_> {
    /// What the message asks for.
    #[must_use]
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The target. For a notification, the topic of the first message, as `<topic>.<priority>`.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.target
    }

    /// The method, or the type of the event. `None`: it is in a body that is ready.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.method
    }

    /// The context. `None`: it is in a body that is ready.
    #[must_use]
    pub fn context(&self) -> Option<&RequestContext> {
        self.context.as_deref()
    }

    /// Adds a value to the context, in place of an earlier one of that key. Returns whether it could: a
    /// body that is ready is sent as it is.
    pub fn extend_context(&mut self, key: &str, value: impl serde::Serialize) -> bool {
        let Some(context) = &mut self.context else { return false };
        *context = Cow::Owned(std::mem::take(context).into_owned().with(key, value));
        true
    }
}

/// How a message ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// Its end.
    pub result: EndResult<'a>,
    /// The time since `before`.
    pub elapsed: Duration,
    /// The number of the send that was answered, from 1. `None` for messages with several receivers,
    /// and where no answer came.
    pub attempt: Option<u8>,
}

/// The end of a message.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum EndResult<'a> {
    /// It was not sent: the sender has the error, or has dropped the future.
    NotSent,
    /// The call has a result.
    Replied,
    /// The method of the call failed, and the caller gets its error.
    Failed,
    /// The call has no reply.
    Error(&'a CallError),
    /// The outcomes of a cast, a fanout or a notification: one for each receiver.
    Outcomes(&'a [Outcome]),
}

impl Ended<'_> {
    /// The end in one word, for logs and metrics: `ok`, `failed` (the method failed), `stored` (a
    /// notification that a broker keeps), `not_sent`, `refused`, `timeout`, `unreachable`,
    /// `connection_lost`, `unacknowledged`, `directory` or `closed`. Of several receivers, the worst
    /// one counts.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self.result {
            EndResult::NotSent => "not_sent",
            EndResult::Replied => "ok",
            EndResult::Failed => "failed",
            EndResult::Error(error) => match error {
                CallError::Remote(_) | CallError::Answer { .. } => "failed",
                CallError::NotSent(_) => "not_sent",
                CallError::Refused { .. } => "refused",
                CallError::Timeout { .. } => "timeout",
                CallError::Unreachable { .. } => "unreachable",
                CallError::ConnectionLost { .. } => "connection_lost",
                CallError::Closed { .. } | CallError::WouldBlock { .. } | CallError::Inherited { .. } => "closed",
            },
            EndResult::Outcomes(outcomes) => {
                let label = |outcome: &Outcome| match outcome {
                    Outcome::Acked { .. } => (0, "ok"),
                    Outcome::Stored { .. } => (1, "stored"),
                    Outcome::Refused { .. } => (2, "refused"),
                    Outcome::Directory { .. } => (3, "directory"),
                    Outcome::Unacknowledged { .. } => (4, "unacknowledged"),
                };
                outcomes.iter().map(label).max().map_or("ok", |(_, label)| label)
            }
        }
    }
}
