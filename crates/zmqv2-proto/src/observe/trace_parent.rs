//! The trace context of W3C: which trace a message belongs to, and which span sent it.
//!
//! The format is that of <https://www.w3.org/TR/trace-context/>, level 1, section 3.2.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use crate::message::RequestContext;
use crate::wire::MessageId;

/// The key of the trace context in a [`RequestContext`].
pub const TRACE_PARENT: &str = "traceparent";

/// The trace of a message and the span that sent it, as the text of the header `traceparent`.
///
/// It travels in the [`RequestContext`] under the key `traceparent`. Peers in Python read and write
/// the same key.
///
/// ```
/// use zmqv2_proto::observe::TraceParent;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let parent: TraceParent = text.parse().unwrap();
/// assert_eq!(parent.to_string(), text);
/// let child = parent.child();
/// assert_eq!(child.trace_id(), parent.trace_id());
/// assert_ne!(child.span_id(), parent.span_id());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The error for a text that is no trace context. W3C says that a receiver then starts a new trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context: 00-<32 hexadecimal digits>-<16>-<2> in lower case is expected, and no id of zeros only")]
pub struct InvalidTraceParent;

thread_local! {
    static CURRENT: Cell<Option<TraceParent>> = const { Cell::new(None) };
}

impl TraceParent {
    /// A new trace, which is sampled.
    #[must_use]
    pub fn new() -> Self {
        let bytes = *MessageId::random().as_bytes();
        Self { trace: u128::from_be_bytes(bytes).max(1), span: random_span(), flags: 1 }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: random_span(), ..self }
    }

    /// The trace context in `context`. `None` if there is none, or none that is valid.
    #[must_use]
    pub fn of(context: &RequestContext) -> Option<Self> {
        context.read::<String>(TRACE_PARENT)?.ok()?.parse().ok()
    }

    /// The trace context of the handler that runs in this thread, if its server has an interceptor that
    /// [enters](Self::enter) it.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Makes this the [current](Self::current) trace context of this thread until the guard is
    /// dropped.
    pub fn enter(self) -> Entered {
        Entered { before: CURRENT.replace(Some(self)), _thread: PhantomData }
    }

    /// The id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The id of the span: 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(self) -> String {
        format!("{:016x}", self.span)
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl Default for TraceParent {
    fn default() -> Self {
        Self::new()
    }
}

fn random_span() -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *MessageId::random().as_bytes();
    // An id of zeros only is not valid.
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut next = |digits| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(part)
        };
        let read = (next(2), next(32), next(16), next(2));
        let (Some(version), Some(trace), Some(span), Some(flags)) = read else { return Err(InvalidTraceParent) };
        // Later versions may add parts at the end. Version ff is not allowed.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(InvalidTraceParent);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| InvalidTraceParent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| InvalidTraceParent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceParent)?;
        if trace == 0 || span == 0 { Err(InvalidTraceParent) } else { Ok(Self { trace, span, flags }) }
    }
}

/// While it lives, its trace context is the current one of the thread.
#[derive(Debug)]
#[must_use = "the trace context is current only while this lives"]
pub struct Entered {
    before: Option<TraceParent>,
    /// It must be dropped in its own thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_w3c_calls_invalid_is_refused() {
        let parse = |text: &str| text.parse::<TraceParent>();
        assert_eq!(parse(VALID).unwrap().to_string(), VALID);
        // A later version with more parts is read as version 00.
        assert_eq!(parse(&format!("cc{}-more", &VALID[2..])).unwrap().trace_id(), "0af7651916cd43dd8448eb211c80319c");
        for bad in [
            String::new(),
            VALID.to_uppercase(),
            format!("{VALID}-more"),
            format!("ff{}", &VALID[2..]),
            VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            VALID[..VALID.len() - 1].to_owned(),
            VALID.replacen('-', "_", 1),
            VALID.replace("b7ad", "\u{e9}ad"),
            VALID.replace("0af7", "+af7"),
        ] {
            assert_eq!(parse(&bad), Err(InvalidTraceParent), "{bad}");
        }
    }

    #[test]
    fn a_context_gives_it_only_if_it_is_valid() {
        let with = |value: &str| TraceParent::of(&RequestContext::new().with(TRACE_PARENT, value));
        assert_eq!(with(VALID).unwrap().to_string(), VALID);
        assert_eq!(with("00-1-2-3"), None);
        assert_eq!(TraceParent::of(&RequestContext::new().with(TRACE_PARENT, 7)), None);
        assert_eq!(TraceParent::of(&RequestContext::new()), None);
    }

    #[test]
    fn the_current_one_ends_with_its_guard() {
        let (outer, inner) = (TraceParent::new(), TraceParent::new());
        let entered = outer.enter();
        {
            let _inner = inner.enter();
            assert_eq!(TraceParent::current(), Some(inner));
        }
        assert_eq!(TraceParent::current(), Some(outer));
        drop(entered);
        assert_eq!(TraceParent::current(), None);
    }
}
