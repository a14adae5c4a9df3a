//! What the interceptors of clients and servers share: traces, and names in metrics.

mod known_names;
mod trace_parent;
mod verb;

pub use known_names::KnownNames;
pub use trace_parent::{Entered, InvalidTraceParent, TRACE_PARENT, TraceParent};
pub use verb::Verb;
