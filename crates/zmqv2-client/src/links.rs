//! The DEALERs of the I/O thread: one per destination.

use std::collections::HashMap;
use std::time::Instant;

use zmqv2_proto::transport::{Role, Socket, Transport, TransportError};
use zmqv2_proto::{Address, NodeName, ServerName};

use crate::connections::IDLE_LIMIT;
use crate::outstanding::LinkId;

/// A socket that does not send is not connected, or has reached its high-water mark of 10,000 messages. libzmq takes
/// note of what has left in steps of half the mark, so with fewer messages than the other half it is not connected.
const CERTAINLY_BELOW_MARK: u64 = 5_000;

/// A destination.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: Socket,
    pub(crate) address: Address,
    connected: bool,
    pub(crate) suspected: bool,
    /// Whether it is to be visited before the next sleep.
    pub(crate) hot: bool,
    /// Server and node of the last answer.
    pub(crate) names: Option<(ServerName, NodeName)>,
    used: Instant,
    /// How many messages were sent, and the number of the latest that is known to have left: one that was answered. A
    /// pipe keeps the order, so those before it have left as well.
    sent: u64,
    left: u64,
}

/// What [`Link::look`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    Same,
    Lost,
}

impl Link {
    /// Counts a message that the socket has taken; its number.
    pub(crate) fn count_send(&mut self, now: Instant) -> u64 {
        self.used = now;
        self.sent += 1;
        self.sent
    }

    /// An answer to send `number` has come.
    pub(crate) fn count_answer(&mut self, number: u64) {
        self.left = self.left.max(number);
    }

    /// Takes note of whether the socket would send, when there is nothing to read.
    pub(crate) fn look(&mut self, writable: bool) -> Connection {
        if writable {
            self.connected = true;
        } else if self.connected && self.sent - self.left <= CERTAINLY_BELOW_MARK {
            self.connected = false;
            // What was in the pipe is gone with it.
            self.left = self.sent;
            return Connection::Lost;
        }
        Connection::Same
    }
}

/// All of them, by number and by address.
#[derive(Debug)]
pub(crate) struct Links {
    transport: Transport,
    capacity: usize,
    by_address: HashMap<Address, LinkId>,
    links: Vec<Option<Link>>,
}

impl Links {
    pub(crate) fn new(transport: Transport, capacity: usize) -> Self {
        Self { transport, capacity, by_address: HashMap::new(), links: Vec::new() }
    }

    pub(crate) fn find(&self, address: &Address) -> Option<LinkId> {
        self.by_address.get(address).copied()
    }

    pub(crate) fn get(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(id)?.as_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Starts to connect to a new destination.
    pub(crate) fn open(&mut self, address: &Address, now: Instant) -> Result<LinkId, TransportError> {
        let mut socket = self.transport.socket(Role::Link)?;
        socket.connect(address)?;
        let link = Link {
            socket,
            address: address.clone(),
            connected: false,
            suspected: false,
            hot: false,
            names: None,
            used: now,
            sent: 0,
            left: 0,
        };
        let id = self.links.iter().position(Option::is_none).unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        self.links[id] = Some(link);
        self.by_address.insert(address.clone(), id);
        Ok(id)
    }

    pub(crate) fn close(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.get_mut(id)?.take()?;
        self.by_address.remove(&link.address);
        Some(link)
    }

    /// The links to close, of those that nothing is outstanding on: unused for long, or, with `room` to be left below
    /// the capacity, unused for longest.
    pub(crate) fn surplus(&self, room: usize, now: Instant, is_idle: impl Fn(LinkId) -> bool) -> Vec<LinkId> {
        let all = self.links.iter().enumerate();
        let idle = all.filter_map(|(id, link)| Some((link.as_ref()?.used, id))).filter(|(_, id)| is_idle(*id));
        let mut idle: Vec<(Instant, LinkId)> = idle.collect();
        idle.sort_unstable();
        let excess = (self.by_address.len() + room).saturating_sub(self.capacity);
        let old = idle.iter().take_while(|(used, _)| now.saturating_duration_since(*used) >= IDLE_LIMIT).count();
        idle.truncate(excess.max(old));
        idle.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether one more is above the capacity.
    pub(crate) fn is_full(&self) -> bool {
        self.by_address.len() >= self.capacity
    }
}
