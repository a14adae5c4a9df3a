//! Reads messages and bundles. Answers those that need no engine, and gives the rest to the engine.

use zmqv2_proto::hello::{HELLO_ID, Hello, Welcome};
use zmqv2_proto::transport::{Frame, Received, connection_of};
use zmqv2_proto::{ClockId, Header, HeaderView, Kind, Reason, Refusal, Ttl};

use super::actions::Routing;
use super::client_limits::ClientLimits;
use super::clients::Clients;
use super::links::LinkChange;
use super::log_limiter::{LogKind, LogLimiter};
use super::status::StatusReporter;
use crate::engine::{ClientId, Counter, Input, WorkerId};
use crate::error::BrokerError;
use crate::message::arrival::Names;
use crate::message::control_request::{ControlRequest, write};
use crate::message::framing::{self, Content, Malformed};
use crate::message::origin::{Ingress, Origin};
use crate::message::payload::Payload;
use crate::message::peer_name::PeerNames;
use crate::message::return_path::ReturnPath;
use crate::message::worker_message::{self, WorkerMessage};
use crate::threads::now;

/// The most messages read from one socket before the others get their turn.
const MESSAGES_PER_VISIT: usize = 64;

pub(super) struct Inbox {
    max_message_bytes: usize,
    /// The number of this node's clock in the stamps of requests.
    clock: ClockId,
    /// The answer to the first question on a connection.
    welcome: Vec<u8>,
    status: StatusReporter,
    limiter: LogLimiter,
    peers: PeerNames,
    names: Names,
    frames: Vec<Frame>,
    received: bool,
    clients: Clients,
    limits: ClientLimits,
}

impl Inbox {
    pub(super) fn new(max_message_bytes: usize, status: StatusReporter) -> Self {
        let (limiter, peers, names, frames, clients, limits) = Default::default();
        let (clock, welcome) =
            (ClockId::own(), Welcome::new(max_message_bytes).with_cancellation().with_callers().write());
        Self {
            max_message_bytes,
            clock,
            welcome,
            status,
            limiter,
            peers,
            names,
            frames,
            received: false,
            clients,
            limits,
        }
    }

    pub(super) fn take_received(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }

    /// Reads messages of clients and local servers. Returns whether there may be more.
    pub(super) fn read_ingress(&mut self, routing: &mut Routing, ingress: Ingress) -> Result<bool, BrokerError> {
        self.end_clients(routing, ingress);
        let mut read = 0;
        while read < MESSAGES_PER_VISIT {
            read += match routing.sockets.ingress(ingress).receive(&mut self.frames)? {
                Received::Nothing => return Ok(false),
                Received::Message => self.receive(routing, ingress),
                Received::Overlong => self.count_malformed(routing, &Malformed::TooManyFrames),
            }
        }
        Ok(true)
    }

    /// Cancels the calls of clients whose connections have ended.
    fn end_clients(&mut self, routing: &mut Routing, ingress: Ingress) {
        let mut gone = Vec::new();
        while let Some(connection) = routing.sockets.ingress(ingress).ended_connection() {
            gone.extend(self.clients.ended(ingress, connection));
        }
        if !gone.is_empty() {
            routing.handle_now(Input::ClientsGone { clients: gone });
        }
    }

    /// Notes the connection of the client that has sent its first call: the message that was read
    /// last.
    fn watch_client(&mut self, routing: &mut Routing, ingress: Ingress, client: ClientId) {
        // The ends of earlier connections with this descriptor come first.
        self.end_clients(routing, ingress);
        let Some(connection) = self.frames.first_mut().and_then(connection_of) else { return };
        if let Some(earlier) = self.clients.watch(ingress, connection, client) {
            routing.handle(Input::ClientsGone { clients: vec![earlier] });
        }
    }

    /// Reads messages of a worker. Returns whether there may be more.
    pub(super) fn read_link(&mut self, routing: &mut Routing, worker: WorkerId) -> Result<bool, BrokerError> {
        let mut read = 0;
        while read < MESSAGES_PER_VISIT {
            let Some(link) = routing.sockets.links.get(worker) else { return Ok(false) };
            match link.receive(&mut self.frames)? {
                Received::Message => read += self.receive_from_worker(routing, worker),
                Received::Overlong => {
                    routing.drop_worker(worker, &Malformed::TooManyFrames);
                    read += 1;
                }
                Received::Nothing => {
                    match routing.sockets.links.check(worker)? {
                        LinkChange::Message => continue,
                        LinkChange::Nothing => {}
                        LinkChange::Connected => routing.handle_now(Input::WorkerUp { worker }),
                        LinkChange::Disconnected => routing.link_broke(worker),
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Handles a message, or a bundle, from a peer. Returns the number of messages.
    fn receive(&mut self, routing: &mut Routing, ingress: Ingress) -> usize {
        let Some((path, content)) = framing::split_request(&mut self.frames) else {
            return self.count_malformed(routing, &Malformed::NoDelimiter);
        };
        routing.read_clock();
        let bundle = match content {
            Ok(Content::Bundle(bundle)) => bundle,
            Ok(Content::One(payload)) => {
                self.receive_message(routing, ingress, path, payload);
                return 1;
            }
            Err(error) => {
                self.reject(routing, &Origin::unreadable(ingress, path), &error);
                return 1;
            }
        };
        let mut messages = 0;
        for message in framing::messages(&bundle) {
            messages += 1;
            match message {
                Ok(payload) => self.receive_message(routing, ingress, path.clone(), payload),
                // Without a header there is no request to answer.
                Err(error) => self.log_malformed(routing, &error),
            }
        }
        messages
    }

    /// Handles a message, or a bundle, from a worker. Returns the number of messages.
    fn receive_from_worker(&mut self, routing: &mut Routing, worker: WorkerId) -> usize {
        routing.read_clock();
        let message = match framing::split_answer(&mut self.frames) {
            Ok(Content::Bundle(bundle)) => return self.receive_bundle_from_worker(routing, worker, &bundle),
            Ok(Content::One(payload)) => Ok(payload),
            Err(error) => Err(error),
        };
        self.receive_answer(routing, worker, message);
        1
    }

    fn receive_bundle_from_worker(&mut self, routing: &mut Routing, worker: WorkerId, bundle: &[u8]) -> usize {
        let mut messages = 0;
        for message in framing::messages(bundle) {
            messages += 1;
            self.receive_answer(routing, worker, message);
            // The rest of the bundle of a worker that was dropped is ignored.
            if routing.sockets.links.get(worker).is_none() {
                break;
            }
        }
        messages
    }

    fn receive_answer(&mut self, routing: &mut Routing, worker: WorkerId, payload: Result<Payload, Malformed>) {
        self.received = true;
        match payload.and_then(worker_message::read) {
            Ok(WorkerMessage::Answer { tag, credit, refused, payload }) => {
                routing.handle(Input::Reply { worker, tag, credit, refused, payload });
            }
            Ok(WorkerMessage::Credit { credit, wide }) => routing.handle(Input::Freed { worker, credit, wide }),
            Ok(WorkerMessage::HandedBack { tag, payload }) if routing.sockets.links.reads_bundles(worker) => {
                self.receive_handed_back(routing, worker, tag, payload);
            }
            // A worker with its own socket has one request, and would get it again at once.
            Ok(WorkerMessage::HandedBack { .. }) => routing.drop_worker(worker, &Malformed::HandedBack),
            Err(error) => routing.drop_worker(worker, &error),
        }
    }

    fn receive_handed_back(&mut self, routing: &mut Routing, worker: WorkerId, tag: u64, payload: Payload) {
        if payload.check_size(self.max_message_bytes).is_err() {
            return routing.drop_worker(worker, &Malformed::HandedBackTooLarge);
        }
        let Ok(view) = HeaderView::new(payload.header()) else { return };
        // The engine has kept the deadline.
        let arrival = self.names.arrival(&view, view.ttl(), payload.size(), routing.now());
        routing.handle(Input::HandedBack { worker, tag, arrival, payload });
    }

    fn receive_message(&mut self, routing: &mut Routing, ingress: Ingress, path: ReturnPath, payload: Payload) {
        self.received = true;
        let view = match HeaderView::new(payload.header()) {
            Ok(view) => view,
            Err(error) => return self.reject(routing, &Origin::unreadable(ingress, path), &error.into()),
        };
        let origin = Origin::of(ingress, path, &view);
        match view.kind() {
            kind if kind.is_request() => {
                // A worker reads headers more strictly, and could not answer this request.
                if !view.has_valid_node() || !matches!(view.reason(), Ok(None)) {
                    return self.reject(routing, &origin, &Malformed::AnswerFields);
                }
                if let Err(refusal) = payload.check_size(self.max_message_bytes) {
                    return refuse(routing, &origin, &refusal);
                }
                if let Some(refusal) = routing.why_behind(&origin) {
                    return refuse(routing, &origin, &refusal);
                }
                let left = view.ttl_left(self.clock, Ttl::monotonic_millis_at(routing.now()));
                // The engine gets the payload while it reads the names, so these are copies.
                let mut arrival = self.names.arrival(&view, left, payload.size(), routing.now());
                let (client, is_call) = (self.clients.id(ingress, origin.path.peer()), arrival.is_call);
                arrival.client = Some(client);
                let origin = origin.with_limit(self.limits.of(client));
                routing.handle(Input::Request { arrival, from: origin, payload });
                if is_call && !self.clients.is_watched(client) {
                    self.watch_client(routing, ingress, client);
                }
            }
            Kind::Cancel => {
                let client = self.clients.id(ingress, origin.path.peer());
                routing.handle(Input::Cancel { client, id: view.id() });
            }
            Kind::Inquire if view.id() == HELLO_ID => {
                let limit = Hello::read(payload.body()).max_message_bytes;
                let limit = limit.and_then(|bytes| usize::try_from(bytes).ok());
                let client = self.clients.id(ingress, origin.path.peer());
                self.limits.set(client, limit.filter(|limit| *limit < self.max_message_bytes));
                routing.reply(&origin, Kind::Welcome, &self.welcome);
            }
            Kind::Inquire => {
                routing.count(Counter::Inquiries);
                if let Some(silence) = routing.engine().silence_of(routing.now(), view.id()) {
                    let answer = origin.in_flight(&routing.node, silence);
                    return routing.answer(&origin, answer);
                }
                let detail = "the broker has no such call: it never came, was answered, or was lost";
                refuse(routing, &origin, &Refusal::new(Reason::ServerLost, detail));
            }
            kind @ (Kind::Register | Kind::Withdraw | Kind::Credit | Kind::Handled | Kind::Status) => {
                if origin.ingress != Ingress::Local {
                    let detail = format!("{kind:?} messages are taken only from the node's own socket directory");
                    return refuse(routing, &origin, &Refusal::new(Reason::Unauthorized, detail));
                }
                match ControlRequest::read(&view, payload.body()) {
                    Ok(request) => self.control(routing, request, origin, payload),
                    Err(error) => self.reject(routing, &origin, &error),
                }
            }
            kind => self.reject(routing, &origin, &Malformed::Kind(kind)),
        }
    }

    fn control(&mut self, routing: &mut Routing, request: ControlRequest, origin: Origin, payload: Payload) {
        match request {
            ControlRequest::Status => {
                let report = self.status.report(routing);
                routing.reply(&origin, Kind::StatusReport, &write(&report));
            }
            ControlRequest::Credit { instance, worker, credit } => {
                routing.handle_now(Input::Credit { instance, worker, credit });
            }
            ControlRequest::Handled { requeue: true, .. } => self.receive_requeued(routing, &origin, payload),
            ControlRequest::Handled { requeue: false, tag, id, credit } => {
                routing.handle_now(Input::Handled { tag, id, credit, requeue: None });
            }
            ControlRequest::Register(offer) => {
                routing.registrants.add(&offer.registration, origin.clone());
                routing.handle_now(Input::Register { offer, from: origin });
            }
            ControlRequest::Withdraw(instance) => {
                routing.registrants.remove(instance);
                routing.handle_now(Input::Withdraw { instance, from: origin });
            }
        }
    }

    fn receive_requeued(&mut self, routing: &mut Routing, origin: &Origin, payload: Payload) {
        let (requeued, payload) = match worker_message::read_requeued(payload) {
            Ok(requeued) => requeued,
            Err(error) => return self.reject(routing, origin, &error),
        };
        let Header { tag, id, count: credit, key, server, .. } = requeued;
        if key.is_none() || server.is_none() {
            let detail = "a requeued notification must name its topic and its pool";
            return self.reject(routing, origin, &Malformed::Control(detail.to_owned()));
        }
        let Ok(view) = HeaderView::new(payload.header()) else { return };
        // The listener has the clock of this node.
        let left = view.ttl().left_since(view.delivered(), Ttl::monotonic_millis_at(routing.now()));
        let arrival = self.names.arrival(&view, left, payload.size(), routing.now());
        routing.handle(Input::Handled { tag, id, credit, requeue: Some((arrival, payload)) });
    }

    fn reject(&mut self, routing: &mut Routing, origin: &Origin, error: &Malformed) {
        self.log_malformed(routing, error);
        let refusal = Refusal::new(Reason::Malformed, error.to_string());
        routing.answer(origin, origin.refuse(&routing.node, &refusal, None, 0));
    }

    /// Counts a malformed message without a return path.
    fn count_malformed(&mut self, routing: &mut Routing, error: &Malformed) -> usize {
        self.log_malformed(routing, error);
        1
    }

    /// Counts and logs a fault of the message that was read last.
    fn log_malformed(&mut self, routing: &mut Routing, error: &Malformed) {
        routing.count(Counter::Refused(Reason::Malformed));
        let peer = self.frames.first_mut();
        let id = peer.as_deref().map_or(&[][..], |routing_id| routing_id);
        if let Some(omitted) = self.limiter.allows(LogKind::MalformedMessage, id, now()) {
            log::warn!("malformed message from {}: {error}{omitted}", self.peers.of(peer));
        }
    }
}

fn refuse(routing: &mut Routing, origin: &Origin, refusal: &Refusal) {
    routing.count(Counter::Refused(refusal.reason));
    routing.answer(origin, origin.refuse(&routing.node, refusal, None, 0));
}
