//! Spans and the trace context of W3C.

use tracing::Span;
use tracing::field::Empty;
use zmqv2_proto::observe::{TRACE_PARENT, TraceParent};

use super::{Ended, Interceptor, Outgoing, RefusedBy};

/// Opens a span for every message, and sends its trace context (feature `tracing`).
///
/// The span has the name `zmqv2.send`, level INFO, and the fields `verb`, `topic`, `method`,
/// `trace_id`, `span_id`, `parent_id`, and at its end `outcome` ([`Ended::label`]) and `attempt`.
///
/// The trace is that of the context (key `traceparent`), or else that of the handler in whose thread
/// the message is sent, or else a new one. The receiver gets `traceparent` in the context. A body that
/// is ready is sent as it is.
///
/// ```no_run
/// use zmqv2_client::{RpcClient, Target, Tracing};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RpcClient::builder(Target::topic("invoices")?).interceptor(Tracing).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Tracing;

impl Interceptor for Tracing {
    type State = Span;

    fn before(&self, message: &mut Outgoing<'_>) -> Result<Span, RefusedBy> {
        let parent = message.context().and_then(TraceParent::of).or_else(TraceParent::current);
        let own = parent.map_or_else(TraceParent::new, TraceParent::child);
        message.extend_context(TRACE_PARENT, own.to_string());
        let topic = message.target().key().to_string();
        Ok(tracing::info_span!(
            "zmqv2.send",
            verb = message.verb().as_str(),
            topic,
            method = message.method(),
            trace_id = own.trace_id(),
            span_id = own.span_id(),
            parent_id = parent.map(TraceParent::span_id),
            outcome = Empty,
            attempt = Empty,
        ))
    }

    fn after(&self, span: Span, ended: &Ended<'_>) {
        span.record("outcome", ended.label());
        if let Some(attempt) = ended.attempt {
            span.record("attempt", attempt);
        }
    }
}
