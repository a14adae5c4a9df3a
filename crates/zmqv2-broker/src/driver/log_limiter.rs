//! Bounds the log lines about events that peers can cause: one per peer and minute, and a few per
//! kind of event and minute (promise P9). A peer can come again under any number of names.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);
/// The most lines of one kind in one interval.
const MAX_LINES: usize = 20;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum LogKind {
    MalformedMessage,
    MalformedAnswer,
    WorkerStuck,
    CannotConnect,
    DeadLetter,
    ConnectionRefused,
    UnreadAnswers,
}

const KINDS: usize = LogKind::UnreadAnswers as usize + 1;

#[derive(Debug, Default)]
pub(super) struct LogLimiter([OneKind; KINDS]);

#[derive(Debug, Default)]
struct OneKind {
    since: Option<Instant>,
    /// Those with a line in this interval.
    peers: HashSet<Vec<u8>>,
    omitted: u64,
}

/// The end of a line: how many lines of its kind were left out before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Omitted(u64);

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (1 line like this was left out before)"),
            many => write!(f, " ({many} lines like this were left out before)"),
        }
    }
}

impl LogLimiter {
    /// Whether a line about this peer may be written now. The line ends with the returned value.
    pub(super) fn allows(&mut self, kind: LogKind, peer: &[u8], now: Instant) -> Option<Omitted> {
        let OneKind { since, peers, omitted } = &mut self.0[kind as usize];
        if since.is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL) {
            *since = Some(now);
            peers.clear();
        }
        if peers.len() < MAX_LINES && peers.insert(peer.to_vec()) {
            return Some(Omitted(std::mem::take(omitted)));
        }
        *omitted += 1;
        None
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
        let kind = LogKind::MalformedMessage;
        assert_eq!(limiter.allows(kind, b"a", now), Some(Omitted(0)));
        assert_eq!(limiter.allows(kind, b"a", now), None);
        assert_eq!(limiter.allows(kind, b"b", now), Some(Omitted(1)));
        let lines = (0..5_000_u32).filter_map(|n| limiter.allows(kind, &n.to_be_bytes(), now)).count();
        assert_eq!(lines, MAX_LINES - 2);
        // Another kind has a bound of its own.
        assert_eq!(limiter.allows(LogKind::DeadLetter, b"a", now), Some(Omitted(0)));
        let next = limiter.allows(kind, b"a", now + INTERVAL).unwrap();
        assert_eq!(next.to_string(), format!(" ({} lines like this were left out before)", 5_000 - lines));
    }
}
