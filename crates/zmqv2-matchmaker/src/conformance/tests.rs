//! The suite passes for a directory in memory with leases, its own clock and outages.
//!
//! It stands for a networked directory: a "server" ([`Store`]) that is asked once per topic,
//! answers that are remembered and renewed, and stale answers while the server is unreachable.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zmqv2_proto::{Node, NodeName, ServerName, Target, TopicKey};

use crate::conformance::{self, Capabilities, Fixture, LEASE};
use crate::{Completeness, Health, Matchmaker, MatchmakerError, PlacedNode, Placement, Refreshed, Registration};

/// A node, and when the lease of each server there ends.
type Hosting = (Node, BTreeMap<ServerName, Duration>);

#[derive(Debug, Default)]
struct Store {
    now: Duration,
    down: bool,
    queries: usize,
    topics: HashMap<TopicKey, BTreeMap<NodeName, Hosting>>,
}

impl Store {
    fn up(&mut self) -> Result<&mut Self, MatchmakerError> {
        if self.down {
            return Err(MatchmakerError::Unavailable { directory: "memory".into(), source: "switched off".into() });
        }
        Ok(self)
    }

    fn put(&mut self, registration: &Registration, lease: Duration) {
        let Registration { key, server, node } = registration;
        let fresh = || (node.clone(), BTreeMap::new());
        let (at, servers) = self.topics.entry(key.clone()).or_default().entry(node.name.clone()).or_insert_with(fresh);
        *at = node.clone();
        servers.insert(server.clone(), self.now + lease);
    }

    fn remove(&mut self, registration: &Registration) {
        let nodes = self.topics.entry(registration.key.clone()).or_default();
        if let Some((_, servers)) = nodes.get_mut(&registration.node.name) {
            servers.remove(&registration.server);
        }
    }

    fn ask(&mut self, key: &TopicKey) -> Placement {
        self.queries += 1;
        let live = |(node, servers): &Hosting| PlacedNode {
            node: node.clone(),
            servers: servers.iter().filter(|(_, end)| **end > self.now).map(|(server, _)| server.clone()).collect(),
        };
        let nodes = self.topics.get(key).into_iter().flat_map(BTreeMap::values).map(live);
        Placement::new(nodes.filter(|placed| !placed.servers.is_empty()).collect())
    }
}

#[derive(Debug, Default)]
struct MemoryMatchmaker {
    store: Arc<Mutex<Store>>,
    cache: Mutex<HashMap<TopicKey, Arc<Placement>>>,
    problem: Mutex<Option<String>>,
    generation: AtomicU64,
}

impl Matchmaker for MemoryMatchmaker {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn resolve_all(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        let mut cache = self.cache.lock().unwrap();
        if let Some(placement) = cache.get(key) {
            return Ok(Arc::clone(placement));
        }
        let placement = Arc::new(self.store.lock().unwrap().up()?.ask(key));
        cache.insert(key.clone(), Arc::clone(&placement));
        Ok(placement)
    }

    fn known(&self, key: &TopicKey) -> Option<Arc<Placement>> {
        self.cache.lock().unwrap().get(key).cloned()
    }

    fn register(&self, registration: &Registration, lease: Duration) -> Result<(), MatchmakerError> {
        self.store.lock().unwrap().up()?.put(registration, lease);
        self.refresh().map(drop)
    }

    fn withdraw(&self, registration: &Registration) -> Result<(), MatchmakerError> {
        self.store.lock().unwrap().up()?.remove(registration);
        self.refresh().map(drop)
    }

    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        let mut cache = self.cache.lock().unwrap();
        let mut store = self.store.lock().unwrap();
        let up = store.up();
        *self.problem.lock().unwrap() = up.as_ref().err().map(ToString::to_string);
        if let Err(error) = &up {
            for placement in cache.values_mut().filter(|placement| placement.completeness().is_complete()) {
                *placement = Arc::new(placement.marked(Completeness::incomplete(error.to_string())));
            }
        }
        let store = up?;
        let mut refreshed = Refreshed::Unchanged;
        for (key, placement) in &mut *cache {
            let fresh = store.ask(key);
            if fresh != **placement {
                *placement = Arc::new(fresh);
                refreshed = Refreshed::Changed;
            }
        }
        if refreshed == Refreshed::Changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(refreshed)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn health(&self) -> Health {
        self.problem
            .lock()
            .unwrap()
            .clone()
            .map_or(Health::Ok, |reason| Health::Stale { reason, since: crate::cached::now() })
    }
}

#[derive(Default)]
struct MemoryFixture(Arc<MemoryMatchmaker>);

impl Fixture for MemoryFixture {
    fn matchmaker(&self) -> Arc<dyn Matchmaker> {
        Arc::clone(&self.0) as _
    }

    fn place(&mut self, registration: &Registration) {
        self.0.store.lock().unwrap().put(registration, LEASE);
    }

    fn displace(&mut self, registration: &Registration) {
        self.0.store.lock().unwrap().remove(registration);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { leases: true, interruptible: true, ..Capabilities::default() }
    }

    fn let_pass(&mut self, time: Duration) {
        self.0.store.lock().unwrap().now += time;
    }

    fn interrupt(&mut self, down: bool) {
        self.0.store.lock().unwrap().down = down;
    }
}

#[test]
fn a_directory_with_leases_and_outages_conforms() {
    conformance::run(&mut MemoryFixture::default());
}

#[test]
fn a_topic_never_asked_is_unavailable_during_an_outage_and_a_known_one_is_not_asked_again_rg10() {
    let directory = MemoryMatchmaker::default();
    let (known, unknown) = (Target::topic("known").unwrap(), Target::topic("unknown").unwrap());
    for _ in 0..100 {
        directory.resolve_all(&known.key()).unwrap();
    }
    assert_eq!(directory.store.lock().unwrap().queries, 1);
    directory.store.lock().unwrap().down = true;
    assert!(directory.known(&unknown.key()).is_none());
    assert!(matches!(directory.resolve_all(&unknown.key()), Err(MatchmakerError::Unavailable { .. })));
    assert!(directory.resolve_all(&known.key()).is_ok());
}
