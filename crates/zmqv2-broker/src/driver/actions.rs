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
use crate::message::payload::Load;

impl Broker {
    /// Does all that the engine asks for.
    pub(crate) fn perform(&mut self) {
        let mut failed = None;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Deliver { worker, tag, ttl, delivery, load } => {
                    let bundles = self.links.reads_bundles(worker);
                    self.post(
                        &To::Worker(worker),
                        load.deliver(tag, ttl, delivery, Ttl::monotonic_millis_at(self.looked)),
                        bundles,
                    );
                }
                Action::Answer { to, load, more } => self.answer(&to, to.answer(load, more)),
                Action::Refuse { to, refusal, server, more } => {
                    self.answer(&to, to.refuse_copy(&self.settings.node, &refusal, server, more));
                }
                Action::Keep { to, pool, more } => self.answer(&to, to.keep(&self.settings.node, pool, more)),
                Action::Store { tag, number, pool, ttl, load } => {
                    if let Some(archive) = &mut self.archive {
                        archive.put(tag, number, pool, ttl, &load);
                    }
                }
                Action::Erase { number } => drop(self.archive.as_ref().inspect(|archive| archive.erase(number))),
                Action::Bury { number, key, pool, id, deliveries, why, load } => {
                    if let (Some(archive), Some(number)) = (&self.archive, number) {
                        archive.bury(number, why.clone(), deliveries);
                    }
                    // One line for many: the status report has the last of them.
                    if self.complaints.worth_a_line(key.as_str().as_bytes(), now()) {
                        log::warn!("notification {id} of {key} is a dead letter: {why}");
                    }
                    let letter = DeadLetter::new(key, pool, id);
                    self.letters.add(letter, deliveries, why, load.body(), now());
                }
                // Its `Disconnect` follows.
                Action::Connect { instance, .. } if failed == Some(instance) => {}
                Action::Connect { worker, instance, index, shared } => {
                    let watch = |socket: &_| watch(&self.poll, socket, Token(worker + FIRST_LINK));
                    match self.links.open(worker, instance, index, shared, watch) {
                        Ok(()) => self.hot.add(Token(worker + FIRST_LINK)),
                        Err(error) => {
                            failed = Some(instance);
                            // The server offers itself again and again.
                            if self.complaints.worth_a_line(instance.as_bytes(), now()) {
                                log::error!("cannot connect to worker {index} of server {instance}: {error}");
                            }
                            self.looked = now();
                            self.engine.handle(self.looked, Input::WorkerDown { worker });
                        }
                    }
                }
                Action::Disconnect { worker } => {
                    self.hot.remove(Token(worker + FIRST_LINK));
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
    pub(crate) fn answer(&mut self, to: &Origin, load: Load) {
        self.post(&To::Peer(to.door, to.path.clone()), load, to.bundles);
    }

    /// A message leaves, with others for the same peer if that reads bundles.
    fn post(&mut self, to: &To, load: Load, bundles: bool) {
        if bundles && Bundle::takes(load.body().len()) {
            if let Some(full) = self.outbox.add(to, load) {
                self.send_batch(full);
            }
            return;
        }
        // Behind what waits for the same peer.
        if let Some(before) = self.outbox.take(to) {
            self.send_batch(before);
        }
        self.send(to, load.into_frames().into_iter(), 1);
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
                self.hot.add(Token(worker + FIRST_LINK));
                let sent = self.links.get(*worker).map(|link| link.send([Frame::new()].into_iter().chain(frames)));
                // A worker that takes nothing has died, or is as good as dead: its credit says that it has room.
                if let Some(Err(error)) = sent {
                    log::warn!("worker {worker} took no request, its server is dropped: {error}");
                    self.looked = now();
                    self.engine.handle(self.looked, Input::WorkerDown { worker: *worker });
                }
            }
            To::Peer(door, path) => {
                self.hot.add(door.token());
                self.spoke_at = now();
                if let Err(error) = self.door(*door).send(path.frames().chain(frames)) {
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
