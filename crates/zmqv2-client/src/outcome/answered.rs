//! A result together with who gave it.

use std::time::Duration;

use zmqv2_proto::{NodeName, ServerName};

/// What a call came to, who answered, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<R> {
    /// What the method returned.
    pub value: R,
    /// The server that ran it.
    pub server: ServerName,
    /// The node of that server.
    pub node: NodeName,
    /// From the call to its return, as the caller saw it.
    pub elapsed: Duration,
}

impl<R> Answered<R> {
    pub(crate) fn map<S>(self, f: impl FnOnce(R) -> S) -> Answered<S> {
        let Self { value, server, node, elapsed } = self;
        Answered { value: f(value), server, node, elapsed }
    }
}
