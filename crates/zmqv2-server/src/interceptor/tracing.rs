//! Spans and the trace context of W3C.

use tracing::Span;
use tracing::field::Empty;
use zmqv2_proto::observe::{TRACE_PARENT, TraceParent};

use super::{Ended, Interceptor, Received};
use crate::handler_error::HandlerError;

/// Opens a span for every request and runs its handler inside (feature `tracing`).
///
/// The span has the name `zmqv2.handle`, level INFO, and the fields `verb`, `topic`, `server`, `method`,
/// `trace_id`, `span_id`, `parent_id`, `attempt` (of a notification), and at its end `outcome`
/// ([`Ended::label`]).
///
/// The trace is that of the context (key `traceparent`), or else a new one. The handler gets its own
/// span as `traceparent` in its context. Messages that it sends with the interceptor `Tracing` of
/// `zmqv2-client` belong to the same trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tracing;

impl Interceptor for Tracing {
    type State = (Span, TraceParent);

    fn before(&self, request: &mut Received<'_>) -> Result<Self::State, HandlerError> {
        let parent = TraceParent::of(request.context());
        let own = parent.map_or_else(TraceParent::new, TraceParent::child);
        request.extend_context(TRACE_PARENT, own.to_string());
        let span = tracing::info_span!(
            "zmqv2.handle",
            verb = request.verb().as_str(),
            topic = request.topic(),
            server = request.server().as_str(),
            method = request.method(),
            trace_id = own.trace_id(),
            span_id = own.span_id(),
            parent_id = parent.map(TraceParent::span_id),
            attempt = request.attempt(),
            outcome = Empty,
        );
        Ok((span, own))
    }

    fn within(&self, (span, own): &Self::State, run: &mut dyn FnMut()) {
        let _current = own.enter();
        span.in_scope(run);
    }

    fn after(&self, (span, _): Self::State, ended: &Ended<'_>) {
        span.record("outcome", ended.label());
    }
}
