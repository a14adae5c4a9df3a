//! Interceptors: code of the program around every request of a server.

pub(crate) mod chain;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tracing")]
mod tracing;

use std::time::{Duration, Instant};

use serde::Serialize;
use zmqv2_proto::observe::Verb;
use zmqv2_proto::{Failure, MessageId, Namespace, NodeName, RequestContext, ServerName, TopicKey, Version};

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(feature = "tracing")]
pub use self::tracing::Tracing;
use crate::handler_error::HandlerError;

/// Sees every request of a server and every notification of a listener: before its handler runs, and
/// after it has ended.
///
/// It may read and extend the context that the handler gets, refuse the request, or measure it.
/// Several interceptors run [`before`](Self::before) in the order in which they were added, and
/// [`after`](Self::after) in the opposite order. Every request whose `before` has succeeded has one
/// `after`.
///
/// A panic in an interceptor is logged, and the request goes on without it.
///
/// ```
/// use zmqv2_server::{Ended, HandlerError, Interceptor, Methods, Received, RpcServer, Target};
///
/// struct OnlyNova;
///
/// impl Interceptor for OnlyNova {
///     type State = ();
///
///     fn before(&self, request: &mut Received<'_>) -> Result<(), HandlerError> {
///         if request.context().get("service").is_none_or(|service| service != "nova") {
///             return Err(HandlerError::new("billing", "Forbidden", "only nova may call this service"));
///         }
///         Ok(())
///     }
///
///     fn after(&self, (): (), ended: &Ended<'_>) {
///         println!("{} after {:?}", ended.label(), ended.elapsed);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = RpcServer::builder(Target::topic("invoices")?).interceptor(OnlyNova);
/// # drop(builder);
/// # Ok(())
/// # }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// What `before` gives to the others, for example a start time.
    type State: Send + 'static;

    /// Runs before the handler, in a thread of the server. It must be quick: an asynchronous server has
    /// only one thread that reads.
    ///
    /// # Errors
    /// The handler does not run. The caller of a call gets this error. A cast, a copy of a fanout and a
    /// notification are refused with [`Reason::Unauthorized`](crate::Reason::Unauthorized) and the
    /// message of the error.
    fn before(&self, request: &mut Received<'_>) -> Result<Self::State, HandlerError>;

    /// Runs the handler by `run`, for example inside a span. For an asynchronous handler, `run` polls it
    /// once. Not called for batches of notifications.
    fn within(&self, state: &Self::State, run: &mut dyn FnMut()) {
        let _ = state;
        run();
    }

    /// Runs after the handler has ended, and before the caller gets the reply.
    fn after(&self, state: Self::State, ended: &Ended<'_>) {
        let _ = (state, ended);
    }
}

/// A request or a notification before its handler runs.
#[derive(Debug)]
pub struct Received<'a> {
    pub(crate) verb: Verb,
    pub(crate) topic: Option<&'a TopicKey>,
    pub(crate) server: &'a ServerName,
    pub(crate) method: &'a str,
    pub(crate) interface: (Option<&'a Namespace>, Option<Version>),
    pub(crate) id: MessageId,
    pub(crate) node: Option<&'a NodeName>,
    pub(crate) deadline: Instant,
    pub(crate) attempt: Option<u16>,
    pub(crate) context: &'a mut RequestContext,
}

impl Received<'_> {
    /// What the message asks for.
    #[must_use]
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The exchange and the topic, such as `openstack/invoices`. For a notification, the topic is
    /// `<topic>.<priority>`.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.map_or("", TopicKey::name)
    }

    /// The name of this server, or the pool of this listener.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        self.server
    }

    /// The method, or the type of the event. Any peer may send any name.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method
    }

    /// The namespace that the caller asks for.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.interface.0
    }

    /// The version that the caller asks for.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.interface.1
    }

    /// The id of the message. It is the same if the client sends it again.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The sender's node. `None`: the sender or its broker is of an earlier version.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.node
    }

    /// The sender gives up at this time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The number of this delivery of a notification, from 1. `None` for requests: a server runs a
    /// repeated request once.
    #[must_use]
    pub fn attempt(&self) -> Option<u16> {
        self.attempt
    }

    /// The sender's context.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        self.context
    }

    /// Adds a value to the context that the handler gets, in place of an earlier one of that key.
    pub fn extend_context(&mut self, key: &str, value: impl Serialize) {
        *self.context = std::mem::take(self.context).with(key, value);
    }
}

/// How a request ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// Its end.
    pub result: EndResult<'a>,
    /// The time since `before`.
    pub elapsed: Duration,
    /// Whether nobody waited for the result any more.
    pub cancelled: bool,
}

/// The end of a request.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum EndResult<'a> {
    /// The handler has returned a result, or has handled the notification.
    Succeeded,
    /// The handler has failed or panicked. `None`: the handler of a notification, which counts as
    /// handled, or an asynchronous one that its executor has dropped.
    Failed(Option<&'a Failure>),
    /// The notification comes again.
    Requeued,
    /// The handler did not run: another interceptor refused the request, or it came again.
    NotRun,
}

impl Ended<'_> {
    /// The end in one word, for logs and metrics: `ok`, `failed`, `cancelled` (failed, and nobody waited
    /// any more), `requeued` or `not_run`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self.result {
            EndResult::Succeeded => "ok",
            EndResult::Failed(_) if self.cancelled => "cancelled",
            EndResult::Failed(_) => "failed",
            EndResult::Requeued => "requeued",
            EndResult::NotRun => "not_run",
        }
    }
}
