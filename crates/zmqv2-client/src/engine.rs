//! What all clones of a client share, and the course of a call that blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zmqv2_matchmaker::{Candidates, Placement};
use zmqv2_proto::transport::{Socket, TransportError};
use zmqv2_proto::{Address, Exchange, Kind, MessageId, MethodName, Node, Reason, Reply, RequestContext, RequestRef};

use crate::answered::Answered;
use crate::clock;
use crate::connections::Connections;
use crate::courier::{Closed, Courier};
use crate::error::CallError;
use crate::exchange::{Broken, Outcome, Outgoing};
use crate::journey::{Journey, Plan, directory_may_recover, may_be_repeated, may_go_elsewhere, worse};
use crate::monitor::Monitor;
use crate::outstanding::{ANSWER_GRACE, LOOK_AGAIN, RETRY_PAUSE};
use crate::remote::RemoteError;
use crate::routes::{Routes, Stop};
use crate::send_error::SendError;
use crate::tally::Counters;

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
pub(crate) struct Engine {
    pub(crate) settings: Settings,
    pub(crate) routes: Arc<Routes>,
    connections: Connections,
    pub(crate) courier: Courier,
    /// How many threads are in a call that blocks.
    calling: AtomicUsize,
}

/// Counts a thread that is in a call, until it is dropped.
struct Caller<'a>(&'a AtomicUsize);

impl<'a> Caller<'a> {
    /// Whether it is the only one, too.
    fn enter(calling: &'a AtomicUsize) -> (Self, bool) {
        let before = calling.fetch_add(1, Ordering::Relaxed);
        (Self(calling), before == 0)
    }
}

impl Drop for Caller<'_> {
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

impl Engine {
    pub(crate) fn new(settings: Settings, routes: Arc<Routes>, connections: Connections, courier: Courier) -> Self {
        Self { settings, routes, connections, courier, calling: AtomicUsize::new(0) }
    }

    pub(crate) fn ping(&self, plan: &Plan) -> Result<Answered<()>, CallError> {
        let answered = self.call(plan, &RequestContext::new(), PING, &serde_json::Map::new())?;
        Ok(answered.map(|Pong::Pong| ()))
    }

    /// A call that blocks. Alone, it has a REQ, which is the shortest way; beside others it goes over the connection that all
    /// share, which costs less for each (decision 0016).
    pub(crate) fn call<R: DeserializeOwned>(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Answered<R>, CallError> {
        let (caller, alone) = Caller::enter(&self.calling);
        let result = if alone { None } else { self.call_beside(plan, context, method, args) };
        let result = result.unwrap_or_else(|| self.call_alone(plan, context, method, args));
        drop(caller);
        result
    }

    /// `None`: there is no room, or nobody to make the call over to.
    fn call_beside<R: DeserializeOwned>(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Option<Result<Answered<R>, CallError>> {
        if !self.courier.has_room() {
            return None;
        }
        match self.call_async(plan, context, method, args) {
            Ok(handle) => Some(handle.wait_detailed()),
            Err(SendError::Full { .. } | SendError::Closed { .. } | SendError::Transport { .. }) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    fn call_alone<R: DeserializeOwned>(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Answered<R>, CallError> {
        let journey = Journey::begin(plan, plan.timeout, method);
        let mut outgoing = self.pack(Kind::Call, plan, &journey, context, args)?;
        let mut retries = plan.retries;
        let spacing = journey.deadline.saturating_duration_since(journey.started) / retries.saturating_add(1);
        let mut doubt = None;
        loop {
            outgoing.answer_by = match (retries, plan.wait_for_ready) {
                (0, false) => journey.deadline,
                // That it has expired is said when its time is over.
                (0, true) => journey.deadline + ANSWER_GRACE,
                _ => journey.deadline.min(clock::now() + spacing),
            };
            let error = match self.round(plan, &journey, &mut outgoing, retries > 0 || plan.wait_for_ready) {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            let over = clock::now() >= journey.deadline;
            if doubt.is_none() && plan.wait_for_ready && directory_may_recover(&error) && !over {
                journey.pause(LOOK_AGAIN);
                if clock::now() >= journey.deadline {
                    return Err(error);
                }
            } else if retries > 0 && may_be_repeated(&error) && !over {
                log::debug!("trying again: {error}");
                (retries, doubt) = (retries - 1, Some(error));
            } else if !may_go_elsewhere(&error) {
                return Err(doubt.filter(|_| !error.may_have_run()).unwrap_or(error));
            } else if doubt.is_some() && retries > 0 && !over {
                retries -= 1;
                journey.pause(RETRY_PAUSE);
            } else if doubt.is_none() && plan.wait_for_ready && error.reason() != Some(Reason::Busy) {
                if over {
                    return Err(journey.never_ready());
                }
                journey.pause(LOOK_AGAIN);
            } else {
                return Err(doubt.unwrap_or(error));
            }
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.courier.tally().read(self.courier.open())
    }

    pub(crate) fn close(&self, timeout: Duration) -> Closed {
        self.courier.close(timeout)
    }

    fn candidates(&self, journey: &Journey<'_>) -> Result<Candidates, SendError> {
        let directory = &self.routes.directory;
        let candidates = directory.candidates(journey.key, journey.target.server.as_ref(), journey.deadline);
        candidates.map_err(|error| journey.lookup_failed(error, directory.name()))
    }

    /// Where the target of a message is that is not waited for. One that waits for a place to go waits for the directory as well.
    pub(crate) fn placement(&self, plan: &Plan, journey: &Journey<'_>) -> Result<Arc<Placement>, SendError> {
        let directory = &self.routes.directory;
        match directory.placement(journey.key, journey.deadline) {
            Err(error) if plan.wait_for_ready && error.may_pass() => {
                log::debug!("cannot look up {}: {error:?}", journey.target);
                Ok(Arc::default())
            }
            placement => placement.map_err(|error| journey.lookup_failed(error, directory.name())),
        }
    }

    /// Asks one node after the other, until one has taken it. With `keep`, there may be another round.
    fn round<R: DeserializeOwned>(
        &self,
        plan: &Plan,
        journey: &Journey<'_>,
        outgoing: &mut Outgoing,
        keep: bool,
    ) -> Result<Answered<R>, CallError> {
        let candidates = self.candidates(journey)?;
        outgoing.flags = plan.flags(Kind::Call, candidates.len());
        let mut search = match self.routes.search(journey, candidates) {
            Ok(search) => search,
            Err(candidates) => {
                let order = self.routes.order(journey.key, &candidates);
                return self.ask(journey, outgoing, order, candidates.len(), keep, &mut None);
            }
        };
        loop {
            let prospect = self.routes.plan(&mut search, journey.target, clock::now());
            let count = prospect.candidates + usize::from(prospect.more);
            let order = (0..prospect.candidates).filter_map(|number| search.node(number));
            let mut last = None;
            let result = self.ask(journey, outgoing, order, count, keep || prospect.more, &mut last);
            let Some(node) = last else { return result };
            match &result {
                Ok(_) | Err(CallError::Remote(_)) => search.found_at(node),
                Err(error) if error.reason() == Some(Reason::Busy) => {}
                Err(error) if may_go_elsewhere(error) => {
                    search.missed_at(node);
                    if prospect.more && clock::now() < journey.deadline {
                        search.ask(0);
                        continue;
                    }
                }
                // Slow is not lost; but another attempt is not to insist on it.
                Err(CallError::Timeout { .. }) if !keep => {}
                Err(error) if error.may_have_run() => search.missed_at(node),
                Err(_) => {}
            }
            return result;
        }
    }

    /// Asks these nodes, of so many, one after the other; `last` is the one that was asked last.
    fn ask<'a, R: DeserializeOwned>(
        &self,
        journey: &Journey<'_>,
        outgoing: &mut Outgoing,
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
                    let address = self.routes.address(node);
                    if count > 1 && self.routes.avoid(&address, outgoing.server.as_ref(), &outgoing.key, clock::now()) {
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
            match self.attempt(journey, outgoing, node, address, others, keep) {
                Ok(answered) => return Ok(answered),
                Err(error) if may_go_elsewhere(&error) => {
                    log::debug!("trying another node: {error}");
                    failure = Some(worse(failure, error));
                }
                Err(error) => return Err(error),
            }
            if clock::now() >= journey.deadline {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| journey.nowhere()))
    }

    /// The request as it will be sent, to whomever.
    pub(crate) fn pack(
        &self,
        kind: Kind,
        plan: &Plan,
        journey: &Journey<'_>,
        context: &RequestContext,
        args: &impl Serialize,
    ) -> Result<Outgoing, SendError> {
        plan.check()?;
        let id = MessageId::random();
        let method = MethodName::new(journey.method)?;
        let mut borrowed = RequestRef::new(&method, args, context);
        borrowed.namespace = journey.target.namespace.as_ref();
        borrowed.version = journey.target.version;
        borrowed.unique_id = Some(id);
        let body = borrowed.encode().map_err(|source| SendError::Arguments {
            method: method.to_string(),
            target: journey.whom(),
            source,
        })?;
        let (size, limit) = (body.len(), self.settings.max_message_bytes);
        if size > limit {
            return Err(SendError::TooLarge { size, limit, target: journey.whom() });
        }
        let server = journey.target.server.clone();
        let (key, flags, deadline) = (journey.key.clone(), plan.flags(kind, 1), journey.deadline);
        Ok(Outgoing { id, method, key, server, flags, body, deadline, answer_by: deadline })
    }

    /// Asks one node; `others` are left to be tried after it, and with `keep` there may be another round.
    fn attempt<R: DeserializeOwned>(
        &self,
        journey: &Journey<'_>,
        outgoing: &mut Outgoing,
        node: &Node,
        address: Address,
        others: usize,
        keep: bool,
    ) -> Result<Answered<R>, CallError> {
        let now = clock::now();
        let left = journey.deadline.saturating_duration_since(now);
        // A node that is down must leave time for the others, also when the whole call has little.
        let share = if others > 0 { left / 2 } else { left };
        let connect_by = now + self.settings.connect_timeout.min(share);
        let mut monitor = journey.monitor.map(|timeout| {
            let stop = Stop { node: node.name.clone(), address: address.clone() };
            Monitor::new(&self.courier, outgoing.id, journey.target, stop, timeout)
        });
        let (socket, outcome) = loop {
            let socket = match self.connections.take(&address, now) {
                Ok(socket) => socket,
                // An address that cannot be connected to at all is as good as a node that is down.
                Err(TransportError::Connect { address, source }) => {
                    log::debug!("cannot connect to {address}: {source}");
                    self.routes.suspects().mark(&address, now);
                    return Err(journey.unreachable(node, address));
                }
                Err(source) => {
                    return Err(journey.broken(Broken { sent: false, source }));
                }
            };
            let outcome = outgoing.exchange(&socket, connect_by, others == 0 && !keep, monitor.as_mut());
            let outcome = outcome.map_err(|broken| journey.broken(broken))?;
            if !matches!(outcome, Outcome::Stale) || clock::now() >= connect_by {
                break (socket, outcome);
            }
        };
        match outcome {
            Outcome::Reply { body, server, node: named } => {
                self.done(address, socket);
                let node = named.unwrap_or_else(|| node.name.clone());
                match Reply::decode(&body).map_err(|source| journey.unexpected(source))? {
                    Ok(value) => Ok(Answered { value, server, node, elapsed: journey.elapsed() }),
                    Err(failure) => {
                        let allowed = &self.settings.allowed_remote_modules;
                        Err(RemoteError::new(failure, allowed, server, node).into())
                    }
                }
            }
            Outcome::Refusal { refusal, node: named } => {
                self.done(address.clone(), socket);
                self.routes.refused(&address, outgoing.server.as_ref(), &outgoing.key, refusal.reason);
                let node = Some(named.unwrap_or_else(|| node.name.clone()));
                Err(CallError::Refused { refusal, target: journey.whom(), node, after: journey.elapsed() })
            }
            // In what follows, the socket is dropped: its reply, if any, must never reach another call.
            Outcome::NotConnected | Outcome::Stale => {
                self.routes.suspects().mark(&address, clock::now());
                Err(journey.unreachable(node, address))
            }
            Outcome::Gone { refusal, node: named } => {
                let node = Some(named.unwrap_or_else(|| node.name.clone()));
                Err(CallError::Refused { refusal, target: journey.whom(), node, after: journey.elapsed() })
            }
            Outcome::Lost => {
                self.routes.suspects().mark(&address, clock::now());
                let (target, after) = (journey.whom(), journey.elapsed());
                Err(CallError::ConnectionLost { target, node: node.name.clone(), address, after })
            }
            Outcome::Silent => {
                self.routes.silent(&address, outgoing.server.is_none().then_some(&outgoing.key), clock::now());
                let (target, after) = (journey.whom(), journey.elapsed());
                Err(CallError::Timeout { target, node: node.name.clone(), address, after })
            }
        }
    }

    /// The answer has come: the node is alive, and the socket is free.
    fn done(&self, address: Address, socket: Socket) {
        self.routes.suspects().clear(&address);
        self.connections.keep(address, socket, clock::now());
    }
}
