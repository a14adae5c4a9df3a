//! The links of the I/O thread: one DEALER per address.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::transport::{Observation, Role, Socket, Transport, TransportError, check_local};
use zmqv2_proto::{Address, NoConnection, NodeName, ServerName};

use crate::delivery::table::LinkId;
use crate::peers::Peer;
use crate::peers::hello::Greeting;

/// How long an idle socket is kept. It is closed at the next check after that.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: Socket,
    pub(crate) address: Address,
    /// Where the socket connects, or has connected: the address, with a number for a host name.
    pub(crate) connects_to: Option<Address>,
    /// Whether a thread resolves the host name.
    pub(crate) resolving: bool,
    /// Whether something will look why there is no connection.
    pub(crate) observed_later: bool,
    /// What looks, or has looked.
    pub(crate) observation: Option<Observation>,
    /// Why there was no connection, and when that was found.
    pub(crate) cause: Option<(Instant, NoConnection)>,
    /// What is known of the broker.
    pub(crate) peer: Arc<Peer>,
    /// Whether the broker was asked over this connection.
    pub(crate) greeting: Greeting,
    /// Whether the socket is new and connects after a pause.
    pub(crate) reconnects: bool,
    pub(crate) suspected: bool,
    /// Whether the link is visited before the next sleep.
    pub(crate) hot: bool,
    /// Whether the socket has had an event since its connection was checked last.
    pub(crate) notified: bool,
    /// Whether the socket could send when it was checked last.
    pub(crate) writable: bool,
    /// The names in the last answer.
    pub(crate) names: Option<(ServerName, NodeName)>,
    pub(crate) used: Instant,
}

/// The links by number and by address.
#[derive(Debug)]
pub(crate) struct Links {
    transport: Transport,
    capacity: usize,
    by_address: HashMap<Address, LinkId>,
    links: Vec<Option<Link>>,
}

impl Link {
    /// Whether nothing will connect it by itself.
    pub(crate) fn must_connect(&self) -> bool {
        self.connects_to.is_none() && !self.resolving && !self.reconnects
    }
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

    /// Opens a link, which does not connect yet. A local socket that cannot be used is an error.
    pub(crate) fn open(&mut self, address: &Address, peer: Arc<Peer>, now: Instant) -> Result<LinkId, TransportError> {
        check_local(address).map_err(|cause| TransportError::Unreachable { address: address.clone(), cause })?;
        let link = Link {
            socket: self.transport.socket(Role::Dealer)?,
            address: address.clone(),
            connects_to: None,
            resolving: false,
            observed_later: false,
            observation: None,
            cause: None,
            peer,
            greeting: Greeting::Due,
            reconnects: false,
            suspected: false,
            hot: false,
            notified: true,
            writable: false,
            names: None,
            used: now,
        };
        let id = self.links.iter().position(Option::is_none).unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        self.links[id] = Some(link);
        self.by_address.insert(address.clone(), id);
        Ok(id)
    }

    /// Gives a link without a connection a new socket, which does not connect yet. Returns the old
    /// one.
    pub(crate) fn renew(&mut self, id: LinkId) -> Result<Option<Socket>, TransportError> {
        let Some(Some(link)) = self.links.get_mut(id) else { return Ok(None) };
        (link.reconnects, link.notified, link.writable) = (true, true, false);
        (link.greeting, link.connects_to) = (Greeting::Due, None);
        Ok(Some(std::mem::replace(&mut link.socket, self.transport.socket(Role::Dealer)?)))
    }

    pub(crate) fn close(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.get_mut(id)?.take()?;
        self.by_address.remove(&link.address);
        Some(link)
    }

    /// Returns idle links to close: those that were unused for long, and the longest unused ones
    /// until `room` is left below the capacity.
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

    /// How many threads look why there is no connection.
    pub(crate) fn observers(&mut self) -> usize {
        let observations = self.links.iter_mut().flatten().filter_map(|link| link.observation.as_mut());
        observations.filter_map(|observation| observation.is_pending().then_some(())).count()
    }

    /// Whether another link would exceed the capacity.
    pub(crate) fn is_full(&self) -> bool {
        self.by_address.len() >= self.capacity
    }
}
