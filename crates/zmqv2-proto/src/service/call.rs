//! What a handler knows about its request.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::message::RequestContext;
use crate::naming::NodeName;
use crate::wire::MessageId;

/// What a handler knows about the request that it runs: context, deadline, id, and whether somebody
/// still waits for the result.
///
/// A clone costs one counter, and can be sent to the threads that work for the handler.
///
/// The server makes it. A unit test of a handler makes one with [`new`](Self::new):
///
/// ```
/// use std::time::{Duration, Instant};
/// use zmqv2_proto::{RequestContext, service::Call};
///
/// let call = Call::new(Instant::now() + Duration::from_secs(5))
///     .with_context(RequestContext::new().with("user", "ann"))
///     .with_cancellation(|| true);
/// assert!(call.is_cancelled());
/// assert_eq!(call.context().get("user").unwrap(), "ann");
/// ```
#[derive(Clone)]
pub struct Call(Arc<Facts>);

#[derive(Clone)]
struct Facts {
    context: Arc<RequestContext>,
    deadline: Instant,
    id: MessageId,
    node: Option<NodeName>,
    cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Call {
    /// A call that ends at `deadline`, with a random id and without context, that nobody cancels.
    #[must_use]
    pub fn new(deadline: Instant) -> Self {
        Self::received(RequestContext::new(), deadline, MessageId::random(), None)
    }

    /// The call of a received request.
    #[doc(hidden)]
    #[must_use]
    pub fn received(
        context: impl Into<Arc<RequestContext>>,
        deadline: Instant,
        id: MessageId,
        cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Facts { context: context.into(), deadline, id, node: None, cancelled }))
    }

    /// The same call with this context.
    #[must_use]
    pub fn with_context(self, context: impl Into<Arc<RequestContext>>) -> Self {
        self.changed(|facts| facts.context = context.into())
    }

    /// The same call with this id.
    #[must_use]
    pub fn with_id(self, id: MessageId) -> Self {
        self.changed(|facts| facts.id = id)
    }

    /// The same call, from a caller on this node.
    #[must_use]
    pub fn with_node(self, node: impl Into<Option<NodeName>>) -> Self {
        let node = node.into();
        self.changed(|facts| facts.node = node)
    }

    /// The same call, cancelled as soon as `is_cancelled` says so.
    #[must_use]
    pub fn with_cancellation(self, is_cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.changed(|facts| facts.cancelled = Some(Arc::new(is_cancelled)))
    }

    fn changed(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The caller's context. A clone of it can be the context of a request to another service.
    #[must_use]
    pub fn context(&self) -> &Arc<RequestContext> {
        &self.0.context
    }

    /// The caller gives up at this time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// The message's id, as in the logs of all programs. It is the same if the client sends the
    /// request again.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.0.id
    }

    /// The caller's node. `None`: the caller or its broker is of an earlier version.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.0.node.as_ref()
    }

    /// Whether nobody waits for the result any more: the deadline has passed, or the caller has given
    /// up or ended. A cast is never cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.as_ref().is_some_and(|is_cancelled| is_cancelled())
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { context, deadline, id, .. } = &*self.0;
        let mut call = f.debug_struct("Call");
        call.field("id", id).field("deadline", deadline).field("context", context).finish_non_exhaustive()
    }
}
