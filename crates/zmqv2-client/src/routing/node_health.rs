//! Nodes that did not take a message lately.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zmqv2_proto::{Address, TopicKey};

/// For how long, at most, an address that could not be reached is tried after all others before it is looked at again.
///
/// Without this, every second call to a topic of two nodes, one of them dead, would first wait for a connection. When the
/// time is over, no message is risked: a probe connects to it in the background. Only if it is there do messages go there
/// again; if not, it is looked at after twice the time, up to [`LONGEST_SUSPICION`].
pub const SUSPECT_FOR: Duration = Duration::from_secs(2);
/// The longest time between two looks at an address that cannot be reached.
pub const LONGEST_SUSPICION: Duration = Duration::from_secs(30);
/// For how long, at most, a node that refused a message of a topic, or did not answer it, is tried after all others with
/// messages of that topic.
pub const REFUSED_FOR: Duration = Duration::from_secs(2);

/// How many refusals are remembered; above it, new ones do not count until old ones have ended.
const MOST_REFUSALS: usize = 10_000;
/// How many addresses are remembered; above it, those that no message could go to for longest are forgotten.
const MOST_SUSPECTS: usize = 10_000;
/// An address that no message could go to for so long is forgotten: longer than any directory names a dead node.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// The addresses that could not be reached, and the nodes that refused something. Pure: `now` comes from the caller, and so does
/// randomness.
#[derive(Debug)]
pub(crate) struct Suspects {
    silent: HashMap<Address, Suspect>,
    /// Until when, by topic and by node.
    refusals: HashMap<TopicKey, HashMap<Address, Instant>>,
    /// How many that are, at most.
    refusal_count: usize,
    /// When the last of them has ended.
    refusals_until: Option<Instant>,
    /// A random span between two others: clients that lost a node together do not come back together.
    spread: fn(Duration, Duration) -> Duration,
}

#[derive(Debug)]
struct Suspect {
    look_at: Instant,
    interval: Duration,
    /// A probe is on its way.
    probing: bool,
    /// Some message could go there.
    wanted: AtomicBool,
}

impl Suspects {
    pub(crate) fn new(spread: fn(Duration, Duration) -> Duration) -> Self {
        Self { silent: HashMap::new(), refusals: HashMap::new(), refusal_count: 0, refusals_until: None, spread }
    }

    /// An address cannot be reached.
    pub(crate) fn mark(&mut self, address: &Address, now: Instant) {
        let look_at = now + (self.spread)(SUSPECT_FOR / 2, SUSPECT_FOR);
        self.insert(address, now, look_at, false);
    }

    /// A message that was sent there was not answered in its time. The node may hang, or the server may only be slow: a probe
    /// is to find out at once, and nobody else is to wait for that.
    pub(crate) fn silent(&mut self, address: &Address, now: Instant) {
        self.insert(address, now, now, true);
    }

    fn insert(&mut self, address: &Address, now: Instant, look_at: Instant, wanted: bool) {
        // One more message that fails tells nothing new.
        if self.silent.contains_key(address) {
            return;
        }
        self.silent.retain(|_, suspect| suspect.probing || now < suspect.look_at + FORGET_AFTER);
        if self.silent.len() >= MOST_SUSPECTS {
            let oldest = self.silent.iter().min_by_key(|(_, suspect)| suspect.look_at);
            if let Some(address) = oldest.map(|(address, _)| address.clone()) {
                self.silent.remove(&address);
            }
        }
        let wanted = AtomicBool::new(wanted);
        let suspect = Suspect { look_at, interval: SUSPECT_FOR, probing: false, wanted };
        self.silent.insert(address.clone(), suspect);
    }

    /// The node at this address does not want messages of this topic now.
    pub(crate) fn refused(&mut self, address: &Address, key: &TopicKey, now: Instant) {
        if self.refusal_count >= MOST_REFUSALS {
            self.refusals.retain(|_, nodes| {
                nodes.retain(|_, until| *until > now);
                !nodes.is_empty()
            });
            self.refusal_count = self.refusals.values().map(HashMap::len).sum();
        }
        if self.refusal_count < MOST_REFUSALS {
            let until = now + (self.spread)(REFUSED_FOR / 2, REFUSED_FOR);
            let before = self.refusals.entry(key.clone()).or_default().insert(address.clone(), until);
            self.refusal_count += usize::from(before.is_none());
            self.refusals_until = self.refusals_until.max(Some(until));
        }
    }

    /// The node at this address has answered.
    pub(crate) fn clear(&mut self, address: &Address) {
        self.silent.remove(address);
    }

    /// Whether there may be somebody to avoid; what time it is need not be known for that.
    pub(crate) fn any(&self) -> bool {
        !self.silent.is_empty() || !self.refusals.is_empty()
    }

    /// Whether there is nobody to avoid. Forgets refusals when the last one has ended, so that messages of better times cost
    /// nothing.
    pub(crate) fn is_empty(&mut self, now: Instant) -> bool {
        if self.refusals_until.take_if(|until| *until <= now).is_some() {
            self.refusals.clear();
            self.refusal_count = 0;
        }
        !self.any()
    }

    /// Whether a message for any server of this topic should rather go elsewhere.
    pub(crate) fn avoid(&self, address: &Address, key: &TopicKey, now: Instant) -> bool {
        let refused = || self.refusals.get(key)?.get(address).copied();
        self.is_unreachable(address) || refused().is_some_and(|until| until > now)
    }

    /// Whether any message should rather go elsewhere. What a topic's servers refused says nothing of one certain server.
    pub(crate) fn is_unreachable(&self, address: &Address) -> bool {
        let suspect = self.silent.get(address);
        suspect.inspect(|suspect| suspect.wanted.store(true, Ordering::Relaxed)).is_some()
    }

    /// Up to `most` addresses to be probed now; the result of each is to be reported.
    pub(crate) fn due(&mut self, most: usize, now: Instant) -> Vec<Address> {
        let due = |suspect: &&mut Suspect| {
            !suspect.probing && suspect.look_at <= now && suspect.wanted.load(Ordering::Relaxed)
        };
        let due = self.silent.iter_mut().filter(|(_, suspect)| due(suspect)).take(most);
        due.map(|(address, suspect)| {
            suspect.probing = true;
            address.clone()
        })
        .collect()
    }

    /// A probe has found somebody there, or nobody.
    pub(crate) fn probed(&mut self, address: &Address, there: bool, now: Instant) {
        if there {
            return self.clear(address);
        }
        if let Some(suspect) = self.silent.get_mut(address) {
            suspect.interval = (suspect.interval * 2).min(LONGEST_SUSPICION);
            suspect.look_at = now + (self.spread)(suspect.interval / 2, suspect.interval);
            (suspect.probing, suspect.wanted) = (false, AtomicBool::new(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn suspects() -> (Suspects, Instant) {
        (Suspects::new(|_, most| most), crate::clock::now())
    }

    fn address(host: &str) -> Address {
        Address::Tcp(host.parse().unwrap())
    }

    fn key(topic: &str) -> TopicKey {
        TopicKey::parse(&format!("x/{topic}")).unwrap()
    }

    #[test]
    fn only_success_ends_suspicion() {
        let (mut suspects, start) = suspects();
        let (a, b, t) = (address("a"), address("b"), key("t"));
        suspects.mark(&a, start);
        assert!(suspects.avoid(&a, &t, start) && !suspects.avoid(&b, &t, start));
        assert!(suspects.due(9, start + SUSPECT_FOR - SECOND).is_empty());
        let mut now = start + SUSPECT_FOR;
        for wait in [4, 8, 16, 30, 30] {
            assert!(suspects.avoid(&a, &t, now), "no message is risked");
            suspects.mark(&a, now);
            assert_eq!(suspects.due(9, now), std::slice::from_ref(&a));
            assert!(suspects.due(9, now).is_empty(), "one probe at a time");
            suspects.probed(&a, false, now);
            assert!(suspects.avoid(&a, &t, now) && suspects.due(9, now + SECOND * (wait - 1)).is_empty());
            now += SECOND * wait;
        }
        assert_eq!(suspects.due(9, now), std::slice::from_ref(&a));
        suspects.probed(&a, true, now);
        assert!(!suspects.avoid(&a, &t, now) && suspects.is_empty(now));
        suspects.mark(&a, now);
        suspects.clear(&a);
        assert!(suspects.is_empty(now), "an answer is success as well");
    }

    #[test]
    fn clients_that_lost_a_node_together_do_not_come_back_together() {
        // The earliest that chance may choose; the other tests have the latest.
        let (_, start) = suspects();
        let mut suspects = Suspects::new(|least, _| least);
        let (a, t) = (address("a"), key("t"));
        suspects.mark(&a, start);
        suspects.refused(&address("b"), &t, start);
        assert!(suspects.avoid(&a, &t, start) && suspects.avoid(&address("b"), &t, start));
        assert_eq!(suspects.due(9, start + SUSPECT_FOR / 2), std::slice::from_ref(&a));
        assert!(!suspects.avoid(&address("b"), &t, start + REFUSED_FOR / 2));
        suspects.probed(&a, false, start);
        assert!(suspects.avoid(&a, &t, start));
        assert!(suspects.due(9, start + SUSPECT_FOR - Duration::from_millis(1)).is_empty());
        assert_eq!(suspects.due(9, start + SUSPECT_FOR), [a]);
    }

    #[test]
    fn who_did_not_answer_is_looked_at_at_once_and_set_aside_until_then() {
        let (mut suspects, start) = suspects();
        let (a, t) = (address("a"), key("t"));
        suspects.silent(&a, start);
        assert!(suspects.avoid(&a, &t, start) && suspects.is_unreachable(&a));
        assert_eq!(suspects.due(9, start), std::slice::from_ref(&a));
        suspects.silent(&a, start);
        assert!(suspects.due(9, start).is_empty(), "one probe at a time");
        suspects.probed(&a, false, start);
        assert!(suspects.is_unreachable(&a));
        suspects.probed(&a, true, start);
        assert!(suspects.is_empty(start), "the server was only slow");
    }

    #[test]
    fn a_dead_node_is_not_forgotten_because_nobody_called_for_a_minute() {
        let (mut suspects, start) = suspects();
        suspects.mark(&address("a"), start);
        let later = start + Duration::from_secs(600);
        suspects.mark(&address("b"), later);
        assert!(suspects.is_unreachable(&address("a")));
        (0..MOST_SUSPECTS).for_each(|n| suspects.mark(&address(&format!("n{n}")), later));
        assert_eq!(suspects.silent.len(), MOST_SUSPECTS);
        assert!(!suspects.is_unreachable(&address("a")), "the oldest goes first");
    }

    #[test]
    fn who_is_not_wanted_is_not_probed_but_forgotten() {
        let (mut suspects, start) = suspects();
        ["a", "b", "c"].iter().for_each(|host| suspects.mark(&address(host), start));
        assert!(suspects.due(9, start + SUSPECT_FOR).is_empty());
        let _ = ["a", "b"].map(|host| suspects.avoid(&address(host), &key("t"), start));
        assert_eq!(suspects.due(1, start + SUSPECT_FOR).len(), 1, "as many as were asked for");
        let late = start + SUSPECT_FOR + FORGET_AFTER;
        suspects.mark(&address("d"), late);
        assert_eq!(suspects.silent.len(), 2, "the one with a probe on its way, and the new one");
    }

    #[test]
    fn a_refusal_is_of_one_topic_and_ends_by_itself() {
        let (mut suspects, start) = suspects();
        let a = address("a");
        suspects.refused(&a, &key("t"), start);
        assert!(suspects.avoid(&a, &key("t"), start) && !suspects.avoid(&a, &key("u"), start));
        assert!(!suspects.is_unreachable(&a), "one certain server is asked there all the same");
        assert!(!suspects.avoid(&a, &key("t"), start + REFUSED_FOR));
        for n in 0..MOST_REFUSALS * 2 {
            suspects.refused(&a, &key(&format!("t{n}")), start);
        }
        assert_eq!((suspects.refusals.len(), suspects.refusal_count), (MOST_REFUSALS, MOST_REFUSALS));
        suspects.refused(&a, &key("late"), start + REFUSED_FOR);
        assert_eq!((suspects.refusals.len(), suspects.refusal_count), (1, 1));
        assert!(!suspects.is_empty(start + REFUSED_FOR));
        assert!(suspects.is_empty(start + REFUSED_FOR * 2) && suspects.refusals.is_empty(), "nothing is left");
    }
}
