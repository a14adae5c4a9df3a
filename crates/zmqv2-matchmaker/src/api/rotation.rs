//! Turns among several nodes.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use zmqv2_proto::{Node, TopicKey};

use crate::api::Candidates;

/// The most topics with a turn. Above it, all turns start again, which is unfair for one round.
const MAX_TOPICS: usize = 10_000;

/// Turns among nodes: one counter per topic.
///
/// Each client has one, not the matchmaker: snapshots stay immutable, and two clients of a process
/// do not skew each other's turns. With a common counter, a client that alternates between two
/// topics of two nodes would reach only one node of each. The first turn is random, so that ten
/// thousand clients that start together do not all begin with the same node.
///
/// ```
/// use std::sync::Arc;
/// use zmqv2_matchmaker::{Node, PlacedNode, Placement, Rotation, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let a = PlacedNode::unlisted(Node::new("a".parse()?, "a:9501".parse()?));
/// let b = PlacedNode::unlisted(Node::new("b".parse()?, "b:9501".parse()?));
/// let placement = Arc::new(Placement::new(vec![a, b]));
/// let (turns, key) = (Rotation::new(), Target::topic("demo")?.key());
///
/// // The node whose turn it is comes first. The others follow, in case it cannot be reached.
/// let nodes = placement.candidates(None);
/// let order: Vec<_> = turns.order(&key, &nodes).collect();
/// assert_eq!(order.len(), 2);
/// assert_eq!(turns.order(&key, &nodes).next(), Some(order[1]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Rotation {
    turns: RwLock<HashMap<TopicKey, AtomicUsize>>,
    first: RandomState,
}

impl Rotation {
    /// A rotation with a random first turn for every topic.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next turn and returns all `candidates` of the topic `key`, starting with that
    /// turn.
    ///
    /// A single candidate takes no turn, so that requests for one server do not skew those for any
    /// server.
    pub fn order<'a>(&self, key: &TopicKey, candidates: &'a Candidates) -> impl Iterator<Item = &'a Node> + use<'a> {
        let turn = if candidates.len() > 1 { self.turn(key) } else { 0 };
        candidates.iter_near(turn, None)
    }

    /// Takes the next turn of the topic `key`, for [`Candidates::iter_near`].
    pub fn turn(&self, key: &TopicKey) -> usize {
        if let Some(turn) = self.turns.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return turn.fetch_add(1, Ordering::Relaxed);
        }
        let mut turns = self.turns.write().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= MAX_TOPICS && !turns.contains_key(key) {
            turns.clear();
        }
        let turn = turns.entry(key.clone()).or_insert_with(|| AtomicUsize::new(self.first.hash_one(key) as usize));
        turn.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{PlacedNode, Placement};

    fn placement(names: &[&str]) -> Arc<Placement> {
        let node = |name: &&str| Node::new(name.parse().unwrap(), name.parse().unwrap());
        Arc::new(Placement::new(names.iter().map(node).map(PlacedNode::unlisted).collect()))
    }

    #[test]
    fn alternating_between_topics_reaches_every_node_of_both() {
        let turns = Rotation::new();
        let nodes = placement(&["a", "b"]).candidates(None);
        let mut reached = [Vec::new(), Vec::new()];
        for round in 0..8 {
            let key = TopicKey::parse(["x/one", "x/two"][round % 2]).unwrap();
            reached[round % 2].push(turns.order(&key, &nodes).next().unwrap().name.clone());
        }
        for names in reached {
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }

    #[test]
    fn requests_for_one_server_do_not_skew_those_for_any() {
        let (turns, key) = (Rotation::new(), TopicKey::parse("x/t").unwrap());
        let placement = placement(&["a", "b"]);
        let (all, one) = (placement.candidates(None), placement.candidates(Some(&"a".parse().unwrap())));
        let first = turns.order(&key, &all).next();
        assert_eq!(turns.order(&key, &one).map(|node| node.name.as_str()).collect::<String>(), "a");
        assert_ne!(turns.order(&key, &all).next(), first);
    }

    #[test]
    fn the_number_of_remembered_topics_is_bounded() {
        let turns = Rotation::new();
        let nodes = placement(&["a", "b"]).candidates(None);
        for number in 0..MAX_TOPICS + 5 {
            let _ = turns.order(&TopicKey::parse(&format!("x/t{number}")).unwrap(), &nodes).next();
        }
        assert!(turns.turns.read().unwrap().len() <= MAX_TOPICS);
    }
}
