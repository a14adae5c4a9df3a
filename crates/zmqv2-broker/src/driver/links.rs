//! One DEALER socket for each worker. With one peer per socket, the broker learns which worker
//! died, and no message goes to another worker.

use std::collections::VecDeque;
use std::path::PathBuf;

use zmqv2_proto::control::worker_socket;
use zmqv2_proto::transport::{Connection, Role, Socket, Transport, TransportError};
use zmqv2_proto::{Address, InstanceId};

use super::opening::LINKS_PER_TURN;
use crate::engine::WorkerId;
use crate::error::BrokerError;
use crate::startup::socket_sweeper::SocketSweeper;

#[derive(Debug)]
struct Link {
    socket: Socket,
    address: Address,
    instance: InstanceId,
    bundles: bool,
    /// The largest body that the worker takes.
    max_message_bytes: usize,
    connected: bool,
    /// An event has come since the last check.
    notified: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkChange {
    Nothing,
    Message,
    Connected,
    Disconnected,
}

#[derive(Debug)]
pub(super) struct Links {
    transport: Transport,
    dir: PathBuf,
    sweeper: SocketSweeper,
    by_worker: Vec<Option<Link>>,
    /// Links that are no longer used, to be closed a few at a time.
    retired: VecDeque<Link>,
}

impl Links {
    pub(super) fn new(transport: Transport, dir: PathBuf) -> Result<Self, BrokerError> {
        let sweeper = SocketSweeper::start(dir.clone()).map_err(BrokerError::Events)?;
        Ok(Self { transport, dir, sweeper, by_worker: Vec::new(), retired: VecDeque::new() })
    }

    /// Starts to connect to a worker, or to all workers behind a `shared` socket, which read
    /// bundles.
    pub(super) fn open(
        &mut self,
        worker: WorkerId,
        instance: InstanceId,
        index: u16,
        shared: bool,
        max_message_bytes: usize,
    ) -> Result<&Socket, BrokerError> {
        let address = worker_socket(&self.dir, instance, index)?;
        let mut socket = self.transport.socket(Role::Dealer)?;
        socket.connect(&address)?;
        if self.by_worker.len() <= worker {
            self.by_worker.resize_with(worker + 1, || None);
        }
        let link =
            Link { socket, address, instance, bundles: shared, max_message_bytes, connected: false, notified: true };
        Ok(&self.by_worker[worker].insert(link).socket)
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Socket> {
        self.by_worker.get(worker)?.as_ref().map(|link| &link.socket)
    }

    pub(super) fn instance(&self, worker: WorkerId) -> Option<InstanceId> {
        self.by_worker.get(worker)?.as_ref().map(|link| link.instance)
    }

    /// The largest body that a worker takes, as far as its server has said.
    pub(super) fn max_message_bytes(&self, worker: WorkerId) -> usize {
        self.by_worker.get(worker).and_then(Option::as_ref).map_or(usize::MAX, |link| link.max_message_bytes)
    }

    pub(super) fn reads_bundles(&self, worker: WorkerId) -> bool {
        self.by_worker.get(worker).is_some_and(|link| link.as_ref().is_some_and(|link| link.bundles))
    }

    pub(super) fn mark_notified(&mut self, worker: WorkerId) {
        if let Some(Some(link)) = self.by_worker.get_mut(worker) {
            link.notified = true;
        }
    }

    /// Checks a link that had nothing to read, before the loop sleeps. An empty receive has
    /// consumed all pending events. So without a new event nothing has changed, and the check costs
    /// nothing.
    ///
    /// The check consumes the event of a message that has arrived since the last receive. So after
    /// [`LinkChange::Message`] the caller must read, or the message waits for the next event.
    pub(super) fn check(&mut self, worker: WorkerId) -> Result<LinkChange, TransportError> {
        let Some(Some(link)) = self.by_worker.get_mut(worker) else { return Ok(LinkChange::Nothing) };
        if !std::mem::take(&mut link.notified) {
            return Ok(LinkChange::Nothing);
        }
        let state = link.socket.readiness()?;
        if state.readable {
            link.notified = true;
            return Ok(LinkChange::Message);
        }
        let connected = state.connection == Connection::Up;
        Ok(match (std::mem::replace(&mut link.connected, connected), connected) {
            (false, true) => LinkChange::Connected,
            (true, false) => LinkChange::Disconnected,
            _ => LinkChange::Nothing,
        })
    }

    /// Stops the use of a link. [`close_retired`](Self::close_retired) closes it.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        self.retired.extend(self.by_worker.get_mut(worker).and_then(Option::take));
    }

    pub(super) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Closes a few links, and has the socket files removed if their servers were killed.
    pub(super) fn close_retired(&mut self, unwatch: impl Fn(&Socket)) {
        let few = self.retired.len().min(LINKS_PER_TURN);
        for link in self.retired.drain(..few) {
            unwatch(&link.socket);
            drop(link.socket);
            if let Address::Ipc(path) = link.address {
                self.sweeper.link_closed(path);
            }
        }
    }
}
