//! Decides which idle sockets are kept, reused and closed. Pure: generic in the socket.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use zmqv2_proto::Address;

/// Idle sockets by address. Methods return sockets to close, so that the caller can close them
/// outside its lock.
#[derive(Debug)]
pub(crate) struct IdlePool<S> {
    capacity: usize,
    idle_limit: Duration,
    next: u64,
    /// In the order in which they became idle.
    idle: BTreeMap<u64, IdleSocket<S>>,
    /// The keys of `idle`, oldest first.
    of_address: HashMap<Address, VecDeque<u64>>,
    /// The keys of sockets that are not the last one of their address.
    spare: BTreeSet<u64>,
}

#[derive(Debug)]
struct IdleSocket<S> {
    address: Address,
    since: Instant,
    socket: S,
}

impl<S> IdlePool<S> {
    /// A pool of at most `capacity` idle sockets. They are closed after `idle_limit`.
    pub(crate) fn new(capacity: usize, idle_limit: Duration) -> Self {
        Self {
            capacity,
            idle_limit,
            next: 0,
            idle: BTreeMap::new(),
            of_address: HashMap::new(),
            spare: BTreeSet::new(),
        }
    }

    /// The socket of `address` that was used last, so that the others can expire.
    pub(crate) fn take(&mut self, address: &Address) -> Option<S> {
        let key = *self.of_address.get(address)?.back()?;
        self.remove(key)
    }

    /// Keeps `socket`, and returns those above the capacity: first the oldest that are not the last
    /// one of their address. Otherwise a caller of many nodes would close the socket that its next
    /// call needs.
    pub(crate) fn put(&mut self, address: Address, socket: S, now: Instant) -> Vec<S> {
        let key = self.next;
        self.next += 1;
        let keys = self.of_address.entry(address.clone()).or_default();
        self.spare.extend(keys.back());
        keys.push_back(key);
        self.idle.insert(key, IdleSocket { address, since: now, socket });
        let mut closed = self.expire(now);
        while self.idle.len() > self.capacity {
            closed.extend(match self.spare.first().copied() {
                Some(spare) => self.remove(spare),
                None => self.remove_oldest(),
            });
        }
        closed
    }

    /// Returns the sockets that were idle too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<S> {
        let mut closed = Vec::new();
        while let Some((_, oldest)) = self.idle.first_key_value()
            && now.saturating_duration_since(oldest.since) >= self.idle_limit
        {
            closed.extend(self.remove_oldest());
        }
        closed
    }

    fn remove_oldest(&mut self) -> Option<S> {
        let key = *self.idle.first_key_value()?.0;
        self.remove(key)
    }

    fn remove(&mut self, key: u64) -> Option<S> {
        let IdleSocket { address, socket, .. } = self.idle.remove(&key)?;
        self.spare.remove(&key);
        if let Some(keys) = self.of_address.get_mut(&address) {
            // Only the oldest or the newest of an address is ever removed.
            if keys.front() == Some(&key) {
                keys.pop_front();
            } else {
                keys.pop_back();
            }
            match keys.back() {
                Some(last) => drop(self.spare.remove(last)),
                None => drop(self.of_address.remove(&address)),
            }
        }
        Some(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn address(host: &str) -> Address {
        Address::Tcp(host.parse().unwrap())
    }

    #[test]
    fn the_last_used_socket_of_the_address_is_taken_first() {
        let (start, mut pool) = (crate::clock::now(), IdlePool::new(9, LIMIT));
        for (host, socket) in [("a", 1), ("b", 2), ("a", 3)] {
            assert!(pool.put(address(host), socket, start).is_empty());
        }
        assert_eq!(pool.take(&address("c")), None);
        assert_eq!([pool.take(&address("a")), pool.take(&address("a"))], [Some(3), Some(1)]);
        assert_eq!([pool.take(&address("a")), pool.take(&address("b"))], [None, Some(2)]);
        assert!(pool.idle.is_empty() && pool.of_address.is_empty());
    }

    #[test]
    fn above_the_capacity_the_longest_idle_of_all_is_closed() {
        let (start, mut pool) = (crate::clock::now(), IdlePool::new(2, LIMIT));
        assert!(pool.put(address("a"), 1, start).is_empty());
        assert!(pool.put(address("b"), 2, start).is_empty());
        assert_eq!(pool.put(address("c"), 3, start), [1]);
        assert_eq!(pool.of_address.len(), 2);
        assert_eq!(IdlePool::new(0, LIMIT).put(address("a"), 7, start), [7]);
    }

    #[test]
    fn above_the_capacity_each_address_keeps_its_last_socket() {
        let (start, mut pool) = (crate::clock::now(), IdlePool::new(3, LIMIT));
        for (host, socket) in [("a", 1), ("b", 2), ("a", 3)] {
            assert!(pool.put(address(host), socket, start).is_empty());
        }
        assert_eq!(pool.put(address("c"), 4, start), [1]);
        // Now each is the only one of its address.
        assert_eq!(pool.put(address("d"), 5, start), [2]);
        assert_eq!(pool.put(address("d"), 6, start), [5]);
        assert_eq!(
            [pool.take(&address("a")), pool.take(&address("c")), pool.take(&address("d"))],
            [Some(3), Some(4), Some(6)]
        );
        assert!(pool.idle.is_empty() && pool.of_address.is_empty() && pool.spare.is_empty());
    }

    #[test]
    fn a_socket_idle_for_too_long_is_closed() {
        let (start, mut pool) = (crate::clock::now(), IdlePool::new(9, LIMIT));
        let second = Duration::from_secs(1);
        assert!(pool.put(address("a"), 1, start).is_empty());
        assert!(pool.put(address("b"), 2, start + second).is_empty());
        assert!(pool.expire(start + LIMIT - second).is_empty());
        assert_eq!(pool.expire(start + LIMIT), [1]);
        assert_eq!(pool.put(address("c"), 3, start + LIMIT + second), [2]);
        assert_eq!(pool.idle.len(), 1);
    }
}
