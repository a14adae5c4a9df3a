//! The links to workers: one DEALER each, because a DEALER with one peer knows who died and never spreads blindly.

use std::path::PathBuf;

use zmqv2_proto::InstanceId;
use zmqv2_proto::control::worker_socket;
use zmqv2_proto::transport::{Role, Socket, Transport, TransportError};
use zmqv2_proto::{Address, transport};

use crate::engine::WorkerId;
use crate::error::BrokerError;
use crate::stale;

#[derive(Debug)]
struct Link {
    socket: Socket,
    path: PathBuf,
    connected: bool,
}

/// Links by worker.
#[derive(Debug)]
pub(crate) struct Links {
    transport: Transport,
    dir: PathBuf,
    by_worker: Vec<Option<Link>>,
}

impl Links {
    pub(crate) fn new(transport: Transport, dir: PathBuf) -> Self {
        Self { transport, dir, by_worker: Vec::new() }
    }

    /// Connects to a worker in the background; `watch` puts the socket under the loop's eyes.
    pub(crate) fn open(
        &mut self,
        worker: WorkerId,
        instance: InstanceId,
        index: u16,
        watch: impl FnOnce(&Socket) -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let address = worker_socket(&self.dir, instance, index)?;
        let mut socket = self.transport.socket(Role::Link)?;
        socket.connect(&address)?;
        watch(&socket)?;
        let path = match address {
            Address::Ipc(path) => path,
            Address::Tcp(_) => PathBuf::new(),
        };
        if self.by_worker.len() <= worker {
            self.by_worker.resize_with(worker + 1, || None);
        }
        self.by_worker[worker] = Some(Link { socket, path, connected: false });
        Ok(())
    }

    pub(crate) fn get(&self, worker: WorkerId) -> Option<&Socket> {
        self.by_worker.get(worker)?.as_ref().map(|link| &link.socket)
    }

    /// Whether the link's connection came or went since the last question; `Some(connected)` if so.
    ///
    /// A link sends only while connected and never has more in its pipe than its worker's window, which is far below
    /// the high-water mark. So "cannot send" means "not connected".
    pub(crate) fn connection_changed(&mut self, worker: WorkerId) -> Result<Option<bool>, TransportError> {
        let Some(Some(link)) = self.by_worker.get_mut(worker) else { return Ok(None) };
        let transport::Readiness { writable, .. } = link.socket.readiness()?;
        let changed = std::mem::replace(&mut link.connected, writable) != writable;
        Ok(changed.then_some(writable))
    }

    /// Closes a link, and removes the socket file that a killed server leaves behind.
    pub(crate) fn close(&mut self, worker: WorkerId, unwatch: impl FnOnce(&Socket)) {
        if let Some(link) = self.by_worker.get_mut(worker).and_then(Option::take) {
            unwatch(&link.socket);
            drop(link.socket);
            stale::remove(&link.path);
        }
    }
}
