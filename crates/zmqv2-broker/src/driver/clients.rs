//! The connections of clients: who they are for the engine, and when they end.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::RawFd;

use crate::engine::ClientId;
use crate::message::origin::Ingress;

#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Makes numbers out of routing ids, so that nobody can choose an id with the number of another.
    hasher: RandomState,
    /// The clients that have sent calls, by the descriptors of their connections.
    watched: HashMap<(Ingress, RawFd), ClientId>,
    /// The same clients.
    known: HashSet<ClientId>,
}

impl Clients {
    pub(super) fn id(&self, ingress: Ingress, routing_id: &[u8]) -> ClientId {
        self.hasher.hash_one((ingress, routing_id))
    }

    /// Whether the connection of this client is noted.
    pub(super) fn is_watched(&self, client: ClientId) -> bool {
        self.known.contains(&client)
    }

    /// Notes the connection of a client. Returns the one that had this descriptor before, whose
    /// connection must have ended.
    pub(super) fn watch(&mut self, ingress: Ingress, connection: RawFd, client: ClientId) -> Option<ClientId> {
        self.known.insert(client);
        let earlier = self.watched.insert((ingress, connection), client).filter(|earlier| *earlier != client)?;
        self.known.remove(&earlier);
        Some(earlier)
    }

    /// The client whose connection has ended, if it was noted.
    pub(super) fn ended(&mut self, ingress: Ingress, connection: RawFd) -> Option<ClientId> {
        let client = self.watched.remove(&(ingress, connection))?;
        self.known.remove(&client);
        Some(client)
    }
}
