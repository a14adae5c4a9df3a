//! Bounds the bytes of answers that their receivers have not read yet (promise P5).
//!
//! libzmq bounds only their number. So each answer that is given to libzmq holds a reservation,
//! which libzmq gives back when it has written the answer to the connection, or has dropped it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::message::origin::Ingress;

/// What an answer costs beside its bytes, in this program and in libzmq.
const OVERHEAD: usize = 512;
/// The least number of peers at which those without unread answers are forgotten.
const SWEEP_AT: usize = 64;
/// A peer may have this part of what is free.
const SHARE: usize = 4;

/// The unread answers of all peers.
///
/// A peer may have a quarter of the bytes that are still free. So one peer gets a fifth of the limit,
/// and the more peers do not read, the less each of them gets; some room is left for the others.
#[derive(Debug)]
pub(super) struct UnreadAnswers {
    limit: usize,
    total: Arc<AtomicUsize>,
    peers: [HashMap<Box<[u8]>, Arc<AtomicUsize>>; 2],
    sweep_at: usize,
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    total: Arc<AtomicUsize>,
    peer: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.peer.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl UnreadAnswers {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, total: Arc::default(), peers: Default::default(), sweep_at: SWEEP_AT }
    }

    /// Reserves room for an answer. `None`: there is none for this peer.
    pub(super) fn reserve(&mut self, ingress: Ingress, peer: &[u8], bytes: usize) -> Option<Reservation> {
        if !self.has_room(ingress, peer, bytes) {
            return None;
        }
        let bytes = bytes + OVERHEAD;
        let peers = &mut self.peers[ingress as usize];
        let held = match peers.get(peer) {
            Some(held) => Arc::clone(held),
            None => {
                let held = Arc::new(AtomicUsize::new(0));
                peers.insert(peer.into(), Arc::clone(&held));
                self.sweep();
                held
            }
        };
        held.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
        Some(Reservation { total: Arc::clone(&self.total), peer: held, bytes })
    }

    pub(super) fn has_room(&self, ingress: Ingress, peer: &[u8], bytes: usize) -> bool {
        self.held(ingress, peer) + bytes + OVERHEAD <= self.free() / SHARE
    }

    /// Whether a peer has so many unread answers that it should not ask for more.
    pub(super) fn is_behind(&self, ingress: Ingress, peer: &[u8]) -> bool {
        self.total() > 0 && self.held(ingress, peer) > self.free() / SHARE / 2
    }

    /// The bytes of a peer.
    pub(super) fn held(&self, ingress: Ingress, peer: &[u8]) -> usize {
        self.peers[ingress as usize].get(peer).map_or(0, |held| held.load(Ordering::Relaxed))
    }

    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// For texts: what a peer and all peers hold.
    pub(super) fn describe(&self, ingress: Ingress, peer: &[u8]) -> String {
        let (held, total, limit) = (self.held(ingress, peer), self.total(), self.limit);
        format!(
            "{held} bytes of answers wait to be read by this client, {total} by all, at most {limit} may (rpc_zmq_unread_bytes)"
        )
    }

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.total())
    }

    /// Forgets the peers that have read everything. The cost is spread over the peers that come.
    fn sweep(&mut self) {
        let count = |peers: &[HashMap<_, _>; 2]| peers.iter().map(HashMap::len).sum::<usize>();
        if count(&self.peers) < self.sweep_at {
            return;
        }
        for peers in &mut self.peers {
            // A reservation that is just being made counts too.
            peers.retain(|_, held| Arc::strong_count(held) > 1);
            peers.shrink_to(SWEEP_AT);
        }
        self.sweep_at = SWEEP_AT.max(2 * count(&self.peers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn fill(unread: &mut UnreadAnswers, peer: &[u8]) -> Vec<Reservation> {
        std::iter::from_fn(|| unread.reserve(Ingress::Network, peer, 1_000)).collect()
    }

    #[test]
    fn one_peer_gets_a_fifth_and_room_is_left_for_the_others() {
        let mut unread = UnreadAnswers::new(LIMIT);
        let mut held = Vec::new();
        for peer in 0..10_u8 {
            held.push(fill(&mut unread, &[peer]));
            let left = LIMIT - unread.total();
            assert!(!held[usize::from(peer)].is_empty() && left >= LIMIT / 10, "{peer}: {left}");
        }
        let first = unread.held(Ingress::Network, &[0]);
        assert!((LIMIT * 18 / 100..=LIMIT / 5).contains(&first), "{first}");
        assert!(unread.is_behind(Ingress::Network, &[0]) && !unread.is_behind(Ingress::Network, b"new"));
        assert!(!unread.is_behind(Ingress::Local, &[0]), "the same id at the other socket is another peer");
        drop(held);
        assert_eq!(unread.total(), 0);
        assert!(!unread.is_behind(Ingress::Network, &[0]));
    }

    #[test]
    fn peers_that_have_read_everything_are_forgotten() {
        let mut unread = UnreadAnswers::new(usize::MAX);
        let kept = unread.reserve(Ingress::Local, b"kept", 7).unwrap();
        for peer in 0..10_000_u32 {
            drop(unread.reserve(Ingress::Network, &peer.to_be_bytes(), 7).unwrap());
        }
        assert!(unread.peers[0].len() <= SWEEP_AT && unread.peers[0].capacity() <= 4 * SWEEP_AT);
        assert_eq!(unread.held(Ingress::Local, b"kept"), 7 + OVERHEAD);
        drop(kept);
        assert_eq!(unread.total(), 0);
    }
}
