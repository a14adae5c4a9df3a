//! Log lines about misbehaving peers: one per peer and interval, however much it sends (promise P9).

use std::collections::HashSet;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);
/// Above this many peers in one interval, the rest is only counted.
const MOST_PEERS: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    since: Option<Instant>,
    peers: HashSet<Vec<u8>>,
}

impl LogLimiter {
    /// Whether to write a line about `peer` now.
    pub(crate) fn allows(&mut self, peer: &[u8], now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL) {
            self.since = Some(now);
            self.peers.clear();
        }
        self.peers.len() < MOST_PEERS && self.peers.insert(peer.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_peer_and_interval_and_bounded_in_all() {
        #[expect(clippy::disallowed_methods, reason = "only a base to count from")]
        let now = Instant::now();
        let mut limiter = LogLimiter::default();
        assert!(limiter.allows(b"a", now));
        assert!(!limiter.allows(b"a", now));
        assert!(limiter.allows(b"b", now));
        let lines = (0..5_000_u32).filter(|n| limiter.allows(&n.to_be_bytes(), now)).count();
        assert_eq!(lines, MOST_PEERS - 2);
        assert!(limiter.allows(b"a", now + INTERVAL));
    }
}
