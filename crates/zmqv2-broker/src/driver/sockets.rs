//! All sockets of the broker, and the list of those to be read.

use std::io;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use zmqv2_proto::control::broker_socket;
use zmqv2_proto::transport::{Frame, Role, Socket, SocketSendError, Transport};
use zmqv2_proto::{Address, InstanceId, TcpAddress};

use super::links::Links;
use super::outbox::Destination;
use super::ready_list::{ReadyList, Source};
use super::unread::Reservation;
use crate::engine::WorkerId;
use crate::error::BrokerError;
use crate::message::origin::Ingress;
use crate::settings::Settings;

#[derive(Debug)]
pub(super) struct Sockets {
    network: Socket,
    local: Socket,
    pub(super) links: Links,
    poll: Poll,
    pub(super) ready: ReadyList,
}

impl Sockets {
    /// Binds both sockets. Also returns the TCP address, with the chosen port.
    pub(super) fn bind(settings: &Settings, poll: Poll) -> Result<(Self, TcpAddress), BrokerError> {
        let transport = Transport::new(settings.transport.clone());
        let mut local = transport.socket(Role::Router)?;
        local.report_ended_connections()?;
        local.bind(&broker_socket(&settings.ipc_dir)?)?;
        let mut network = transport.socket(Role::Router)?;
        network.report_ended_connections()?;
        let bound = network.bind(&Address::Tcp(settings.bind.clone()));
        let address = match bound.map_err(|source| BrokerError::Bind { source })? {
            Address::Tcp(address) => address,
            Address::Ipc(_) => settings.bind.clone(),
        };
        let links = Links::new(transport, settings.ipc_dir.clone())?;
        let mut sockets = Self { network, local, links, poll, ready: ReadyList::default() };
        for ingress in [Ingress::Network, Ingress::Local] {
            let source = Source::Ingress(ingress);
            watch(&sockets.poll, sockets.ingress(ingress), source)?;
            sockets.ready.add(source);
        }
        Ok((sockets, address))
    }

    pub(super) fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.poll.poll(events, timeout)
    }

    pub(super) fn take_ready(&mut self, events: &Events) -> Vec<Source> {
        for event in events {
            let source = event.token().into();
            self.ready.add(source);
            if let Source::Link(worker) = source {
                self.links.mark_notified(worker);
            }
        }
        self.ready.take()
    }

    /// Sends a message or a bundle, with the reservation of an answer. Also lists the socket, because a send can consume its event.
    pub(super) fn send(
        &mut self,
        to: &Destination,
        frames: impl Iterator<Item = Frame>,
        reservation: Option<Reservation>,
    ) -> Result<(), SocketSendError> {
        match to {
            Destination::Worker(worker) => {
                self.ready.add(Source::Link(*worker));
                let send = |link: &Socket| link.send([Frame::new()].into_iter().chain(frames));
                self.links.get(*worker).map_or(Ok(()), send)
            }
            Destination::Peer(ingress, path) => {
                self.ready.add(Source::Ingress(*ingress));
                let socket = match ingress {
                    Ingress::Network => &mut self.network,
                    Ingress::Local => &mut self.local,
                };
                socket.send_guarded(path.frames().chain(frames), reservation)
            }
        }
    }

    pub(super) fn open_link(
        &mut self,
        worker: WorkerId,
        instance: InstanceId,
        index: u16,
        shared: bool,
    ) -> Result<(), BrokerError> {
        let source = Source::Link(worker);
        let socket = self.links.open(worker, instance, index, shared)?;
        watch(&self.poll, socket, source)?;
        self.ready.add(source);
        Ok(())
    }

    /// Closes a few links that are no longer used. Until then an event of such a link may come, and
    /// lists a number that has no link, or another one. Both are harmless.
    pub(super) fn close_retired_links(&mut self) {
        let registry = self.poll.registry();
        self.links.close_retired(|socket| {
            for fd in socket.fds() {
                // The descriptor is closed next, which removes it from epoll as well.
                drop(registry.deregister(&mut SourceFd(&fd)));
            }
        });
    }

    pub(super) fn ingress(&self, ingress: Ingress) -> &Socket {
        match ingress {
            Ingress::Network => &self.network,
            Ingress::Local => &self.local,
        }
    }
}

fn watch(poll: &Poll, socket: &Socket, source: Source) -> Result<(), BrokerError> {
    let watched =
        socket.fds().try_for_each(|fd| poll.registry().register(&mut SourceFd(&fd), source.into(), Interest::READABLE));
    watched.map_err(BrokerError::Events)
}
