//! Bounds the log lines about misbehaving peers: one per peer and minute (promise P9).

use std::collections::HashSet;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);
/// The most peers with a line in one interval.
const MAX_PEERS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct LogLimiter {
    since: Option<Instant>,
    peers: HashSet<Vec<u8>>,
}

impl LogLimiter {
    pub(super) fn allows(&mut self, peer: &[u8], now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL) {
            self.since = Some(now);
            self.peers.clear();
        }
        self.peers.len() < MAX_PEERS && self.peers.insert(peer.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::now;

    #[test]
    fn one_line_per_peer_and_interval_and_a_bound_for_all_peers() {
        let now = now();
        let mut limiter = LogLimiter::default();
        assert!(limiter.allows(b"a", now));
        assert!(!limiter.allows(b"a", now));
        assert!(limiter.allows(b"b", now));
        let lines = (0..5_000_u32).filter(|n| limiter.allows(&n.to_be_bytes(), now)).count();
        assert_eq!(lines, MAX_PEERS - 2);
        assert!(limiter.allows(b"a", now + INTERVAL));
    }
}
