//! The connection to the broker.

use std::time::{Duration, Instant};

use zmqv2_proto::Address;
use zmqv2_proto::transport::{Connection, Role, Socket, Transport, TransportError, check_local};

use crate::runtime::now;

/// The pause between the loss of a connection and the next one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// The pause before another attempt to open a socket.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A socket that is replaced whenever its connection is lost.
pub(crate) struct BrokerLink {
    transport: Transport,
    address: Address,
    pub(super) socket: Socket,
    /// A new socket connects at this time, or a lost one is replaced.
    pub(super) connect_at: Option<Instant>,
    /// The last attempt to open a socket failed.
    fails: bool,
}

impl BrokerLink {
    pub(crate) fn open(transport: Transport, address: Address) -> Result<Self, TransportError> {
        let mut socket = transport.socket(Role::Dealer)?;
        socket.connect(&address)?;
        if let Err(cause) = check_local(&address) {
            // A broker that starts later does not help, so this is said at once.
            log::warn!("cannot connect to the broker, trying again: {}", cause.explain(&address));
        }
        Ok(Self { transport, address, socket, connect_at: None, fails: false })
    }

    /// Replaces the socket if its connection is lost. Returns whether there is something to read,
    /// and whether the socket is connected. Without descriptors for a new socket, it tries again
    /// later.
    pub(super) fn check(&mut self) -> Result<(bool, bool), TransportError> {
        let state = self.socket.readiness()?;
        let due = self.connect_at.is_none_or(|at| at <= now());
        if state.connection == Connection::Lost && due {
            match self.transport.socket(Role::Dealer) {
                Ok(socket) => {
                    (self.socket, self.fails) = (socket, false);
                    self.connect_at = Some(now() + RECONNECT_PAUSE);
                }
                Err(error) => self.try_later(&error),
            }
        } else if self.connect_at.is_some() && due {
            self.connect_at = None;
            if let Err(error) = self.socket.connect(&self.address) {
                self.try_later(&error);
            }
        }
        Ok((state.readable, state.connection == Connection::Up))
    }

    fn try_later(&mut self, error: &TransportError) {
        if !std::mem::replace(&mut self.fails, true) {
            log::warn!("cannot connect to the broker, trying again: {error}");
        }
        self.connect_at = Some(now() + RETRY_PAUSE);
    }
}
