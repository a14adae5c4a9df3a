//! All that the clones of a client share: its sockets, its I/O thread, and what it knows of nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zmqv2_matchmaker::Placement;
use zmqv2_proto::RequestContext;

use crate::delivery::request::{CallOptions, Request};
use crate::direct::call::DirectCaller;
use crate::direct::req_sockets::ReqSockets;
use crate::io::thread::{Closed, IoThread};
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::counters::Counters;
use crate::outcome::send_error::SendError;
use crate::routing::router::Router;
use crate::settings::Settings;

const PING: &str = "oslo_rpc_server_ping";

/// The sockets of a client, the thread that owns some of them, and the way to every node.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) settings: Settings,
    pub(crate) router: Arc<Router>,
    req_sockets: ReqSockets,
    pub(crate) io_thread: IoThread,
    /// How many threads are in a call that blocks.
    active_calls: AtomicUsize,
}

/// Counts a thread that is in a call, until it is dropped.
struct ActiveCall<'a>(&'a AtomicUsize);

impl<'a> ActiveCall<'a> {
    /// Whether it is the only one, too.
    fn enter(active_calls: &'a AtomicUsize) -> (Self, bool) {
        let before = active_calls.fetch_add(1, Ordering::Relaxed);
        (Self(active_calls), before == 0)
    }
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer to a ping.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pong {
    Pong,
}

impl Connections {
    pub(crate) fn new(settings: Settings, router: Arc<Router>, req_sockets: ReqSockets, io_thread: IoThread) -> Self {
        Self { settings, router, req_sockets, io_thread, active_calls: AtomicUsize::new(0) }
    }

    pub(crate) fn ping(&self, options: &CallOptions) -> Result<Answered<()>, CallError> {
        let answered = self.call(options, &RequestContext::new(), PING, &serde_json::Map::new())?;
        Ok(answered.map(|Pong::Pong| ()))
    }

    /// A call that blocks. Alone, it has a REQ, which is the shortest way; beside others it goes over the connection that all
    /// share, which costs less for each (decision 0016).
    pub(crate) fn call<R: DeserializeOwned>(
        &self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Answered<R>, CallError> {
        let (active, alone) = ActiveCall::enter(&self.active_calls);
        let result = if alone { None } else { self.call_over_io_thread(options, context, method, args) };
        let result = result.unwrap_or_else(|| self.direct_caller().call(options, context, method, args));
        drop(active);
        result
    }

    /// `None`: there is no room, or nobody to make the call over to.
    fn call_over_io_thread<R: DeserializeOwned>(
        &self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Option<Result<Answered<R>, CallError>> {
        if !self.io_thread.has_room() {
            return None;
        }
        match self.call_async(options, context, method, args) {
            Ok(handle) => Some(handle.wait_detailed()),
            Err(SendError::Full { .. } | SendError::Closed { .. } | SendError::Transport { .. }) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    fn direct_caller(&self) -> DirectCaller<'_> {
        let Self { settings, router, req_sockets, io_thread, .. } = self;
        DirectCaller { settings, router, req_sockets, io_thread }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.io_thread.counters().read(self.io_thread.open())
    }

    pub(crate) fn close(&self, timeout: Duration) -> Closed {
        self.io_thread.close(timeout)
    }

    /// The nodes of a message's target.
    pub(crate) fn placement(&self, options: &CallOptions, request: &Request<'_>) -> Result<Arc<Placement>, SendError> {
        self.router.directory.first_placement(request, options.wait_for_ready)
    }
}
