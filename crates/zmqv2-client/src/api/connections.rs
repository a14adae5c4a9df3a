//! Everything that the copies of a client share: sockets, I/O thread, and routing.

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

#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) settings: Settings,
    pub(crate) router: Arc<Router>,
    req_sockets: ReqSockets,
    pub(crate) io_thread: IoThread,
    /// The number of threads in a blocking call.
    active_calls: AtomicUsize,
}

/// Counts one thread in a blocking call, until it is dropped.
struct ActiveCall<'a>(&'a AtomicUsize);

impl<'a> ActiveCall<'a> {
    /// Also returns whether this thread is the only one.
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

    /// A blocking call. A single one uses a REQ socket, which is the fastest. Concurrent calls
    /// share the connection of the I/O thread, which costs less for each of them (decision 0016).
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

    /// `None`: the I/O thread cannot take the call.
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
