//! The course of a call that blocks alone: one request over a REQ socket, to one node after the other.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_matchmaker::Candidates;
use zmqv2_proto::transport::{Socket, TransportError};
use zmqv2_proto::{Address, Kind, Node, Reason, Reply, RequestContext};

use crate::clock;
use crate::delivery::request::{
    CallOptions, EncodedRequest, Request, directory_may_recover, failure_to_report, may_be_repeated, may_go_elsewhere,
};
use crate::delivery::table::{ANSWER_GRACE, LOOKUP_INTERVAL, RETRY_PAUSE};
use crate::direct::monitor::Monitor;
use crate::direct::req_sockets::ReqSockets;
use crate::direct::round_trip::{RoundTrip, RoundTripEnd, SocketFailure};
use crate::io::thread::IoThread;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::remote_error::RemoteError;
use crate::outcome::send_error::SendError;
use crate::routing::router::{Destination, Router};
use crate::settings::Settings;

/// Calls over REQ sockets.
#[derive(Clone, Copy)]
pub(crate) struct DirectCaller<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) router: &'a Router,
    pub(crate) req_sockets: &'a ReqSockets,
    /// Asks for calls that are monitored.
    pub(crate) io_thread: &'a IoThread,
}

impl DirectCaller<'_> {
    pub(crate) fn call<R: DeserializeOwned>(
        self,
        options: &CallOptions,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Answered<R>, CallError> {
        let request = Request::begin(options, options.timeout, method, clock::now());
        let mut encoded = request.encode(Kind::Call, options, context, args, self.settings.max_message_bytes)?;
        let mut retries = options.retries;
        let time_per_attempt = request.deadline.saturating_duration_since(request.started) / retries.saturating_add(1);
        let mut maybe_ran = None;
        loop {
            encoded.answer_by = match (retries, options.wait_for_ready) {
                (0, false) => request.deadline,
                // That it has expired is said when its time is over.
                (0, true) => request.deadline + ANSWER_GRACE,
                _ => request.deadline.min(clock::now() + time_per_attempt),
            };
            let error = match self.round(options, &request, &mut encoded, retries > 0 || options.wait_for_ready) {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            let over = clock::now() >= request.deadline;
            if maybe_ran.is_none() && options.wait_for_ready && directory_may_recover(&error) && !over {
                pause(&request, LOOKUP_INTERVAL);
                if clock::now() >= request.deadline {
                    return Err(error);
                }
            } else if retries > 0 && may_be_repeated(&error) && !over {
                log::debug!("trying again: {error}");
                (retries, maybe_ran) = (retries - 1, Some(error));
            } else if !may_go_elsewhere(&error) {
                return Err(maybe_ran.filter(|_| !error.may_have_run()).unwrap_or(error));
            } else if maybe_ran.is_some() && retries > 0 && !over {
                retries -= 1;
                pause(&request, RETRY_PAUSE);
            } else if maybe_ran.is_none() && options.wait_for_ready && error.reason() != Some(Reason::Busy) {
                if over {
                    return Err(request.never_ready(clock::now()));
                }
                pause(&request, LOOKUP_INTERVAL);
            } else {
                return Err(maybe_ran.unwrap_or(error));
            }
        }
    }

    fn candidates(self, request: &Request<'_>) -> Result<Candidates, SendError> {
        let directory = &self.router.directory;
        let candidates = directory.candidates(request.key, request.target.server.as_ref(), request.deadline);
        candidates.map_err(|error| error.into_send_error(request, directory.name(), clock::now()))
    }

    /// Asks one node after the other, until one has taken it. With `keep`, there may be another round.
    fn round<R: DeserializeOwned>(
        self,
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
        self,
        request: &Request<'_>,
        encoded: &mut EncodedRequest,
        mut order: impl Iterator<Item = &'a Node>,
        count: usize,
        keep: bool,
        last: &mut Option<&'a Node>,
    ) -> Result<Answered<R>, CallError> {
        let mut failure = None;
        let mut tried = 0;
        let mut avoided = Vec::new();
        loop {
            // Those that could not be reached lately come last.
            let next = match order.next() {
                Some(node) => {
                    let address = self.router.address(node);
                    if count > 1
                        && self.router.should_avoid(&address, encoded.server.as_ref(), &encoded.key, clock::now())
                    {
                        avoided.push((node, address));
                        continue;
                    }
                    Some((node, address))
                }
                None => avoided.pop(),
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
        Err(failure.unwrap_or_else(|| request.no_route(clock::now())))
    }

    /// Asks one node; `others` are left to be tried after it, and with `keep` there may be another round.
    fn attempt<R: DeserializeOwned>(
        self,
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
        let time = if others > 0 { left / 2 } else { left };
        let connect_by = now + self.settings.connect_timeout.min(time);
        let mut monitor = request.monitor.map(|timeout| {
            let destination = Destination { node: node.name.clone(), address: address.clone() };
            Monitor::new(self.io_thread, encoded.id, request.target, destination, timeout)
        });
        let (socket, end) = loop {
            let socket = match self.req_sockets.take(&address, now) {
                Ok(socket) => socket,
                // An address that cannot be connected to at all is as good as a node that is down.
                Err(TransportError::Connect { address, source }) => {
                    log::debug!("cannot connect to {address}: {source}");
                    self.router.health().mark_unreachable(&address, now);
                    return Err(request.unreachable(node, address, clock::now()));
                }
                Err(source) => {
                    return Err(SocketFailure { sent: false, source }.into_call_error(request));
                }
            };
            let end =
                RoundTrip { request: encoded, socket: &socket }.run(connect_by, others == 0 && !keep, monitor.as_mut());
            let end = end.map_err(|failure| failure.into_call_error(request))?;
            if !matches!(end, RoundTripEnd::ConnectionWasOld) || clock::now() >= connect_by {
                break (socket, end);
            }
        };
        match end {
            RoundTripEnd::Reply { body, server, node: named } => {
                self.done(address, socket);
                let node = named.unwrap_or_else(|| node.name.clone());
                match Reply::decode(&body).map_err(|source| request.unexpected(source))? {
                    Ok(value) => Ok(Answered { value, server, node, elapsed: request.elapsed(clock::now()) }),
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
                Err(CallError::Refused {
                    refusal,
                    target: request.boxed_target(),
                    node,
                    after: request.elapsed(clock::now()),
                })
            }
            // In what follows, the socket is dropped: its reply, if any, must never reach another call.
            RoundTripEnd::NotConnected | RoundTripEnd::ConnectionWasOld => {
                self.router.health().mark_unreachable(&address, clock::now());
                Err(request.unreachable(node, address, clock::now()))
            }
            RoundTripEnd::RequestLost { refusal, node: named } => {
                let node = Some(named.unwrap_or_else(|| node.name.clone()));
                Err(CallError::Refused {
                    refusal,
                    target: request.boxed_target(),
                    node,
                    after: request.elapsed(clock::now()),
                })
            }
            RoundTripEnd::ConnectionLost => {
                self.router.health().mark_unreachable(&address, clock::now());
                let (target, after) = (request.boxed_target(), request.elapsed(clock::now()));
                Err(CallError::ConnectionLost { target, node: node.name.clone(), address, after })
            }
            RoundTripEnd::NoAnswer => {
                self.router.not_answered(&address, encoded.server.is_none().then_some(&encoded.key), clock::now());
                let (target, after) = (request.boxed_target(), request.elapsed(clock::now()));
                Err(CallError::Timeout { target, node: node.name.clone(), address, after })
            }
        }
    }

    /// The answer has come: the node is alive, and the socket is free.
    fn done(self, address: Address, socket: Socket) {
        self.router.health().mark_reachable(&address);
        self.req_sockets.keep(address, socket, clock::now());
    }
}

/// Waits, but not beyond the deadline of the request.
fn pause(request: &Request<'_>, pause: Duration) {
    let until = request.deadline.min(clock::now() + pause);
    loop {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
