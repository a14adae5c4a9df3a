//! The connections of clients: who they are for the engine, and when they end.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::RawFd;

use crate::engine::ClientId;
use crate::message::origin::Ingress;

#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Makes numbers out of routing ids, so that nobody can choose an id with the number of another.
    hasher: RandomState,
    /// The clients with waiting calls, by the descriptors of their connections.
    watched: HashMap<(Ingress, RawFd), ClientId>,
}

impl Clients {
    pub(super) fn id(&self, ingress: Ingress, routing_id: &[u8]) -> ClientId {
        self.hasher.hash_one((ingress, routing_id))
    }

    /// Notes the connection of a client. Returns the one that had this descriptor before, whose
    /// connection must have ended.
    pub(super) fn watch(&mut self, ingress: Ingress, connection: RawFd, client: ClientId) -> Option<ClientId> {
        self.watched.insert((ingress, connection), client).filter(|earlier| *earlier != client)
    }

    /// The client whose connection has ended, if it was noted.
    pub(super) fn ended(&mut self, ingress: Ingress, connection: RawFd) -> Option<ClientId> {
        self.watched.remove(&(ingress, connection))
    }
}
