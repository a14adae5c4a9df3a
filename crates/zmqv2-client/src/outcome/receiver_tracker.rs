//! What the receivers of one message have said, each once. Pure: no lock, clock or thread.

use std::collections::HashMap;
use std::sync::Arc;

use zmqv2_matchmaker::Placement;
use zmqv2_proto::{NodeName, ServerName};

use crate::outcome::Outcome;

/// The most answers to one message that are kept: more than the count in an answer can announce.
const MAX_RESULTS: usize = 1 << 16;

/// The receivers that are expected, and what each has said.
///
/// A message that is sent again is answered again by whoever had answered it. So answers are counted by name and attempt:
/// the second answer of a name *within* one attempt is another server process of that name, and the second one in
/// *another* attempt is a repetition. Bound: when one of two processes of the same name answers only the first attempt and
/// the other one only the second, they count as one.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    listed: Listed,
    results: Vec<Entry>,
    /// The results of a name, in the order in which they came.
    places: HashMap<Option<ServerName>, Vec<usize>>,
    /// How often a name has answered an attempt.
    heard: HashMap<(Option<ServerName>, u8), usize>,
}

/// What one receiver has said, or what is to be said of one that was silent.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) server: Option<ServerName>,
    pub(crate) node: Option<NodeName>,
    pub(crate) outcome: Outcome,
}

/// The receivers that the directory knows.
#[derive(Debug, Clone, Default)]
pub(crate) enum Listed {
    #[default]
    Nobody,
    /// This pool.
    Pool(ServerName),
    /// The servers of this node of a placement.
    At(Arc<Placement>, usize),
}

impl Listed {
    fn servers(&self) -> &[ServerName] {
        match self {
            Self::Nobody => &[],
            Self::Pool(pool) => std::slice::from_ref(pool),
            Self::At(placement, place) => placement.nodes().get(*place).map_or(&[], |placed| &placed.servers),
        }
    }
}

impl Roll {
    pub(crate) fn new(listed: Listed) -> Self {
        Self { listed, ..Self::default() }
    }

    pub(crate) fn results(&self) -> &[Entry] {
        &self.results
    }

    /// Takes down what a receiver has said; false: there are too many.
    pub(crate) fn note(&mut self, entry: Entry, attempt: u8) -> bool {
        let heard = self.heard.entry((entry.server.clone(), attempt)).or_default();
        let nth = *heard;
        *heard += 1;
        let places = self.places.entry(entry.server.clone()).or_default();
        if let Some(place) = places.get(nth) {
            let known = &mut self.results[*place];
            if weight(&entry.outcome) > weight(&known.outcome) {
                *known = entry;
            }
            return true;
        }
        if self.results.len() >= MAX_RESULTS {
            return false;
        }
        places.push(self.results.len());
        self.results.push(entry);
        true
    }

    /// Says the same of everybody who is listed and has said nothing, or once without a name: somebody else was silent.
    pub(crate) fn fill(&mut self, node: Option<&NodeName>, outcome: &Outcome) {
        let before = self.results.len();
        let entry = |server| Entry { server, node: node.cloned(), outcome: outcome.clone() };
        for server in self.listed.servers() {
            let server = Some(server.clone());
            if let std::collections::hash_map::Entry::Vacant(place) = self.places.entry(server) {
                self.results.push(entry(place.key().clone()));
                place.insert(vec![self.results.len() - 1]);
            }
        }
        if self.results.len() == before {
            self.results.push(entry(None));
        }
    }
}

/// Of two things that the same receiver has said, the heavier one holds: who has accepted it once has it.
fn weight(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Acked { .. } => 3,
        Outcome::Stored { .. } => 2,
        Outcome::Refused { .. } => 1,
        Outcome::Unacknowledged { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zmqv2_matchmaker::PlacedNode;
    use zmqv2_proto::{Node, Reason, Refusal};

    use super::*;

    fn listed(servers: &[&str]) -> Listed {
        let node = Node::new("n".parse().unwrap(), "n".parse().unwrap());
        let servers = servers.iter().map(|name| name.parse().unwrap()).collect();
        Listed::At(Arc::new(Placement::new(vec![PlacedNode { node, servers }])), 0)
    }

    fn acked(server: &str) -> Entry {
        let (server, node): (ServerName, NodeName) = (server.parse().unwrap(), "n".parse().unwrap());
        let outcome = Outcome::Acked { server: server.clone(), node: node.clone(), elapsed: Duration::ZERO };
        Entry { server: Some(server), node: Some(node), outcome }
    }

    fn refused(server: &str) -> Entry {
        let refusal = Refusal::new(Reason::ServerLost, "");
        Entry { outcome: Outcome::Refused { refusal, node: None, after: Duration::ZERO }, ..acked(server) }
    }

    fn silent() -> Outcome {
        Outcome::Unacknowledged { after: Duration::ZERO, sent: true }
    }

    fn show(roll: &Roll) -> Vec<(Option<&str>, bool)> {
        let name = |entry: &Entry| entry.server.as_ref().map(|server| server.as_str().to_owned());
        let mut all: Vec<_> = roll.results.iter().map(|entry| (name(entry), entry.outcome.is_acked())).collect();
        all.sort();
        all.into_iter().map(|(name, acked)| (name.map(|name| &*name.leak()), acked)).collect()
    }

    #[test]
    fn an_answer_to_a_resend_is_no_second_outcome_and_acceptance_holds() {
        let mut roll = Roll::default();
        for (entry, attempt) in [(acked("a"), 1), (refused("b"), 1), (refused("a"), 2), (acked("b"), 2)] {
            assert!(roll.note(entry, attempt));
        }
        assert_eq!(show(&roll), [(Some("a"), true), (Some("b"), true)]);
    }

    #[test]
    fn two_processes_of_one_name_are_two_also_after_a_resend() {
        let mut roll = Roll::default();
        for attempt in [1, 1, 2, 2] {
            roll.note(acked("a"), attempt);
        }
        roll.note(acked("a"), 1);
        assert_eq!(show(&roll), [(Some("a"), true); 3]);
    }

    #[test]
    fn who_is_listed_and_silent_is_named_and_else_somebody_is() {
        let mut roll = Roll::new(listed(&["a", "b", "c", "c"]));
        roll.note(acked("b"), 1);
        roll.note(acked("x"), 1);
        roll.fill(None, &silent());
        let named = [(Some("a"), false), (Some("b"), true), (Some("c"), false), (Some("x"), true)];
        assert_eq!(show(&roll), named);

        for mut roll in [Roll::default(), Roll::new(listed(&["b"]))] {
            roll.note(acked("b"), 1);
            roll.fill(None, &silent());
            assert_eq!(show(&roll), [(None, false), (Some("b"), true)], "all that are known have answered");
        }
    }

    #[test]
    fn answers_without_end_are_not_kept() {
        let mut roll = Roll::default();
        let kept = (0..MAX_RESULTS + 2).filter(|_| roll.note(acked("a"), 1)).count();
        assert_eq!((kept, roll.results.len()), (MAX_RESULTS, MAX_RESULTS));
    }
}
