//! What all clones of a client share, and the course of a call that blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zmqv2_matchmaker::{Candidates, Placement};
use zmqv2_proto::transport::{Socket, TransportError};
use zmqv2_proto::{Address, Draft, Exchange, Kind, MessageId, MethodName, Node, Reason, Reply, RequestContext};

use crate::clock;
use crate::delivery::request::{
    CallOptions, Request, directory_may_recover, failure_to_report, may_be_repeated, may_go_elsewhere,
};
use crate::delivery::table::{ANSWER_GRACE, LOOKUP_INTERVAL, RETRY_PAUSE};
use crate::direct::monitor::Monitor;
use crate::direct::req_sockets::ReqSockets;
use crate::direct::round_trip::{EncodedRequest, RoundTripEnd, SocketFailure};
use crate::io::thread::{Closed, IoThread};
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::counters::Counters;
use crate::outcome::remote_error::RemoteError;
use crate::outcome::send_error::SendError;
use crate::routing::router::{Destination, Router};

const PING: &str = "oslo_rpc_server_ping";

/// What stays the same for all calls of a client.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) exchange: Exchange,
    pub(crate) cast_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) allowed_remote_modules: Arc<[String]>,
}

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
        let result = result.unwrap_or_else(|| self.call_directly(options, context, method, args));
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

    fn call_directly<R: DeserializeOwned>(
        &self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Answered<R>, CallError> {
        let request = Request::begin(options, options.timeout, method);
        let mut encoded = self.pack(Kind::Call, options, &request, context, args)?;
        let mut retries = options.retries;
        let spacing = request.deadline.saturating_duration_since(request.started) / retries.saturating_add(1);
        let mut doubt = None;
        loop {
            encoded.answer_by = match (retries, options.wait_for_ready) {
                (0, false) => request.deadline,
                // That it has expired is said when its time is over.
                (0, true) => request.deadline + ANSWER_GRACE,
                _ => request.deadline.min(clock::now() + spacing),
            };
            let error = match self.round(options, &request, &mut encoded, retries > 0 || options.wait_for_ready) {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            let over = clock::now() >= request.deadline;
            if doubt.is_none() && options.wait_for_ready && directory_may_recover(&error) && !over {
                request.pause(LOOKUP_INTERVAL);
                if clock::now() >= request.deadline {
                    return Err(error);
                }
            } else if retries > 0 && may_be_repeated(&error) && !over {
                log::debug!("trying again: {error}");
                (retries, doubt) = (retries - 1, Some(error));
            } else if !may_go_elsewhere(&error) {
                return Err(doubt.filter(|_| !error.may_have_run()).unwrap_or(error));
            } else if doubt.is_some() && retries > 0 && !over {
                retries -= 1;
                request.pause(RETRY_PAUSE);
            } else if doubt.is_none() && options.wait_for_ready && error.reason() != Some(Reason::Busy) {
                if over {
                    return Err(request.never_ready());
                }
                request.pause(LOOKUP_INTERVAL);
            } else {
                return Err(doubt.unwrap_or(error));
            }
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.io_thread.counters().read(self.io_thread.open())
    }

    pub(crate) fn close(&self, timeout: Duration) -> Closed {
        self.io_thread.close(timeout)
    }

    fn candidates(&self, request: &Request<'_>) -> Result<Candidates, SendError> {
        let directory = &self.router.directory;
        let candidates = directory.candidates(request.key, request.target.server.as_ref(), request.deadline);
        candidates.map_err(|error| request.lookup_failed(error, directory.name()))
    }

    /// Where the target of a message is that is not waited for. One that waits for a place to go waits for the directory as well.
    pub(crate) fn placement(&self, options: &CallOptions, request: &Request<'_>) -> Result<Arc<Placement>, SendError> {
        let directory = &self.router.directory;
        match directory.placement(request.key, request.deadline) {
            Err(error) if options.wait_for_ready && error.may_pass() => {
                log::debug!("cannot look up {}: {error:?}", request.target);
                Ok(Arc::default())
            }
            placement => placement.map_err(|error| request.lookup_failed(error, directory.name())),
        }
    }

    /// Asks one node after the other, until one has taken it. With `keep`, there may be another round.
    fn round<R: DeserializeOwned>(
        &self,
        options: &CallOptions,
        request: &Request<'_>,
        encoded: &mut EncodedRequest,
        keep: bool,
    ) -> Result<Answered<R>, CallError> {
        let candidates = self.candidates(request)?;
        encoded.flags = options.flags(Kind::Call, candidates.len());
        let mut search = match self.router.server_search(request, candidates) {
            Ok(search) => search,
            Err(candidates) => {
                let order = self.router.nodes_in_turn(request.key, &candidates);
                return self.ask(request, encoded, order, candidates.len(), keep, &mut None);
            }
        };
        loop {
            let plan = self.router.plan_search(&mut search, request.target, clock::now());
            let count = plan.candidates + usize::from(plan.has_alternatives);
            let order = (0..plan.candidates).filter_map(|number| search.node(number));
            let mut last = None;
            let result = self.ask(request, encoded, order, count, keep || plan.has_alternatives, &mut last);
            let Some(node) = last else { return result };
            match &result {
                Ok(_) | Err(CallError::Remote(_)) => search.found_at(node),
                Err(error) if error.reason() == Some(Reason::Busy) => {}
                Err(error) if may_go_elsewhere(error) => {
                    search.not_found_at(node);
                    if plan.has_alternatives && clock::now() < request.deadline {
                        search.ask(0);
                        continue;
                    }
                }
                // Slow is not lost; but another attempt is not to insist on it.
                Err(CallError::Timeout { .. }) if !keep => {}
                Err(error) if error.may_have_run() => search.not_found_at(node),
                Err(_) => {}
            }
            return result;
        }
    }

    /// Asks these nodes, of so many, one after the other; `last` is the one that was asked last.
    fn ask<'a, R: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        encoded: &mut EncodedRequest,
        mut order: impl Iterator<Item = &'a Node>,
        count: usize,
        keep: bool,
        last: &mut Option<&'a Node>,
    ) -> Result<Answered<R>, CallError> {
        let mut failure = None;
        let mut tried = 0;
        let mut suspects = Vec::new();
        loop {
            // Those that could not be reached lately come last.
            let next = match order.next() {
                Some(node) => {
                    let address = self.router.address(node);
                    if count > 1
                        && self.router.should_avoid(&address, encoded.server.as_ref(), &encoded.key, clock::now())
                    {
                        suspects.push((node, address));
                        continue;
                    }
                    Some((node, address))
                }
                None => suspects.pop(),
            };
            let Some((node, address)) = next else { break };
            *last = Some(node);
            tried += 1;
            let others = count.saturating_sub(tried);
            match self.attempt(request, encoded, node, address, others, keep) {
                Ok(answered) => return Ok(answered),
                Err(error) if may_go_elsewhere(&error) => {
                    log::debug!("trying another node: {error}");
                    failure = Some(failure_to_report(failure, error));
                }
                Err(error) => return Err(error),
            }
            if clock::now() >= request.deadline {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| request.no_route()))
    }

    /// The request as it will be sent, to whomever.
    pub(crate) fn pack(
        &self,
        kind: Kind,
        options: &CallOptions,
        request: &Request<'_>,
        context: &RequestContext,
        args: &impl Serialize,
    ) -> Result<EncodedRequest, SendError> {
        options.check()?;
        let id = MessageId::random();
        let method = MethodName::new(request.method)?;
        let mut draft = Draft::new(&method, args, context);
        draft.namespace = request.target.namespace.as_ref();
        draft.version = request.target.version;
        draft.unique_id = Some(id);
        let body = draft.encode().map_err(|source| SendError::Arguments {
            method: method.to_string(),
            target: request.boxed_target(),
            source,
        })?;
        let (size, limit) = (body.len(), self.settings.max_message_bytes);
        if size > limit {
            return Err(SendError::TooLarge { size, limit, target: request.boxed_target() });
        }
        let server = request.target.server.clone();
        let (key, flags, deadline) = (request.key.clone(), options.flags(kind, 1), request.deadline);
        Ok(EncodedRequest { id, method, key, server, flags, body, deadline, answer_by: deadline })
    }

    /// Asks one node; `others` are left to be tried after it, and with `keep` there may be another round.
    fn attempt<R: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        encoded: &mut EncodedRequest,
        node: &Node,
        address: Address,
        others: usize,
        keep: bool,
    ) -> Result<Answered<R>, CallError> {
        let now = clock::now();
        let left = request.deadline.saturating_duration_since(now);
        // A node that is down must leave time for the others, also when the whole call has little.
        let part_sender = if others > 0 { left / 2 } else { left };
        let connect_by = now + self.settings.connect_timeout.min(part_sender);
        let mut monitor = request.monitor.map(|timeout| {
            let destination = Destination { node: node.name.clone(), address: address.clone() };
            Monitor::new(&self.io_thread, encoded.id, request.target, destination, timeout)
        });
        let (socket, end) = loop {
            let socket = match self.req_sockets.take(&address, now) {
                Ok(socket) => socket,
                // An address that cannot be connected to at all is as good as a node that is down.
                Err(TransportError::Connect { address, source }) => {
                    log::debug!("cannot connect to {address}: {source}");
                    self.router.health().mark_unreachable(&address, now);
                    return Err(request.unreachable(node, address));
                }
                Err(source) => {
                    return Err(request.broken(SocketFailure { sent: false, source }));
                }
            };
            let end = encoded.exchange(&socket, connect_by, others == 0 && !keep, monitor.as_mut());
            let end = end.map_err(|broken| request.broken(broken))?;
            if !matches!(end, RoundTripEnd::ConnectionWasOld) || clock::now() >= connect_by {
                break (socket, end);
            }
        };
        match end {
            RoundTripEnd::Reply { body, server, node: named } => {
                self.done(address, socket);
                let node = named.unwrap_or_else(|| node.name.clone());
                match Reply::decode_typed(&body).map_err(|source| request.unexpected(source))? {
                    Ok(value) => Ok(Answered { value, server, node, elapsed: request.elapsed() }),
                    Err(failure) => {
                        let allowed = &self.settings.allowed_remote_modules;
                        Err(RemoteError::new(failure, allowed, server, node).into())
                    }
                }
            }
            RoundTripEnd::Refusal { refusal, node: named } => {
                self.done(address.clone(), socket);
                self.router.refused(&address, encoded.server.as_ref(), &encoded.key, refusal.reason);
                let node = Some(named.unwrap_or_else(|| node.name.clone()));
                Err(CallError::Refused { refusal, target: request.boxed_target(), node, after: request.elapsed() })
            }
            // In what follows, the socket is dropped: its reply, if any, must never reach another call.
            RoundTripEnd::NotConnected | RoundTripEnd::ConnectionWasOld => {
                self.router.health().mark_unreachable(&address, clock::now());
                Err(request.unreachable(node, address))
            }
            RoundTripEnd::RequestLost { refusal, node: named } => {
                let node = Some(named.unwrap_or_else(|| node.name.clone()));
                Err(CallError::Refused { refusal, target: request.boxed_target(), node, after: request.elapsed() })
            }
            RoundTripEnd::ConnectionLost => {
                self.router.health().mark_unreachable(&address, clock::now());
                let (target, after) = (request.boxed_target(), request.elapsed());
                Err(CallError::ConnectionLost { target, node: node.name.clone(), address, after })
            }
            RoundTripEnd::NoAnswer => {
                self.router.not_answered(&address, encoded.server.is_none().then_some(&encoded.key), clock::now());
                let (target, after) = (request.boxed_target(), request.elapsed());
                Err(CallError::Timeout { target, node: node.name.clone(), address, after })
            }
        }
    }

    /// The answer has come: the node is alive, and the socket is free.
    fn done(&self, address: Address, socket: Socket) {
        self.router.health().mark_reachable(&address);
        self.req_sockets.keep(address, socket, clock::now());
    }
}
