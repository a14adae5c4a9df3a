//! Records the results of the receivers of one message. Pure: no lock, clock or thread.

use std::collections::HashMap;
use std::sync::Arc;

use zmqv2_matchmaker::Placement;
use zmqv2_proto::{NodeName, ServerName};

use crate::outcome::Outcome;

/// The most results that are kept: more than the count of an answer can announce.
const MAX_RESULTS: usize = 1 << 16;

/// The expected receivers and their results.
///
/// A receiver that answered a message may answer again when it is resent. So answers are counted by
/// name and attempt: a second answer of a name *within* one attempt is from another server of that
/// name, and an answer in *another* attempt is a repetition. Limit: if one of two servers of the
/// same name answers only the first attempt and the other one only the second, they count as one.
#[derive(Debug, Default)]
pub(crate) struct ReceiverTracker {
    expected: ExpectedReceivers,
    results: Vec<ReceiverResult>,
    /// The results of each name, in the order in which they came.
    result_indexes: HashMap<Option<ServerName>, Vec<usize>>,
    /// How often a name has answered an attempt.
    answers_seen: HashMap<(Option<ServerName>, u8), usize>,
}

/// The result of one receiver.
#[derive(Debug, Clone)]
pub(crate) struct ReceiverResult {
    pub(crate) server: Option<ServerName>,
    pub(crate) node: Option<NodeName>,
    pub(crate) outcome: Outcome,
}

/// The receivers that the directory lists.
#[derive(Debug, Clone, Default)]
pub(crate) enum ExpectedReceivers {
    #[default]
    Unknown,
    /// One pool.
    Pool(ServerName),
    /// The servers of this node of a placement.
    Node(Arc<Placement>, usize),
}

impl ExpectedReceivers {
    fn servers(&self) -> &[ServerName] {
        match self {
            Self::Unknown => &[],
            Self::Pool(pool) => std::slice::from_ref(pool),
            Self::Node(placement, index) => placement.nodes().get(*index).map_or(&[], |placed| &placed.servers),
        }
    }
}

impl ReceiverTracker {
    pub(crate) fn new(expected: ExpectedReceivers) -> Self {
        Self { expected, ..Self::default() }
    }

    pub(crate) fn results(&self) -> &[ReceiverResult] {
        &self.results
    }

    /// Records a result. Returns false if there are too many.
    pub(crate) fn record(&mut self, result: ReceiverResult, attempt: u8) -> bool {
        let answers_seen = self.answers_seen.entry((result.server.clone(), attempt)).or_default();
        let nth = *answers_seen;
        *answers_seen += 1;
        let result_indexes = self.result_indexes.entry(result.server.clone()).or_default();
        if let Some(index) = result_indexes.get(nth) {
            let known = &mut self.results[*index];
            if precedence(&result.outcome) > precedence(&known.outcome) {
                *known = result;
            }
            return true;
        }
        if self.results.len() >= MAX_RESULTS {
            return false;
        }
        result_indexes.push(self.results.len());
        self.results.push(result);
        true
    }

    /// Gives `outcome` to every expected receiver without a result. If there is none, adds one
    /// result without a name.
    pub(crate) fn fill_missing(&mut self, node: Option<&NodeName>, outcome: &Outcome) {
        let before = self.results.len();
        let result_of = |server| ReceiverResult { server, node: node.cloned(), outcome: outcome.clone() };
        for server in self.expected.servers() {
            let server = Some(server.clone());
            if let std::collections::hash_map::Entry::Vacant(index) = self.result_indexes.entry(server) {
                self.results.push(result_of(index.key().clone()));
                index.insert(vec![self.results.len() - 1]);
            }
        }
        if self.results.len() == before {
            self.results.push(result_of(None));
        }
    }
}

/// Of two results of one receiver, the higher one is kept: a receiver that has accepted the message
/// once has it.
fn precedence(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Acked { .. } => 3,
        Outcome::Stored { .. } => 2,
        Outcome::Refused { .. } => 1,
        Outcome::Directory { .. } | Outcome::Unacknowledged { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zmqv2_matchmaker::PlacedNode;
    use zmqv2_proto::{Node, Reason, Refusal};

    use super::*;

    fn expected(servers: &[&str]) -> ExpectedReceivers {
        let node = Node::new("n".parse().unwrap(), "n".parse().unwrap());
        let servers = servers.iter().map(|name| name.parse().unwrap()).collect();
        ExpectedReceivers::Node(Arc::new(Placement::new(vec![PlacedNode { node, servers }])), 0)
    }

    fn acked(server: &str) -> ReceiverResult {
        let (server, node): (ServerName, NodeName) = (server.parse().unwrap(), "n".parse().unwrap());
        let outcome = Outcome::Acked { server: server.clone(), node: node.clone(), elapsed: Duration::ZERO };
        ReceiverResult { server: Some(server), node: Some(node), outcome }
    }

    fn refused(server: &str) -> ReceiverResult {
        let refusal = Refusal::new(Reason::ServerLost, "");
        ReceiverResult { outcome: Outcome::Refused { refusal, node: None, after: Duration::ZERO }, ..acked(server) }
    }

    fn unacknowledged() -> Outcome {
        Outcome::Unacknowledged { after: Duration::ZERO, sent: true, problem: String::new() }
    }

    fn show(tracker: &ReceiverTracker) -> Vec<(Option<&str>, bool)> {
        let name = |result: &ReceiverResult| result.server.as_ref().map(|server| server.as_str().to_owned());
        let mut all: Vec<_> = tracker.results.iter().map(|result| (name(result), result.outcome.is_acked())).collect();
        all.sort();
        all.into_iter().map(|(name, acked)| (name.map(|name| &*name.leak()), acked)).collect()
    }

    #[test]
    fn a_second_answer_after_a_resend_adds_no_outcome_and_an_acceptance_stays() {
        let mut tracker = ReceiverTracker::default();
        for (result, attempt) in [(acked("a"), 1), (refused("b"), 1), (refused("a"), 2), (acked("b"), 2)] {
            assert!(tracker.record(result, attempt));
        }
        assert_eq!(show(&tracker), [(Some("a"), true), (Some("b"), true)]);
    }

    #[test]
    fn two_processes_of_one_name_count_as_two_also_after_a_resend() {
        let mut tracker = ReceiverTracker::default();
        for attempt in [1, 1, 2, 2] {
            tracker.record(acked("a"), attempt);
        }
        tracker.record(acked("a"), 1);
        assert_eq!(show(&tracker), [(Some("a"), true); 3]);
    }

    #[test]
    fn expected_receivers_without_an_answer_are_named_or_one_unnamed_result_is_added() {
        let mut tracker = ReceiverTracker::new(expected(&["a", "b", "c", "c"]));
        tracker.record(acked("b"), 1);
        tracker.record(acked("x"), 1);
        tracker.fill_missing(None, &unacknowledged());
        let named = [(Some("a"), false), (Some("b"), true), (Some("c"), false), (Some("x"), true)];
        assert_eq!(show(&tracker), named);

        for mut tracker in [ReceiverTracker::default(), ReceiverTracker::new(expected(&["b"]))] {
            tracker.record(acked("b"), 1);
            tracker.fill_missing(None, &unacknowledged());
            assert_eq!(show(&tracker), [(None, false), (Some("b"), true)], "all that are known have answered");
        }
    }

    #[test]
    fn the_number_of_answers_kept_is_bounded() {
        let mut tracker = ReceiverTracker::default();
        let kept = (0..MAX_RESULTS + 2).filter(|_| tracker.record(acked("a"), 1)).count();
        assert_eq!((kept, tracker.results.len()), (MAX_RESULTS, MAX_RESULTS));
    }
}
