//! Carries out the actions of the engine.

use std::time::Instant;

use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::control::{DeadLetter, Registered, StatusReport, Withdrawal};
use zmqv2_proto::transport::{Frame, RefusedConnections, open_file_limit, refused_connections};
use zmqv2_proto::{Header, HeaderView, Kind, NodeName, Reason, Refusal, Ttl};

use super::log_limiter::{LogKind, LogLimiter};
use super::opening::{Opening, OpeningLinks};
use super::outbox::{Batch, Destination, Outbox};
use super::registrants::Registrants;
use super::sockets::Sockets;
use super::unread::UnreadAnswers;
use crate::directory::registrar::Registrar;
use crate::engine::{Action, Counter, Engine, Input, Limits, WorkerId};
use crate::log_queue;
use crate::message::control_request::write;
use crate::message::framing::Malformed;
use crate::message::origin::Origin;
use crate::message::payload::Payload;
use crate::store::dead_letters::DeadLetters;
use crate::store::writer::StoreWriter;
use crate::threads::now;

/// With this many messages in the outbox, they leave before another socket is read.
const MAX_GATHERED: usize = 256;

/// The engine with everything that carries out its actions. When [`handle`](Self::handle) returns,
/// all actions that follow from the input are done, except that messages may be in the outbox.
pub(super) struct Routing {
    engine: Engine<Origin, Payload>,
    /// The last reading of the clock: one for all messages of a bundle.
    now: Instant,
    pub(super) sockets: Sockets,
    outbox: Outbox,
    opening: OpeningLinks,
    pub(super) node: NodeName,
    /// The largest body that this broker takes.
    max_message_bytes: usize,
    pub(super) registrants: Registrants,
    registrar: Registrar,
    pub(super) store: StoreWriter,
    pub(super) dead_letters: DeadLetters,
    limiter: LogLimiter,
    unread: UnreadAnswers,
    /// The number of refused connections in the last line about them.
    refused_logged: u64,
    /// When the engine had nothing in flight after [`Input::Drain`].
    pub(super) drained_at: Option<Instant>,
    pub(super) last_answer_at: Instant,
}

impl Routing {
    pub(super) fn new(
        limits: Limits,
        sockets: Sockets,
        unread: UnreadAnswers,
        node: NodeName,
        max_message_bytes: usize,
        registrar: Registrar,
        store: StoreWriter,
    ) -> Self {
        let now = now();
        Self {
            engine: Engine::new(limits),
            now,
            sockets,
            outbox: Outbox::default(),
            opening: OpeningLinks::default(),
            node,
            max_message_bytes,
            registrants: Registrants::default(),
            registrar,
            store,
            dead_letters: DeadLetters::default(),
            limiter: LogLimiter::default(),
            unread,
            refused_logged: 0,
            drained_at: None,
            last_answer_at: now,
        }
    }

    pub(super) fn engine(&self) -> &Engine<Origin, Payload> {
        &self.engine
    }

    pub(super) fn read_clock(&mut self) -> Instant {
        self.now = now();
        self.now
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Handles an input at the last reading of the clock.
    pub(super) fn handle(&mut self, input: Input<'_, Origin, Payload>) {
        self.engine.handle(self.now, input);
        self.perform();
    }

    pub(super) fn handle_now(&mut self, input: Input<'_, Origin, Payload>) {
        self.read_clock();
        self.handle(input);
    }

    pub(super) fn expire_due(&mut self) {
        let now = now();
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.now = now;
            self.engine.expire(now);
            self.perform();
        }
    }

    pub(super) fn count(&mut self, counter: Counter) {
        self.engine.count(counter);
    }

    /// Drops the server of a worker that broke the protocol: its credit cannot be trusted any more.
    /// The server may register again.
    pub(super) fn drop_worker(&mut self, worker: WorkerId, error: &Malformed) {
        self.count(Counter::Refused(Reason::Malformed));
        // Numbers of workers are used again.
        let server = self.sockets.links.instance(worker).map_or([0; 16], |instance| *instance.as_bytes());
        if let Some(omitted) = self.limiter.allows(LogKind::MalformedAnswer, &server, now()) {
            log::error!("worker {worker} sent a malformed answer, its server is dropped: {error}{omitted}");
        }
        self.handle_now(Input::WorkerDown { worker });
    }

    pub(super) fn take_store_results(&mut self) {
        for (tag, result) in self.store.results() {
            self.handle_now(Input::StoreResult { tag, result });
        }
    }

    /// Logs connections that were refused. The thread that refuses them belongs to libzmq.
    pub(super) fn log_refused_connections(&mut self) {
        let refused = refused_so_far();
        if refused > self.refused_logged
            && let Some(_once) = self.limiter.allows(LogKind::ConnectionRefused, &[], now())
        {
            let (count, limit) = (refused - self.refused_logged, open_file_limit());
            log::error!(
                "{count} connections were refused: this broker has nearly used up the {limit} files that it may open"
            );
            self.refused_logged = refused;
        }
    }

    pub(super) fn start_numbers_at(&mut self, number: u64) {
        self.engine.start_numbers_at(number);
    }

    pub(super) fn report(&self, into: &mut StatusReport) {
        self.engine.report(into);
        let outside =
            [(Counter::LogLinesDropped, log_queue::dropped()), (Counter::ConnectionsRefused, refused_so_far())];
        into.counters.extend(outside.map(|(counter, count)| (counter.name().to_owned(), count)));
        into.directory = Some(self.registrar.status());
        self.store.name().clone_into(&mut into.store);
        into.dead_letters = self.dead_letters.report(now());
    }

    fn perform(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Deliver { worker, tag, payload, .. }
                    if payload.body().len() > self.sockets.links.max_message_bytes(worker) =>
                {
                    self.refuse_for_worker(worker, tag, &payload);
                }
                Action::Deliver { worker, tag, ttl, delivery, payload } => {
                    let bundles = self.sockets.links.reads_bundles(worker);
                    let payload = payload.deliver(tag, ttl, delivery, Ttl::monotonic_millis_at(self.now));
                    self.post(&Destination::Worker(worker), payload, bundles);
                }
                Action::Cancel { worker, tag, id } => {
                    let mut header = Header::new(Kind::Cancel, id);
                    header.tag = tag;
                    let bundles = self.sockets.links.reads_bundles(worker);
                    self.post(&Destination::Worker(worker), Payload::copied(&header.encode(), &[]), bundles);
                }
                Action::Answer { to, payload, remaining } => match to.refusal_of_size(payload.body().len()) {
                    None => self.answer(&to, to.answer(payload, remaining)),
                    Some(refusal) => {
                        self.engine.count(Counter::Refused(refusal.reason));
                        self.answer(&to, to.refuse(&self.node, &refusal, None, remaining));
                    }
                },
                Action::Refuse { to, refusal, server, remaining } => {
                    self.answer(&to, to.refuse(&self.node, &refusal, server, remaining));
                }
                Action::ConfirmStored { to, pool, remaining } => {
                    self.answer(&to, to.confirm_stored(&self.node, pool, remaining));
                }
                Action::Store { tag, number, pool, ttl, payload } => self.store.put(tag, number, pool, ttl, &payload),
                Action::Erase { number } => self.store.erase(number),
                Action::DeadLetter { number, key, pool, id, deliveries, why, payload } => {
                    if let Some(number) = number {
                        self.store.move_to_dead_letters(number, why.clone(), deliveries);
                    }
                    // One line for many: the status report shows the last dead letters.
                    if let Some(omitted) = self.limiter.allows(LogKind::DeadLetter, key.as_str().as_bytes(), now()) {
                        log::warn!("notification {id} of {key} is a dead letter: {why}{omitted}");
                    }
                    let mut letter = DeadLetter::new(key, pool, id);
                    (letter.deliveries, letter.why) = (deliveries.into(), why);
                    self.dead_letters.add(letter, payload.body(), now());
                }
                Action::Connect { worker, instance, index, shared } => {
                    self.opening.add(Opening { worker, instance, index, shared });
                }
                Action::Disconnect { worker } => {
                    drop(self.outbox.take(&Destination::Worker(worker)));
                    if !self.opening.cancel(worker) {
                        self.sockets.links.retire(worker);
                    }
                }
                Action::Registered { to } => {
                    self.reply(
                        &to,
                        Kind::Registered,
                        &write(&Registered::new(self.node.clone(), self.max_message_bytes)),
                    );
                }
                Action::Withdrawn { to, instance } => {
                    self.reply(&to, Kind::Withdrawn, &write(&Withdrawal::new(instance)));
                }
                Action::Announce { key, server } => self.registrar.announce(key, server),
                Action::Unannounce { key, server } => self.registrar.withdraw(key, server),
                Action::Drained => self.drained_at = Some(now()),
            }
        }
    }

    /// Whether links are to be opened or closed, so that the loop must not sleep.
    pub(super) fn has_link_work(&self) -> bool {
        !self.opening.is_empty() || self.sockets.links.has_retired()
    }

    /// Opens and closes a few links.
    pub(super) fn do_link_work(&mut self) {
        for opened in 0.. {
            let Some(Opening { worker, instance, index, shared }) = self.opening.next_in_turn(opened) else { break };
            let largest = self.registrants.max_message_bytes(instance);
            if let Err(error) = self.sockets.open_link(worker, instance, index, shared, largest) {
                // Such a server registers again and again.
                if let Some(omitted) = self.limiter.allows(LogKind::CannotConnect, instance.as_bytes(), now()) {
                    log::error!("cannot connect to worker {index} of server {instance}: {error}{omitted}");
                }
                // The engine removes the whole server.
                self.lose_worker(worker);
                self.perform();
            }
        }
        self.sockets.close_retired_links();
    }

    /// Refuses a request in the place of a worker that would not take it: the connection to the
    /// worker would break.
    fn refuse_for_worker(&mut self, worker: WorkerId, tag: u64, request: &Payload) {
        let (size, limit) = (request.body().len(), self.sockets.links.max_message_bytes(worker));
        let detail = format!(
            "the body has {size} bytes, the limit of the server is {limit} (rpc_zmq_max_message_bytes of the server)"
        );
        let Ok(view) = HeaderView::new(request.header()) else { return self.lose_worker(worker) };
        let mut header = Header::new(Kind::Refusal, view.id());
        (header.reason, header.node) = (Some(Reason::TooLarge), Some(self.node.clone()));
        let payload = Payload::copied(&header.encode(), detail.as_bytes());
        let refused = Some(Reason::TooLarge);
        self.engine.handle(self.now, Input::Reply { worker, tag, credit: 1, refused, payload });
    }

    /// The connection to a worker broke. If its server lives, it learns that, and registers again at
    /// once.
    pub(super) fn link_broke(&mut self, worker: WorkerId) {
        let instance = self.sockets.links.instance(worker);
        self.handle_now(Input::WorkerDown { worker });
        let Some(origin) = instance.and_then(|instance| self.registrants.remove(instance)) else { return };
        let detail = "the connection to a worker of this server broke; the server must register again";
        let refusal = Refusal::new(Reason::ServerLost, detail);
        let frames = origin.refuse(&self.node, &refusal, None, 0).into_frames();
        // Most often the server has ended, and then nobody is there.
        let to = Destination::Peer(origin.ingress, origin.path);
        if let Err(error) = self.sockets.send(&to, frames.into_iter(), None) {
            log::debug!("the server of worker {worker} has ended: {error}");
        }
    }

    /// Tells the engine of a lost worker. `perform` carries out the new actions.
    fn lose_worker(&mut self, worker: WorkerId) {
        let now = self.read_clock();
        self.engine.handle(now, Input::WorkerDown { worker });
    }

    pub(super) fn reply(&mut self, origin: &Origin, kind: Kind, body: &[u8]) {
        self.answer(origin, origin.reply(kind, &self.node, body));
    }

    /// Sends an answer, in a bundle with others if its receiver reads bundles. From its time the
    /// receiver learns the clock of this node.
    pub(super) fn answer(&mut self, to: &Origin, payload: Payload) {
        let mut payload = self.fit_answer(to, payload);
        Header::stamp_delivered(payload.header_mut(), Ttl::monotonic_millis_at(self.now));
        self.post(&Destination::Peer(to.ingress, to.path.clone()), payload, to.bundles);
    }

    /// An answer that is too large for the room that is left becomes a refusal, which is small.
    fn fit_answer(&mut self, to: &Origin, payload: Payload) -> Payload {
        let (peer, size) = (to.path.peer(), payload.size());
        if Bundle::takes(payload.body().len()) || self.unread.has_room(to.ingress, peer, size) {
            return payload;
        }
        let unread = self.unread.describe(to.ingress, peer);
        let detail = format!("the request has run, and its answer of {size} bytes was dropped: {unread}");
        self.count(Counter::Undeliverable);
        self.note_unread(to.path.peer(), &unread);
        let remaining = HeaderView::new(payload.header()).map_or(0, |view| view.count());
        to.refuse(&self.node, &Refusal::new(Reason::TooLarge, detail), None, remaining)
    }

    /// Why a peer may not ask for more answers now.
    pub(super) fn why_behind(&mut self, origin: &Origin) -> Option<Refusal> {
        let peer = origin.path.peer();
        if !self.unread.is_behind(origin.ingress, peer) {
            return None;
        }
        let unread = self.unread.describe(origin.ingress, peer);
        self.note_unread(peer, &unread);
        Some(Refusal::new(Reason::Busy, unread))
    }

    fn note_unread(&mut self, peer: &[u8], unread: &str) {
        if let Some(omitted) = self.limiter.allows(LogKind::UnreadAnswers, peer, now()) {
            log::warn!("a client does not read its answers, so some are dropped or refused: {unread}{omitted}");
        }
    }

    fn post(&mut self, to: &Destination, payload: Payload, bundles: bool) {
        if bundles && Bundle::takes(payload.body().len()) {
            if let Some(full) = self.outbox.add(to, payload) {
                self.send_batch(full);
            }
            return;
        }
        // Earlier messages for the same peer leave first.
        if let Some(before) = self.outbox.take(to) {
            self.send_batch(before);
        }
        let size = payload.size();
        self.send(to, payload.into_frames().into_iter(), size, 1);
    }

    pub(super) fn flush(&mut self) {
        while let Some(batch) = self.outbox.next() {
            self.send_batch(batch);
            self.perform();
        }
    }

    pub(super) fn flush_if_full(&mut self) {
        if self.outbox.len() >= MAX_GATHERED {
            self.flush();
        }
    }

    fn send_batch(&mut self, mut batch: Batch) {
        let (messages, size, frames) = (batch.len(), batch.size(), batch.frames());
        self.send(&batch.to, frames, size, messages);
        self.outbox.recycle(batch);
    }

    /// Sends the frames of some messages with `size` bytes. If a worker takes none, the engine drops its server.
    fn send(&mut self, to: &Destination, frames: impl Iterator<Item = Frame>, size: usize, messages: usize) {
        let mut reservation = None;
        if let Destination::Peer(ingress, path) = to {
            self.last_answer_at = now();
            reservation = self.unread.reserve(*ingress, path.peer(), size);
            if reservation.is_none() {
                (0..messages).for_each(|_| self.engine.count(Counter::Undeliverable));
                let unread = self.unread.describe(*ingress, path.peer());
                return self.note_unread(path.peer(), &unread);
            }
        }
        let Err(error) = self.sockets.send(to, frames, reservation) else { return };
        match to {
            // The worker had credit, so it must be dead or stuck.
            Destination::Worker(worker) => {
                let server = self.sockets.links.instance(*worker).map_or([0; 16], |instance| *instance.as_bytes());
                if let Some(omitted) = self.limiter.allows(LogKind::WorkerStuck, &server, now()) {
                    log::warn!("worker {worker} took no request, its server is dropped: {error}{omitted}");
                }
                self.lose_worker(*worker);
            }
            Destination::Peer(..) => {
                (0..messages).for_each(|_| self.engine.count(Counter::Undeliverable));
                log::debug!("cannot send {messages} answers: {error}");
            }
        }
    }
}

/// How many connections this process has refused.
fn refused_so_far() -> u64 {
    let RefusedConnections { network, local } = refused_connections();
    network + local
}
