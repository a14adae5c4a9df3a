//! What all clones of a client share, and the course of a call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zmqv2_proto::transport::{Socket, TransportError};
use zmqv2_proto::{Address, MessageId, MethodName, Node, NodeName, Reason, Reply, Request, RequestContext};

use crate::answered::Answered;
use crate::clock;
use crate::connections::Connections;
use crate::directory::Directory;
use crate::error::CallError;
use crate::exchange::{Broken, Outcome, Outgoing};
use crate::journey::{Journey, Plan, may_go_elsewhere, worse};
use crate::remote::RemoteError;
use crate::suspects::Suspects;

const PING: &str = "oslo_rpc_server_ping";

/// What stays the same for all calls of a client.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) allowed_remote_modules: Vec<String>,
    /// This node, and the local socket of its broker.
    pub(crate) local_broker: (NodeName, Address),
}

#[derive(Debug)]
pub(crate) struct Engine {
    settings: Settings,
    directory: Directory,
    connections: Connections,
    suspects: Mutex<Suspects>,
}

/// The answer to a ping.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pong {
    Pong,
}

impl Engine {
    pub(crate) fn new(settings: Settings, directory: Directory, connections: Connections) -> Self {
        Self { settings, directory, connections, suspects: Mutex::default() }
    }

    pub(crate) fn ping(&self, plan: &Plan) -> Result<Answered<()>, CallError> {
        let answered = self.call(plan, &RequestContext::new(), PING, &serde_json::Map::new())?;
        Ok(answered.map(|Pong::Pong| ()))
    }

    pub(crate) fn call<R: DeserializeOwned>(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<Answered<R>, CallError> {
        let journey = Journey::begin(plan, method);
        plan.check()?;
        let mut outgoing = self.pack(&journey, context, args)?;
        let candidates = self.directory.candidates(&plan.target, journey.deadline);
        let candidates = candidates.map_err(|error| journey.lookup_failed(error, self.directory.name()))?;

        let mut failure = None;
        let mut tried = 0;
        let mut suspects = Vec::new();
        let mut order = self.directory.order(&plan.target, &candidates);
        loop {
            // Those that could not be reached lately come last.
            let next = match order.next() {
                Some(node) => {
                    let address = self.address(node);
                    if candidates.len() > 1 && self.suspects().contains(&address, clock::now()) {
                        suspects.push((node, address));
                        continue;
                    }
                    Some((node, address))
                }
                None => suspects.pop(),
            };
            let Some((node, address)) = next else { break };
            tried += 1;
            match self.attempt(&journey, &mut outgoing, node, address, candidates.len() - tried) {
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
    fn pack(
        &self,
        journey: &Journey<'_>,
        context: &RequestContext,
        args: &impl Serialize,
    ) -> Result<Outgoing, CallError> {
        let Journey { target, method, .. } = *journey;
        let id = MessageId::random();
        let name = MethodName::new(method)?;
        let encode = || {
            let mut request = Request::new(name, args)?.with_context(context.clone());
            request.namespace.clone_from(&target.namespace);
            request.version = target.version;
            request.unique_id = Some(id);
            request.encode()
        };
        let body = encode().map_err(|source| CallError::Arguments {
            method: method.to_owned(),
            target: journey.whom(),
            source,
        })?;
        let (size, limit) = (body.len(), self.settings.max_message_bytes);
        if size > limit {
            return Err(CallError::TooLarge { size, limit, target: journey.whom() });
        }
        Ok(Outgoing::new(id, target, body, journey.deadline))
    }

    /// Asks one node; `others` are left to be tried after it.
    fn attempt<R: DeserializeOwned>(
        &self,
        journey: &Journey<'_>,
        outgoing: &mut Outgoing,
        node: &Node,
        address: Address,
        others: usize,
    ) -> Result<Answered<R>, CallError> {
        let now = clock::now();
        let left = journey.deadline.saturating_duration_since(now);
        // A node that is down must leave time for the others, also when the whole call has little.
        let share = if others > 0 { left / 2 } else { left };
        let connect_by = now + self.settings.connect_timeout.min(share);
        let socket = match self.connections.take(&address, now) {
            Ok(socket) => socket,
            // An address that cannot be connected to at all is as good as a node that is down.
            Err(TransportError::Connect { address, source }) => {
                log::debug!("cannot connect to {address}: {source}");
                self.suspects().mark(&address, now);
                return Err(journey.unreachable(node, address));
            }
            Err(source) => {
                return Err(journey.broken(Broken { sent: false, source }));
            }
        };
        let outcome = outgoing.exchange(&socket, connect_by, others == 0);
        let outcome = outcome.map_err(|broken| journey.broken(broken))?;
        match outcome {
            Outcome::Reply { body, server, node: named } => {
                self.done(address, socket);
                let node = named.unwrap_or_else(|| node.name.clone());
                match Reply::decode(&body).map_err(|source| journey.unexpected(source))? {
                    Reply::Result(text) => {
                        let value = Reply::typed(&text).map_err(|source| journey.unexpected(source))?;
                        Ok(Answered { value, server, node, elapsed: journey.elapsed() })
                    }
                    Reply::Failure(failure) => {
                        let allowed = &self.settings.allowed_remote_modules;
                        Err(RemoteError::new(failure, allowed, server, node).into())
                    }
                }
            }
            Outcome::Refusal { refusal, node: named } => {
                let leaving = (refusal.reason == Reason::ShuttingDown).then(|| address.clone());
                self.done(address, socket);
                // Whoever goes on asking a broker that stops may meet its end instead of its answer.
                if let Some(address) = leaving {
                    self.suspects().mark(&address, clock::now());
                }
                let node = Some(named.unwrap_or_else(|| node.name.clone()));
                Err(CallError::Refused { refusal, target: journey.whom(), node, after: journey.elapsed() })
            }
            // In what follows, the socket is dropped: its reply, if any, must never reach another call.
            Outcome::NotConnected => {
                self.suspects().mark(&address, clock::now());
                Err(journey.unreachable(node, address))
            }
            Outcome::Lost => {
                self.suspects().mark(&address, clock::now());
                let (target, after) = (journey.whom(), journey.elapsed());
                Err(CallError::ConnectionLost { target, node: node.name.clone(), address, after })
            }
            Outcome::Silent => {
                let (target, after) = (journey.whom(), journey.elapsed());
                Err(CallError::Timeout { target, node: node.name.clone(), address, after })
            }
        }
    }

    /// The answer has come: the node is alive, and the socket is free.
    fn done(&self, address: Address, socket: Socket) {
        self.suspects().clear(&address);
        self.connections.keep(address, socket, clock::now());
    }

    /// The broker of this node is reached over its local socket, others over TCP.
    fn address(&self, node: &Node) -> Address {
        let (own, local) = &self.settings.local_broker;
        if *own == node.name { local.clone() } else { Address::Tcp(node.address.clone()) }
    }

    fn suspects(&self) -> MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
