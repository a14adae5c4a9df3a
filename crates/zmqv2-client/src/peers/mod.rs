//! What this client knows about the brokers that it talks to: their clocks and their limits. It
//! asks each broker when a connection begins (`hello.rs`), and learns more from every answer.

mod clock;
#[cfg(all(test, feature = "proptest"))]
mod clock_properties;
pub(crate) mod hello;
mod peer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use peer::{Peer, Stamp, Stamping};
use zmqv2_proto::Address;

/// Above this number, brokers without a connection are forgotten.
const MAX_IDLE_PEERS: usize = 1_000;

/// The brokers by address. All threads and sockets of a client share what one of them has learned.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<Address, Arc<Peer>>>);

impl Peers {
    /// The broker at this address.
    pub(crate) fn at(&self, address: &Address) -> Arc<Peer> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address) {
            return Arc::clone(peer);
        }
        if peers.len() >= MAX_IDLE_PEERS {
            // A connection holds its broker.
            peers.retain(|_, peer| Arc::strong_count(peer) > 1);
        }
        Arc::clone(peers.entry(address.clone()).or_default())
    }
}
