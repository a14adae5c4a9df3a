//! Connects links, resolves the host names of their addresses, and finds why they have no connection.
//!
//! A resolver and a connection over TCP may take seconds, so threads of their own wait for them. The
//! I/O thread only looks at local sockets itself, which never waits.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::transport::{Connection, Observation, TransportError, check_local, needs_resolver, resolve};
use zmqv2_proto::{Address, NoConnection, deadline};

use super::Driver;
use crate::delivery::table::{Input, LinkId};
use crate::io::queue::Command;
use crate::routing::node_health::observation_at;

/// The most host names that are resolved at one time. Each has a thread.
const MAX_RESOLVERS: usize = 16;
/// The most links that are looked at over TCP at one time. Each has a thread.
const MAX_OBSERVERS: usize = 16;

impl Driver {
    /// Connects the socket of a link, if nothing else does. A host name is resolved first.
    pub(super) fn connect(&mut self, id: LinkId) -> Result<(), TransportError> {
        let Some(link) = self.links.get(id).filter(|link| link.must_connect()) else { return Ok(()) };
        if needs_resolver(&link.address) {
            self.resolve(id);
            return Ok(());
        }
        let address = link.address.clone();
        check_local(&address).map_err(|cause| TransportError::Unreachable { address: address.clone(), cause })?;
        link.socket.connect(&address)?;
        link.connects_to = Some(address);
        Ok(())
    }

    /// Begins to resolve the host name of a link, if it has one and is not connected.
    pub(super) fn resolve(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        if link.resolving || link.reconnects || !needs_resolver(&link.address) {
            return;
        }
        link.resolving = true;
        self.unresolved.push_back(link.address.clone());
        self.start_resolvers();
    }

    fn start_resolvers(&mut self) {
        while self.resolvers < MAX_RESOLVERS
            && let Some(address) = self.unresolved.pop_front()
        {
            self.resolvers += 1;
            let (queue, name) = (Arc::downgrade(&self.queue), address.clone());
            let done = move |found| {
                if let Some(queue) = queue.upgrade() {
                    queue.resolved(name, found);
                }
            };
            if let Err(error) = resolve(address.clone(), done) {
                log::debug!("no thread to resolve {address}: {error}");
                let failed = Command::Resolved(address, Err(NoConnection::Other(error.kind())));
                if self.queue.commands.try_send(failed).is_err() {
                    // The messages wait until their timeout.
                    self.resolvers -= 1;
                }
            }
        }
    }

    /// The host name of an address was resolved, or does not resolve.
    pub(super) fn resolved(&mut self, address: &Address, found: Result<Address, NoConnection>, now: Instant) {
        self.resolvers = self.resolvers.saturating_sub(1);
        self.start_resolvers();
        let Some(id) = self.links.find(address) else { return };
        let Some(link) = self.links.get(id) else { return };
        link.resolving = false;
        let waits = link.socket.readiness().is_ok_and(|readiness| readiness.connection == Connection::Awaited);
        // A readiness consumes events.
        link.notified = true;
        self.mark_hot(id);
        let Some(link) = self.links.get(id) else { return };
        if !waits || link.reconnects {
            return;
        }
        match found {
            Ok(host) if link.connects_to.as_ref() == Some(&host) => {}
            Ok(host) => self.connect_to(id, host, now),
            Err(cause) => self.link_failed(id, cause, now),
        }
    }

    fn connect_to(&mut self, id: LinkId, host: Address, now: Instant) {
        let Some(link) = self.links.get(id) else { return };
        if link.connects_to.is_some() {
            // The socket would try the former address for ever.
            match self.links.renew(id) {
                Ok(former) => drop(former.inspect(|socket| self.unregister_events(socket))),
                Err(error) => return self.socket_failed(id, now, &error),
            }
            if self.register_events(id).is_none() {
                self.table.handle(now, Input::LinkClosed { link: id });
                return self.perform(now);
            }
        }
        let Some(link) = self.links.get(id) else { return };
        link.reconnects = false;
        match link.socket.connect(&host) {
            Ok(()) => link.connects_to = Some(host),
            Err(error) => return self.socket_failed(id, now, &error),
        }
        self.mark_hot(id);
    }

    /// A link cannot connect. The messages that wait for it go on at once.
    pub(super) fn link_failed(&mut self, id: LinkId, cause: NoConnection, now: Instant) {
        self.mark_unreachable(id, cause, now);
        self.table.handle(now, Input::LinkFailed { link: id });
        self.perform(now);
    }

    /// Lets something look why this link has no connection, if it has none in a while.
    pub(super) fn observe_later(&mut self, id: LinkId, now: Instant) {
        let connect_timeout = self.settings.config.connect_timeout;
        if let Some(link) = self.links.get(id)
            && matches!(link.address, Address::Tcp(_))
            && !link.socket.was_connected()
            && !std::mem::replace(&mut link.observed_later, true)
        {
            self.observe_at.push_back((observation_at(now, deadline(now, connect_timeout)), id));
        }
    }

    /// Begins to look at links that have no connection yet.
    pub(super) fn observe_links(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.observe_at.front()
            && at <= now
        {
            self.observe_at.pop_front();
            // The number may belong to another link by now.
            let Some(link) = self.links.get(id).filter(|link| link.observed_later) else { continue };
            link.observed_later = false;
            let waits = link.socket.readiness().is_ok_and(|readiness| readiness.connection == Connection::Awaited);
            // A readiness consumes events.
            link.notified = true;
            let address = link.connects_to.clone().filter(|_| waits);
            self.mark_hot(id);
            if let Some(address) = address
                && self.links.observers() < MAX_OBSERVERS
                && let Some(link) = self.links.get(id)
            {
                link.observation = Some(Observation::begin(&address));
            }
        }
    }

    /// Why this link has no connection, as far as it is known. This does not wait.
    pub(super) fn cause(&mut self, id: LinkId, now: Instant) -> NoConnection {
        let Some(link) = self.links.get(id) else { return NoConnection::Unknown };
        if let Some((at, cause)) = link.cause
            && at == now
        {
            return cause;
        }
        let cause = match (&link.address, &mut link.observation) {
            _ if link.connects_to.is_none() && link.resolving => NoConnection::ResolverSilent,
            (Address::Ipc(_), _) => Observation::begin(&link.address).cause(),
            (Address::Tcp(_), Some(observation)) => observation.cause(),
            (Address::Tcp(_), None) => NoConnection::Unknown,
        };
        link.cause = Some((now, cause));
        cause
    }
}
