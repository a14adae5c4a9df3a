//! The result of a call, with the server that gave it.

use std::time::Duration;

use zmqv2_proto::{NodeName, ServerName};

/// The result of a call, the server that gave it, and the time it took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<R> {
    /// The value that the method returned.
    pub value: R,
    /// The server that ran it.
    pub server: ServerName,
    /// The node of that server.
    pub node: NodeName,
    /// The time from the call to its return.
    pub elapsed: Duration,
}

impl<R> Answered<R> {
    pub(crate) fn map<S>(self, f: impl FnOnce(R) -> S) -> Answered<S> {
        let Self { value, server, node, elapsed } = self;
        Answered { value: f(value), server, node, elapsed }
    }
}
