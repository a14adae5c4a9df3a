//! Remembers the nodes that did not take a message lately.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{Address, NoConnection, TopicKey, deadline};

/// How long an unreachable address comes last before it is probed, at most.
///
/// Without this, every second call to a topic with one dead node of two would wait for a
/// connection. No message is risked later either: a probe connects in the background. If it fails,
/// the next probe comes after twice the time, up to `MAX_PROBE_INTERVAL`.
pub const FIRST_PROBE_AFTER: Duration = Duration::from_secs(2);
/// The longest time between two probes of an address.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a node that refused or did not answer a message comes last for messages of the same
/// topic, at most.
const AVOID_AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// How long a connection is awaited before something looks why it is not there.
const LATEST_OBSERVATION: Duration = Duration::from_millis(500);

/// The most refusals that are remembered. Above it, new ones do not count until old ones end.
const MAX_REFUSALS: usize = 10_000;
/// The most unreachable addresses that are remembered. Above it, the oldest is forgotten.
const MAX_UNREACHABLE: usize = 10_000;
/// An address that no message needed for this long is forgotten. No directory lists a dead node for
/// longer.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// The unreachable addresses and the refusals. Pure: the caller passes the time, and randomness.
#[derive(Debug)]
pub(crate) struct NodeHealth {
    unreachable: HashMap<Address, UnreachableNode>,
    /// The end of each refusal, by topic and by node.
    refusals: HashMap<TopicKey, HashMap<Address, Instant>>,
    /// The number of refusals, at most.
    refusal_count: usize,
    /// The end of the last refusal.
    refusals_until: Option<Instant>,
    /// Returns a random time between two others, so that clients that lost a node together probe it
    /// at different times.
    spread: fn(Duration, Duration) -> Duration,
}

#[derive(Debug)]
struct UnreachableNode {
    /// What was seen there last.
    cause: NoConnection,
    probe_at: Instant,
    interval: Duration,
    /// A probe is running.
    probing: bool,
    /// A message could have gone there.
    wanted: AtomicBool,
}

/// What is wrong at the address of a connection that failed with this error. `None`: the error is of
/// this process.
pub(crate) fn cause_of(error: &TransportError) -> Option<NoConnection> {
    match error {
        TransportError::Unreachable { cause, .. } => Some(*cause),
        TransportError::Connect { source, .. } => Some(NoConnection::Other(source.kind())),
        _ => None,
    }
}

/// When to begin to look why there is no connection yet, if a message waits for it until
/// `connect_by`: in the middle, so that most connections are there by then, and the cause is known in
/// time.
pub(crate) fn observation_at(now: Instant, connect_by: Instant) -> Instant {
    deadline(now, connect_by.saturating_duration_since(now).min(LATEST_OBSERVATION * 2) / 2)
}

impl NodeHealth {
    pub(crate) fn new(spread: fn(Duration, Duration) -> Duration) -> Self {
        Self { unreachable: HashMap::new(), refusals: HashMap::new(), refusal_count: 0, refusals_until: None, spread }
    }

    /// The address cannot be reached.
    pub(crate) fn mark_unreachable(&mut self, address: &Address, cause: NoConnection, now: Instant) {
        let probe_at = deadline(now, (self.spread)(FIRST_PROBE_AFTER / 2, FIRST_PROBE_AFTER));
        self.insert(address, cause, now, probe_at, false);
    }

    /// Why the address could not be reached the last time.
    pub(crate) fn cause(&self, address: &Address) -> NoConnection {
        self.unreachable.get(address).map_or(NoConnection::Unknown, |node| node.cause)
    }

    /// A message was not answered in time. The node may hang, or the server may be slow. A probe
    /// finds out at once, so that no other message has to wait.
    pub(crate) fn mark_unanswered(&mut self, address: &Address, now: Instant) {
        self.insert(address, NoConnection::NoAnswer, now, now, true);
    }

    fn insert(&mut self, address: &Address, cause: NoConnection, now: Instant, probe_at: Instant, wanted: bool) {
        // Another failure tells nothing new but its cause.
        if let Some(node) = self.unreachable.get_mut(address) {
            node.cause = cause;
            return;
        }
        self.unreachable.retain(|_, node| node.probing || now < node.probe_at + FORGET_AFTER);
        if self.unreachable.len() >= MAX_UNREACHABLE {
            let oldest = self.unreachable.iter().min_by_key(|(_, node)| node.probe_at);
            if let Some(address) = oldest.map(|(address, _)| address.clone()) {
                self.unreachable.remove(&address);
            }
        }
        let wanted = AtomicBool::new(wanted);
        let node = UnreachableNode { cause, probe_at, interval: FIRST_PROBE_AFTER, probing: false, wanted };
        self.unreachable.insert(address.clone(), node);
    }

    /// The node refused a message of this topic.
    pub(crate) fn mark_refused(&mut self, address: &Address, key: &TopicKey, now: Instant) {
        if self.refusal_count >= MAX_REFUSALS {
            self.refusals.retain(|_, nodes| {
                nodes.retain(|_, until| *until > now);
                !nodes.is_empty()
            });
            self.refusal_count = self.refusals.values().map(HashMap::len).sum();
        }
        if self.refusal_count < MAX_REFUSALS {
            let until = deadline(now, (self.spread)(AVOID_AFTER_REFUSAL / 2, AVOID_AFTER_REFUSAL));
            let before = self.refusals.entry(key.clone()).or_default().insert(address.clone(), until);
            self.refusal_count += usize::from(before.is_none());
            self.refusals_until = self.refusals_until.max(Some(until));
        }
    }

    /// The node has answered.
    pub(crate) fn mark_reachable(&mut self, address: &Address) {
        self.unreachable.remove(address);
    }

    /// Whether some node may have to be avoided. This needs no clock.
    pub(crate) fn may_have_entries(&self) -> bool {
        !self.unreachable.is_empty() || !self.refusals.is_empty()
    }

    /// Whether no node is to be avoided. Forgets refusals when the last one has ended, so that
    /// messages without trouble cost nothing.
    pub(crate) fn is_empty(&mut self, now: Instant) -> bool {
        if self.refusals_until.take_if(|until| *until <= now).is_some() {
            self.refusals.clear();
            self.refusal_count = 0;
        }
        !self.may_have_entries()
    }

    /// Whether a message for any server of this topic should avoid the address.
    pub(crate) fn should_avoid(&self, address: &Address, key: &TopicKey, now: Instant) -> bool {
        let refused = || self.refusals.get(key)?.get(address).copied();
        self.is_unreachable(address) || refused().is_some_and(|until| until > now)
    }

    /// Whether every message should avoid the address. Refusals of a topic say nothing about one
    /// certain server.
    pub(crate) fn is_unreachable(&self, address: &Address) -> bool {
        let node = self.unreachable.get(address);
        node.inspect(|node| node.wanted.store(true, Ordering::Relaxed)).is_some()
    }

    /// Starts up to `most` probes that are due. Report the result of each with
    /// [`probed`](Self::probed).
    pub(crate) fn due_probes(&mut self, most: usize, now: Instant) -> Vec<Address> {
        let due =
            |node: &&mut UnreachableNode| !node.probing && node.probe_at <= now && node.wanted.load(Ordering::Relaxed);
        let due = self.unreachable.iter_mut().filter(|(_, node)| due(node)).take(most);
        due.map(|(address, node)| {
            node.probing = true;
            address.clone()
        })
        .collect()
    }

    /// A probe has found a broker there, or none.
    pub(crate) fn probed(&mut self, address: &Address, there: bool, now: Instant) {
        if there {
            return self.mark_reachable(address);
        }
        if let Some(node) = self.unreachable.get_mut(address) {
            node.interval = (node.interval * 2).min(MAX_PROBE_INTERVAL);
            node.probe_at = deadline(now, (self.spread)(node.interval / 2, node.interval));
            (node.probing, node.wanted) = (false, AtomicBool::new(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn health() -> (NodeHealth, Instant) {
        (NodeHealth::new(|_, most| most), crate::clock::now())
    }

    fn address(host: &str) -> Address {
        Address::Tcp(host.parse().unwrap())
    }

    fn key(topic: &str) -> TopicKey {
        TopicKey::parse(&format!("x/{topic}")).unwrap()
    }

    #[test]
    fn only_an_answer_or_a_probe_makes_a_node_reachable_again() {
        let (mut health, start) = health();
        let (a, b, t) = (address("a"), address("b"), key("t"));
        health.mark_unreachable(&a, NoConnection::Refused, start);
        assert!(health.should_avoid(&a, &t, start) && !health.should_avoid(&b, &t, start));
        assert!(health.due_probes(9, start + FIRST_PROBE_AFTER - SECOND).is_empty());
        let mut now = start + FIRST_PROBE_AFTER;
        for wait in [4, 8, 16, 30, 30] {
            assert!(health.should_avoid(&a, &t, now), "no message is risked");
            health.mark_unreachable(&a, NoConnection::Refused, now);
            assert_eq!(health.due_probes(9, now), std::slice::from_ref(&a));
            assert!(health.due_probes(9, now).is_empty(), "one probe at a time");
            health.probed(&a, false, now);
            assert!(health.should_avoid(&a, &t, now) && health.due_probes(9, now + SECOND * (wait - 1)).is_empty());
            now += SECOND * wait;
        }
        assert_eq!(health.due_probes(9, now), std::slice::from_ref(&a));
        health.probed(&a, true, now);
        assert!(!health.should_avoid(&a, &t, now) && health.is_empty(now));
        health.mark_unreachable(&a, NoConnection::Refused, now);
        health.mark_reachable(&a);
        assert!(health.is_empty(now), "an answer is success as well");
    }

    #[test]
    fn clients_that_lost_a_node_together_probe_it_at_different_times() {
        // The earliest random time; the other tests use the latest.
        let (_, start) = health();
        let mut health = NodeHealth::new(|least, _| least);
        let (a, t) = (address("a"), key("t"));
        health.mark_unreachable(&a, NoConnection::Refused, start);
        health.mark_refused(&address("b"), &t, start);
        assert!(health.should_avoid(&a, &t, start) && health.should_avoid(&address("b"), &t, start));
        assert_eq!(health.due_probes(9, start + FIRST_PROBE_AFTER / 2), std::slice::from_ref(&a));
        assert!(!health.should_avoid(&address("b"), &t, start + AVOID_AFTER_REFUSAL / 2));
        health.probed(&a, false, start);
        assert!(health.should_avoid(&a, &t, start));
        assert!(health.due_probes(9, start + FIRST_PROBE_AFTER - Duration::from_millis(1)).is_empty());
        assert_eq!(health.due_probes(9, start + FIRST_PROBE_AFTER), [a]);
    }

    #[test]
    fn a_node_that_did_not_answer_is_probed_at_once_and_avoided_until_then() {
        let (mut health, start) = health();
        let (a, t) = (address("a"), key("t"));
        health.mark_unanswered(&a, start);
        assert!(health.should_avoid(&a, &t, start) && health.is_unreachable(&a));
        assert_eq!(health.due_probes(9, start), std::slice::from_ref(&a));
        health.mark_unanswered(&a, start);
        assert!(health.due_probes(9, start).is_empty(), "one probe at a time");
        health.probed(&a, false, start);
        assert!(health.is_unreachable(&a));
        health.probed(&a, true, start);
        assert!(health.is_empty(start), "the server was only slow");
    }

    #[test]
    fn the_latest_cause_counts_until_the_node_is_reachable() {
        let (mut health, start) = health();
        let a = address("a");
        assert_eq!(health.cause(&a), NoConnection::Unknown);
        health.mark_unreachable(&a, NoConnection::Silent, start);
        health.mark_unreachable(&a, NoConnection::Refused, start);
        assert_eq!(health.cause(&a), NoConnection::Refused);
        health.mark_unanswered(&a, start);
        assert_eq!(health.cause(&a), NoConnection::NoAnswer);
        health.mark_reachable(&a);
        assert_eq!(health.cause(&a), NoConnection::Unknown);
    }

    #[test]
    fn a_dead_node_is_remembered_when_nothing_is_called_for_minutes() {
        let (mut health, start) = health();
        health.mark_unreachable(&address("a"), NoConnection::Refused, start);
        let later = start + Duration::from_secs(600);
        health.mark_unreachable(&address("b"), NoConnection::Refused, later);
        assert!(health.is_unreachable(&address("a")));
        (0..MAX_UNREACHABLE)
            .for_each(|n| health.mark_unreachable(&address(&format!("n{n}")), NoConnection::Refused, later));
        assert_eq!(health.unreachable.len(), MAX_UNREACHABLE);
        assert!(!health.is_unreachable(&address("a")), "the oldest goes first");
    }

    #[test]
    fn a_node_that_no_message_needs_is_not_probed_but_forgotten() {
        let (mut health, start) = health();
        ["a", "b", "c"].iter().for_each(|host| health.mark_unreachable(&address(host), NoConnection::Refused, start));
        assert!(health.due_probes(9, start + FIRST_PROBE_AFTER).is_empty());
        let _ = ["a", "b"].map(|host| health.should_avoid(&address(host), &key("t"), start));
        assert_eq!(health.due_probes(1, start + FIRST_PROBE_AFTER).len(), 1, "as many as were asked for");
        let late = start + FIRST_PROBE_AFTER + FORGET_AFTER;
        health.mark_unreachable(&address("d"), NoConnection::Refused, late);
        assert_eq!(health.unreachable.len(), 2, "the one with a probe on its way, and the new one");
    }

    #[test]
    fn a_refusal_is_of_one_topic_and_ends_by_itself() {
        let (mut health, start) = health();
        let a = address("a");
        health.mark_refused(&a, &key("t"), start);
        assert!(health.should_avoid(&a, &key("t"), start) && !health.should_avoid(&a, &key("u"), start));
        assert!(!health.is_unreachable(&a), "one certain server is asked there all the same");
        assert!(!health.should_avoid(&a, &key("t"), start + AVOID_AFTER_REFUSAL));
        for n in 0..MAX_REFUSALS * 2 {
            health.mark_refused(&a, &key(&format!("t{n}")), start);
        }
        assert_eq!((health.refusals.len(), health.refusal_count), (MAX_REFUSALS, MAX_REFUSALS));
        health.mark_refused(&a, &key("late"), start + AVOID_AFTER_REFUSAL);
        assert_eq!((health.refusals.len(), health.refusal_count), (1, 1));
        assert!(!health.is_empty(start + AVOID_AFTER_REFUSAL));
        assert!(health.is_empty(start + AVOID_AFTER_REFUSAL * 2) && health.refusals.is_empty(), "nothing is left");
    }
}
