//! Does what the engine asks for.

use mio::Token;
use zmqv2_matchmaker::Registration;
use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::control::DeadLetter;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Kind, Node, TcpAddress, Ttl};

use crate::driver::outbox::{Batch, To};
use crate::driver::{Broker, FIRST_LINK, now, unwatch, watch};
use crate::engine::{Action, Counter, Input};
use crate::message::control_request;
use crate::message::framing::Origin;
use crate::message::payload::Payload;

impl Broker {
    /// Does all that the engine asks for.
    pub(crate) fn perform(&mut self) {
        let mut failed = None;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Deliver { worker, tag, ttl, delivery, payload } => {
                    let bundles = self.links.reads_bundles(worker);
                    self.post(
                        &To::Worker(worker),
                        payload.deliver(tag, ttl, delivery, Ttl::monotonic_millis_at(self.looked)),
                        bundles,
                    );
                }
                Action::Answer { to, payload, remaining } => self.answer(&to, to.answer(payload, remaining)),
                Action::Refuse { to, refusal, server, remaining } => {
                    self.answer(&to, to.refuse_copy(&self.settings.node, &refusal, server, remaining));
                }
                Action::ConfirmStored { to, pool, remaining } => {
                    self.answer(&to, to.keep(&self.settings.node, pool, remaining))
                }
                Action::Store { tag, number, pool, ttl, payload } => {
                    if let Some(writer) = &mut self.writer {
                        writer.put(tag, number, pool, ttl, &payload);
                    }
                }
                Action::Erase { number } => drop(self.writer.as_ref().inspect(|writer| writer.erase(number))),
                Action::DeadLetter { number, key, pool, id, deliveries, why, payload } => {
                    if let (Some(writer), Some(number)) = (&self.writer, number) {
                        writer.bury(number, why.clone(), deliveries);
                    }
                    // One line for many: the status report has the last of them.
                    if self.limiter.allows(key.as_str().as_bytes(), now()) {
                        log::warn!("notification {id} of {key} is a dead letter: {why}");
                    }
                    let letter = DeadLetter::new(key, pool, id);
                    self.dead_letters.add(letter, deliveries, why, payload.body(), now());
                }
                // Its `Disconnect` follows.
                Action::Connect { instance, .. } if failed == Some(instance) => {}
                Action::Connect { worker, instance, index, shared } => {
                    let watch = |socket: &_| watch(&self.poll, socket, Token(worker + FIRST_LINK));
                    match self.links.open(worker, instance, index, shared, watch) {
                        Ok(()) => self.ready.add(Token(worker + FIRST_LINK)),
                        Err(error) => {
                            failed = Some(instance);
                            // The server offers itself again and again.
                            if self.limiter.allows(instance.as_bytes(), now()) {
                                log::error!("cannot connect to worker {index} of server {instance}: {error}");
                            }
                            self.looked = now();
                            self.engine.handle(self.looked, Input::WorkerDown { worker });
                        }
                    }
                }
                Action::Disconnect { worker } => {
                    self.ready.remove(Token(worker + FIRST_LINK));
                    drop(self.outbox.take(&To::Worker(worker)));
                    self.links.close(worker, |socket| unwatch(&self.poll, socket));
                }
                Action::Registered { to } => {
                    let body =
                        control_request::write(&zmqv2_proto::control::Registered::new(self.settings.node.clone()));
                    self.reply(&to, Kind::Registered, &body);
                }
                Action::Withdrawn { to, instance } => {
                    let body = control_request::write(&zmqv2_proto::control::Withdrawal::new(instance));
                    self.reply(&to, Kind::Withdrawn, &body);
                }
                Action::Announce { key, server } => {
                    log::info!("{server} serves {key}");
                    self.registrar.announce(Registration { key, server, node: self.node() });
                }
                Action::Unannounce { key, server } => {
                    log::info!("{server} no longer serves {key}");
                    self.registrar.withdraw(Registration { key, server, node: self.node() });
                }
                Action::Drained => self.drained_at = Some(now()),
            }
        }
    }

    /// An answer leaves, with others for the same sender.
    pub(crate) fn answer(&mut self, to: &Origin, payload: Payload) {
        self.post(&To::Peer(to.ingress, to.path.clone()), payload, to.bundles);
    }

    /// A message leaves, with others for the same peer if that reads bundles.
    fn post(&mut self, to: &To, payload: Payload, bundles: bool) {
        if bundles && Bundle::takes(payload.body().len()) {
            if let Some(full) = self.outbox.add(to, payload) {
                self.send_batch(full);
            }
            return;
        }
        // Behind what waits for the same peer.
        if let Some(before) = self.outbox.take(to) {
            self.send_batch(before);
        }
        self.send(to, payload.into_frames().into_iter(), 1);
    }

    /// All that waits leaves.
    pub(crate) fn flush(&mut self) {
        while let Some(batch) = self.outbox.next() {
            self.send_batch(batch);
            self.perform();
        }
    }

    fn send_batch(&mut self, mut batch: Batch) {
        let (messages, frames) = (batch.len(), batch.frames());
        self.send(&batch.to, frames, messages);
        self.outbox.recycle(batch);
    }

    /// Sends frames of so many messages. If it is a worker who does not take them, the engine has something to do.
    fn send(&mut self, to: &To, frames: impl Iterator<Item = Frame>, messages: usize) {
        match to {
            To::Worker(worker) => {
                self.ready.add(Token(worker + FIRST_LINK));
                let sent = self.links.get(*worker).map(|link| link.send([Frame::new()].into_iter().chain(frames)));
                // A worker that takes nothing has died, or is as good as dead: its credit says that it has room.
                if let Some(Err(error)) = sent {
                    log::warn!("worker {worker} took no request, its server is dropped: {error}");
                    self.looked = now();
                    self.engine.handle(self.looked, Input::WorkerDown { worker: *worker });
                }
            }
            To::Peer(ingress, path) => {
                self.ready.add(ingress.token());
                self.spoke_at = now();
                if let Err(error) = self.ingress(*ingress).send(path.frames().chain(frames)) {
                    (0..messages).for_each(|_| self.engine.count(Counter::Undeliverable));
                    log::debug!("{messages} answers were not taken: {error}");
                }
            }
        }
    }

    /// The node as others reach it.
    fn node(&self) -> Node {
        let name = &self.settings.node;
        let address = TcpAddress::new(name.as_str(), self.address.port());
        let address = address.unwrap_or_else(|_| self.address.clone());
        Node::new(name.clone(), address).in_zone(self.settings.zone.clone())
    }
}
