//! The directory of a cluster of one node.

use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::{Node, TopicKey};

use crate::api::{Health, Matchmaker, MatchmakerError, PlacedNode, Placement, Refreshed, Registration};

/// Every topic is on this one node (`rpc_zmq_matchmaker = local`, the default).
///
/// Every answer is this node without a list of servers, also for a topic or server that does not
/// exist. The client's process cannot see the registrations in the broker's process, so the broker
/// decides and refuses with `NoRoute`. For the same reason registrations are accepted and ignored.
/// No method does I/O.
#[derive(Debug)]
pub struct LocalMatchmaker(Arc<Placement>);

impl LocalMatchmaker {
    /// A directory of `node` alone.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self(Arc::new(Placement::new(vec![PlacedNode::unlisted(node)])))
    }
}

impl Matchmaker for LocalMatchmaker {
    fn name(&self) -> &'static str {
        "local"
    }

    fn resolve_all(&self, _key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        Ok(Arc::clone(&self.0))
    }

    fn known(&self, _key: &TopicKey) -> Option<Arc<Placement>> {
        Some(Arc::clone(&self.0))
    }

    fn register(&self, _registration: &Registration, _lease: Duration) -> Result<(), MatchmakerError> {
        Ok(())
    }

    fn withdraw(&self, _registration: &Registration) -> Result<(), MatchmakerError> {
        Ok(())
    }

    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        Ok(Refreshed::Unchanged)
    }

    fn generation(&self) -> u64 {
        0
    }

    fn health(&self) -> Health {
        Health::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Capabilities, Fixture};

    struct Local(Arc<LocalMatchmaker>);

    impl Fixture for Local {
        fn matchmaker(&self) -> Arc<dyn Matchmaker> {
            Arc::clone(&self.0) as _
        }

        fn place(&mut self, _registration: &Registration) {}

        fn displace(&mut self, _registration: &Registration) {}

        fn capabilities(&self) -> Capabilities {
            Capabilities { single_node: true, read_only: true, ..Capabilities::default() }
        }
    }

    #[test]
    fn it_conforms() {
        let node = Node::new("n1".parse().unwrap(), "127.0.0.1:9501".parse().unwrap());
        conformance::run(&mut Local(Arc::new(LocalMatchmaker::new(node))));
    }
}
