//! Counts the requests of a server, and those that failed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The requests that a server has taken since it started, from
/// [`RpcServer::counters`](crate::RpcServer::counters). A repeated request counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Calls that ran, or that no method fits.
    pub calls: u64,
    /// Calls whose answer was a remote error.
    pub failed_calls: u64,
    /// Casts and copies of fanouts that the server has acknowledged.
    pub casts: u64,
    /// Of these, the ones that failed afterwards: an error, a panic, or arguments that do not fit.
    /// The log has a warning for each.
    pub failed_casts: u64,
    /// Casts and copies of fanouts that the server refused, because it has no such method in that
    /// namespace and version. Their senders know it.
    pub refused_casts: u64,
}

impl fmt::Display for ServerCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, failed_calls, casts, failed_casts, refused_casts } = self;
        write!(f, "{calls} calls ({failed_calls} failed), {casts} casts ({failed_casts} failed), ")?;
        write!(f, "{refused_casts} casts refused")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a running server.
#[derive(Debug, Default)]
pub(crate) struct LiveCounters {
    pub(crate) calls: Count,
    pub(crate) failed_calls: Count,
    pub(crate) casts: Count,
    pub(crate) failed_casts: Count,
    pub(crate) refused_casts: Count,
}

impl LiveCounters {
    pub(crate) fn read(&self) -> ServerCounters {
        ServerCounters {
            calls: self.calls.get(),
            failed_calls: self.failed_calls.get(),
            casts: self.casts.get(),
            failed_casts: self.failed_casts.get(),
            refused_casts: self.refused_casts.get(),
        }
    }
}
