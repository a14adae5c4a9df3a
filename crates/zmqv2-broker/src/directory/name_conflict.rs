//! Another broker uses the name of this node. Pure.

use std::time::{Duration, Instant};

use zmqv2_matchmaker::{BrokerProcess, OtherBroker};
use zmqv2_proto::Node;

/// How long a conflict is reported after the other broker was last seen.
const REPORTED_FOR: Duration = Duration::from_secs(60);
/// How often the other broker must be seen. It is seen once when the directory comes back with old
/// data, in which this node had an earlier broker. A broker that lives is seen at each check-in.
const SURE_AFTER: u32 = 2;

/// What is known about other brokers of the same name.
#[derive(Debug, Default)]
pub(super) struct NameConflict {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    other: OtherBroker,
    times: u32,
    first: Instant,
    last: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Began,
    Ended,
}

impl NameConflict {
    /// Records the answer to a check-in.
    pub(super) fn note(&mut self, other: Option<OtherBroker>, now: Instant) -> Option<Change> {
        let was_sure = self.is_sure();
        let is_old = |seen: &mut Seen| now.saturating_duration_since(seen.last) > REPORTED_FOR;
        let ended = self.seen.take_if(is_old).is_some() && was_sure;
        match (&mut self.seen, other) {
            (Some(seen), Some(other)) => {
                (seen.other, seen.times, seen.last) = (other, seen.times.saturating_add(1), now);
            }
            (None, Some(other)) => self.seen = Some(Seen { other, times: 1, first: now, last: now }),
            (_, None) => {}
        }
        match (was_sure && !ended, self.is_sure()) {
            (false, true) => Some(Change::Began),
            _ => ended.then_some(Change::Ended),
        }
    }

    fn is_sure(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.times >= SURE_AFTER)
    }

    /// The conflict in one line, and since when it exists. `own`: this node and this broker.
    pub(super) fn problem(&self, (node, process): (&Node, &BrokerProcess)) -> Option<(String, Instant)> {
        let Seen { other: OtherBroker { address, about }, first, .. } =
            self.seen.as_ref().filter(|_| self.is_sure())?;
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        let Node { name, address: own, .. } = node;
        let text = format!(
            "another broker of the name {name} is at {address}{about}, this one at {own} ({}): clients confuse the two; \
             give each node its own rpc_zmq_host, and each deployment its own database",
            process.about()
        );
        Some((text, *first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn other(address: &str) -> Option<OtherBroker> {
        Some(OtherBroker { address: address.parse().unwrap(), about: "machine m, process 7".to_owned() })
    }

    #[test]
    fn a_broker_that_is_seen_twice_is_reported_until_it_has_been_away_for_a_minute() {
        let node = Node::new("n".parse().unwrap(), "n:1".parse().unwrap());
        let process = BrokerProcess::new("own");
        let own = (&node, &process);
        let (start, mut conflict) = (crate::threads::now(), NameConflict::default());
        assert_eq!(conflict.note(other("n:1"), start), None);
        assert_eq!((conflict.note(None, start + SECOND), conflict.problem(own)), (None, None), "old data");
        assert_eq!(conflict.note(other("n:1"), start + SECOND * 2), Some(Change::Began));
        let (text, since) = conflict.problem(own).unwrap();
        assert!(text.contains("n is at n:1 (machine m, process 7), this one at n:1 (machine own, process "), "{text}");
        assert!(text.contains("rpc_zmq_host") && since == start, "{text}");
        // A third one: it is not logged again, but shown.
        assert_eq!(conflict.note(other("n:3"), start + SECOND * 4), None);
        assert!(conflict.problem(own).unwrap().0.contains("is at n:3 "));
        assert_eq!(conflict.note(None, start + SECOND * 64), None);
        assert_eq!(conflict.note(None, start + SECOND * 65), Some(Change::Ended));
        assert_eq!((conflict.problem(own), conflict.note(None, start + SECOND * 66)), (None, None));
        assert_eq!(conflict.note(other("n:3"), start + SECOND * 70), None, "once again");
        assert_eq!(conflict.note(other("n:3"), start + SECOND * 140), None, "the first was long ago");
        assert_eq!(conflict.problem(own), None);
    }
}
