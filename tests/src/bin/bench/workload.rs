//! The loads.

use clap::ValueEnum;

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Calls that block: each sender is a thread.
    Call,
    /// `call_async`: one thread has this many in flight.
    Later,
    /// Casts with acknowledgements: one thread has this many in flight.
    Cast,
    /// A cast to every server: one thread has this many in flight.
    Fanout,
}

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) pattern: Pattern,
    /// Threads, or messages in flight.
    pub(crate) senders: usize,
    /// Bytes of the payload, as the caller sees it.
    pub(crate) payload: usize,
    /// Server processes.
    pub(crate) servers: usize,
    /// Topics that are served.
    pub(crate) topics: usize,
    /// How many of the topics are called, in turn.
    pub(crate) called: usize,
    /// Additional clients, which are connected and silent.
    pub(crate) connected: usize,
}

impl Workload {
    pub(crate) const fn new(pattern: Pattern, senders: usize, payload: usize) -> Self {
        Self { pattern, senders, payload, servers: 1, topics: 1, called: 1, connected: 0 }
    }

    pub(crate) const fn with_servers(self, servers: usize) -> Self {
        Self { servers, ..self }
    }

    pub(crate) const fn with_topics(self, topics: usize, called: usize) -> Self {
        Self { topics, called, ..self }
    }

    pub(crate) const fn with_connected(self, connected: usize) -> Self {
        Self { connected, ..self }
    }
}
