//! Everything that the copies of a client share: sockets, I/O thread, and routing.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Address, NodeName, PerProcess};

use crate::direct::req_sockets::ReqSockets;
use crate::io::thread::{Closed, IoThread};
use crate::outcome::counters::Counters;
use crate::routing::directory::Directory;
use crate::routing::router::Router;
use crate::settings::Settings;

/// The connections that the copies of a client share. A child that was forked gets new ones with its
/// first message, and leaves those of its parent alone.
#[derive(Debug)]
pub(crate) struct SharedConnections {
    parts: ConnectionParts,
    current: PerProcess<Connections>,
}

/// What connections are made from. It has no thread, and no lock of this crate.
#[derive(Debug)]
pub(crate) struct ConnectionParts {
    pub(super) settings: Arc<Settings>,
    pub(super) matchmaker: Arc<dyn Matchmaker>,
    pub(super) local_broker: (NodeName, Address),
    pub(super) transport: Transport,
}

impl ConnectionParts {
    fn connections(&self) -> Connections {
        let Self { settings, matchmaker, local_broker, transport } = self;
        let directory = Directory::new(Arc::clone(matchmaker));
        let router = Arc::new(Router::new(directory, local_broker.clone(), settings.config.zone.clone()));
        let io_thread = IoThread::new(Arc::clone(settings), transport.clone(), Arc::clone(&router));
        let req_sockets = ReqSockets::new(transport.clone(), settings.config.conn_pool_size);
        Connections::new(Arc::clone(settings), router, req_sockets, io_thread)
    }
}

impl SharedConnections {
    pub(crate) fn new(parts: ConnectionParts) -> Self {
        Self { current: PerProcess::new(parts.connections()), parts }
    }
}

impl Deref for SharedConnections {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        self.current.get_or_renew(|| self.parts.connections())
    }
}

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
