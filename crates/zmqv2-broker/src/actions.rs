//! Does what the engine asks for.

use mio::Token;
use zmqv2_matchmaker::Registration;
use zmqv2_proto::control::DeadLetter;
use zmqv2_proto::{Kind, Node, TcpAddress};

use crate::control;
use crate::driver::{Broker, FIRST_LINK, now, unwatch, watch};
use crate::engine::{Action, Input};

impl Broker {
    /// Does all that the engine asks for.
    pub(crate) fn perform(&mut self) {
        let mut failed = None;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Deliver { worker, tag, ttl, delivery, load } => {
                    self.hot.add(Token(worker + FIRST_LINK));
                    // A worker that takes nothing has died, or is as good as dead: its credit says that it has room.
                    if let Some(Err(error)) =
                        self.links.get(worker).map(|link| link.send(load.deliver(tag, ttl, delivery)))
                    {
                        log::warn!("worker {worker} took no request, its server is dropped: {error}");
                        self.engine.handle(now(), Input::WorkerDown { worker });
                    }
                }
                Action::Answer { to, load, more } => self.send(to.door, to.answer(load, more)),
                Action::Refuse { to, refusal, server, more } => {
                    let node = self.settings.node.clone();
                    self.send(to.door, to.refuse_copy(&node, &refusal, server, more));
                }
                Action::Keep { to, pool, more } => {
                    let node = self.settings.node.clone();
                    self.send(to.door, to.keep(&node, pool, more));
                }
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
                    self.letters.add(letter, deliveries, why, &load.body, now());
                }
                // Its `Disconnect` follows.
                Action::Connect { instance, .. } if failed == Some(instance) => {}
                Action::Connect { worker, instance, index } => {
                    match self
                        .links
                        .open(worker, instance, index, |socket| watch(&self.poll, socket, Token(worker + FIRST_LINK)))
                    {
                        Ok(()) => self.hot.add(Token(worker + FIRST_LINK)),
                        Err(error) => {
                            failed = Some(instance);
                            // The server offers itself again and again.
                            if self.complaints.worth_a_line(instance.as_bytes(), now()) {
                                log::error!("cannot connect to worker {index} of server {instance}: {error}");
                            }
                            self.engine.handle(now(), Input::WorkerDown { worker });
                        }
                    }
                }
                Action::Disconnect { worker } => {
                    self.hot.remove(Token(worker + FIRST_LINK));
                    self.links.close(worker, |socket| unwatch(&self.poll, socket));
                }
                Action::Registered { to } => {
                    let body = control::write(&zmqv2_proto::control::Registered::new(self.settings.node.clone()));
                    self.reply(to, Kind::Registered, &body);
                }
                Action::Withdrawn { to, instance } => {
                    let body = control::write(&zmqv2_proto::control::Withdrawal::new(instance));
                    self.reply(to, Kind::Withdrawn, &body);
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

    /// The node as others reach it.
    fn node(&self) -> Node {
        let name = &self.settings.node;
        let address = TcpAddress::new(name.as_str(), self.address.port());
        let address = address.unwrap_or_else(|_| self.address.clone());
        Node::new(name.clone(), address).in_zone(self.settings.zone.clone())
    }
}
