//! Bounds the log lines about messages that a peer can send without end.

use std::fmt;
use std::time::{Duration, Instant};

/// At most one line in this time.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    next: Option<Instant>,
    omitted: u64,
}

/// The end of a line: how many lines like it were left out before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Omitted(u64);

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " ({} lines like this were left out before)", self.0) }
    }
}

impl LogLimit {
    /// Whether a line may be written now.
    pub(crate) fn allows(&mut self, now: Instant) -> Option<Omitted> {
        if self.next.is_some_and(|next| now < next) {
            self.omitted += 1;
            return None;
        }
        self.next = Some(now + INTERVAL);
        Some(Omitted(std::mem::take(&mut self.omitted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::now;

    #[test]
    fn one_line_in_an_interval_says_how_many_were_left_out() {
        let (mut limit, now) = (LogLimit::default(), now());
        assert_eq!(limit.allows(now), Some(Omitted(0)));
        assert_eq!([limit.allows(now), limit.allows(now)], [None, None]);
        let next = limit.allows(now + INTERVAL).unwrap();
        assert_eq!(next.to_string(), " (2 lines like this were left out before)");
    }
}
