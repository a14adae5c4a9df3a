//! Everything that the copies of a client share: sockets, I/O thread, and routing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::direct::req_sockets::ReqSockets;
use crate::io::thread::{Closed, IoThread};
use crate::outcome::counters::Counters;
use crate::routing::router::Router;
use crate::settings::Settings;

#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) settings: Arc<Settings>,
    pub(crate) router: Arc<Router>,
    pub(super) req_sockets: ReqSockets,
    pub(crate) io_thread: IoThread,
    /// The number of threads in a blocking call.
    active_calls: AtomicUsize,
}

/// Counts one thread in a blocking call, until it is dropped.
pub(super) struct ActiveCall<'a>(&'a AtomicUsize);

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    pub(crate) fn new(
        settings: Arc<Settings>,
        router: Arc<Router>,
        req_sockets: ReqSockets,
        io_thread: IoThread,
    ) -> Self {
        Self { settings, router, req_sockets, io_thread, active_calls: AtomicUsize::new(0) }
    }

    /// Begins a blocking call. Also returns whether no other thread is in one.
    pub(super) fn enter_call(&self) -> (ActiveCall<'_>, bool) {
        let before = self.active_calls.fetch_add(1, Ordering::Relaxed);
        (ActiveCall(&self.active_calls), before == 0)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.io_thread.counters().read(self.io_thread.open())
    }

    pub(crate) fn close(&self, timeout: Duration) -> Closed {
        self.io_thread.close(timeout)
    }
}
