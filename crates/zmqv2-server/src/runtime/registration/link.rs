//! The connection to the broker.

use std::time::{Duration, Instant};

use zmqv2_proto::Address;
use zmqv2_proto::transport::{Connection, Role, Socket, Transport, TransportError};

use crate::runtime::now;

/// The pause between the loss of a connection and the next one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that is replaced whenever its connection is lost.
pub(crate) struct BrokerLink {
    transport: Transport,
    address: Address,
    pub(super) socket: Socket,
    /// A new socket connects at this time.
    pub(super) connect_at: Option<Instant>,
}

impl BrokerLink {
    pub(crate) fn open(transport: Transport, address: Address) -> Result<Self, TransportError> {
        let mut socket = transport.socket(Role::Dealer)?;
        socket.connect(&address)?;
        Ok(Self { transport, address, socket, connect_at: None })
    }

    /// Replaces the socket if its connection is lost. Returns whether there is something to read,
    /// and whether the socket is connected.
    pub(super) fn check(&mut self) -> Result<(bool, bool), TransportError> {
        let state = self.socket.readiness()?;
        if state.connection == Connection::Lost {
            self.socket = self.transport.socket(Role::Dealer)?;
            self.connect_at = Some(now() + RECONNECT_PAUSE);
        }
        if self.connect_at.take_if(|at| *at <= now()).is_some() {
            self.socket.connect(&self.address)?;
        }
        Ok((state.readable, state.connection == Connection::Up))
    }
}
