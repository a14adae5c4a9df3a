//! Addresses that could not be reached lately.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zmqv2_proto::Address;

/// For how long an address that could not be reached is tried after all others.
///
/// Without this, every second call to a topic of two nodes, one of them dead, would first wait for a connection.
pub const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// The addresses, each with the end of its time. Pure: `now` comes from the caller.
#[derive(Debug, Default)]
pub(crate) struct Suspects(HashMap<Address, Instant>);

impl Suspects {
    pub(crate) fn mark(&mut self, address: &Address, now: Instant) {
        self.0.retain(|_, until| *until > now);
        self.0.insert(address.clone(), now + SUSPECT_FOR);
    }

    pub(crate) fn clear(&mut self, address: &Address) {
        self.0.remove(address);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, address: &Address, now: Instant) -> bool {
        self.0.get(address).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_ends_by_time_or_by_success() {
        let (a, b) = (Address::Tcp("a".parse().unwrap()), Address::Tcp("b".parse().unwrap()));
        let (start, mut suspects) = (crate::clock::now(), Suspects::default());
        suspects.mark(&a, start);
        assert!(suspects.contains(&a, start) && !suspects.contains(&b, start));
        assert!(!suspects.contains(&a, start + SUSPECT_FOR));
        suspects.mark(&b, start + SUSPECT_FOR);
        assert_eq!(suspects.0.len(), 1, "what has ended is forgotten");
        suspects.clear(&b);
        assert!(suspects.0.is_empty());
    }
}
