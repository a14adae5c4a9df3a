//! The links to workers: one DEALER each, because a DEALER with one peer knows who died and never spreads blindly.

use std::path::PathBuf;

use zmqv2_proto::Address;
use zmqv2_proto::InstanceId;
use zmqv2_proto::control::worker_socket;
use zmqv2_proto::transport::{Connection, Role, Socket, Transport, TransportError};

use crate::engine::WorkerId;
use crate::error::BrokerError;
use crate::stale;

#[derive(Debug)]
struct Link {
    socket: Socket,
    path: PathBuf,
    bundles: bool,
    connected: bool,
    /// Something has come since its connection was looked at last.
    stirred: bool,
}

/// What [`Links::look`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing new.
    Nothing,
    /// A message has come meanwhile.
    Message,
    /// The connection came (true) or went.
    Connection(bool),
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

    /// Connects to a worker, or to workers that share a socket, and read bundles, in the background; `watch` puts the socket under the loop's eyes.
    pub(crate) fn open(
        &mut self,
        worker: WorkerId,
        instance: InstanceId,
        index: u16,
        shared: bool,
        watch: impl FnOnce(&Socket) -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let address = worker_socket(&self.dir, instance, index)?;
        let mut socket = self.transport.socket(Role::Dealer)?;
        socket.connect(&address)?;
        watch(&socket)?;
        let path = match address {
            Address::Ipc(path) => path,
            Address::Tcp(_) => PathBuf::new(),
        };
        if self.by_worker.len() <= worker {
            self.by_worker.resize_with(worker + 1, || None);
        }
        self.by_worker[worker] = Some(Link { socket, path, bundles: shared, connected: false, stirred: true });
        Ok(())
    }

    pub(crate) fn get(&self, worker: WorkerId) -> Option<&Socket> {
        self.by_worker.get(worker)?.as_ref().map(|link| &link.socket)
    }

    pub(crate) fn reads_bundles(&self, worker: WorkerId) -> bool {
        self.by_worker.get(worker).is_some_and(|link| link.as_ref().is_some_and(|link| link.bundles))
    }

    /// A descriptor of this link has given notice.
    pub(crate) fn stir(&mut self, worker: WorkerId) {
        if let Some(Some(link)) = self.by_worker.get_mut(worker) {
            link.stirred = true;
        }
    }

    /// What a link that had nothing to read has to tell; asked for before the loop sleeps. Without notice since the last
    /// time that is nothing, at no cost: a receive that finds nothing leaves no notice unheard.
    ///
    /// The question takes in what came since the last receive, and uses up its notice: an answer must be read now, or it
    /// stays until the next one comes.
    pub(crate) fn look(&mut self, worker: WorkerId) -> Result<Seen, TransportError> {
        let Some(Some(link)) = self.by_worker.get_mut(worker) else { return Ok(Seen::Nothing) };
        if !std::mem::take(&mut link.stirred) {
            return Ok(Seen::Nothing);
        }
        let state = link.socket.readiness()?;
        if state.readable {
            link.stirred = true;
            return Ok(Seen::Message);
        }
        let connected = state.connection == Connection::Up;
        let changed = std::mem::replace(&mut link.connected, connected) != connected;
        Ok(if changed { Seen::Connection(connected) } else { Seen::Nothing })
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
