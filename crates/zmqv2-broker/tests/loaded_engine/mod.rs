//! An engine with many topics, workers and requests, to measure the cost of one more request.

use std::time::{Duration, Instant};

use zmqv2_broker::engine::{Action, Arrival, Engine, Input, Limits, Offer};
use zmqv2_proto::control::ServerRegistration;
use zmqv2_proto::{InstanceId, MessageId, Target};

/// The load of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Topics with one server each.
    pub(crate) topics: usize,
    /// Workers of each server.
    pub(crate) workers: u16,
    /// Requests that workers of the first topic have, and never answer.
    pub(crate) in_flight: usize,
    /// Requests that wait in a topic of their own, for a server that never comes.
    pub(crate) waiting: usize,
}

impl Size {
    /// One topic with two idle workers.
    pub(crate) const SMALL: Self = Self { topics: 1, workers: 2, in_flight: 0, waiting: 0 };
}

/// An engine with load, and its driver.
#[derive(Debug)]
pub(crate) struct LoadedEngine {
    engine: Engine<u32, u32>,
    keys: Vec<String>,
    now: Instant,
    sent: u64,
    next: usize,
}

impl LoadedEngine {
    /// Registers the servers and sends the requests.
    pub(crate) fn new(size: Size) -> Self {
        #[allow(clippy::disallowed_methods, reason = "one arbitrary instant to count from; nothing waits")]
        let now = Instant::now();
        let mut limits = Limits::default();
        limits.topic_backlog = limits.topic_backlog.max(size.waiting);
        let mut loaded = Self { engine: Engine::new(limits), keys: Vec::new(), now, sent: 0, next: 0 };
        for n in 0..size.topics {
            let target = Target::topic(format!("topic-{n}")).expect("a topic");
            let registration = ServerRegistration::new(InstanceId::random(), size.workers, 1, 1);
            let offer = Offer::new(target.key(), format!("s{n}").parse().expect("a name"), registration);
            loaded.engine.handle(now, Input::Register { offer, from: 0 });
            while let Some(action) = loaded.engine.poll_action() {
                if let Action::Connect { worker, .. } = action {
                    loaded.engine.handle(now, Input::WorkerUp { worker });
                }
            }
            loaded.keys.push(target.key().to_string());
        }
        let first = loaded.keys[0].clone();
        for _ in 0..size.in_flight {
            loaded.request(&first, false).expect("a free worker");
        }
        for _ in 0..size.waiting {
            assert!(loaded.request("openstack/nobody", true).is_none());
        }
        loaded
    }

    fn request(&mut self, key: &str, wait: bool) -> Option<(usize, u64)> {
        self.sent += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sent.to_be_bytes());
        let deadline = self.now + Duration::from_secs(60);
        let mut arrival = Arrival::new(MessageId::from_bytes(id), key, deadline, 600);
        arrival.wait_for_ready = wait;
        self.engine.handle(self.now, Input::Request { arrival, from: 1, payload: 2 });
        let mut delivered = None;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Deliver { worker, tag, .. } => delivered = Some((worker, tag)),
                other => panic!("{other:?}"),
            }
        }
        delivered
    }

    /// One request of the next topic, from its arrival to its answer.
    pub(crate) fn round_trip(&mut self) {
        let key = std::mem::take(&mut self.keys[self.next]);
        let (worker, tag) = self.request(&key, false).expect("a free worker");
        self.keys[self.next] = key;
        self.next = (self.next + 1) % self.keys.len();
        self.engine.handle(self.now, Input::Reply { worker, tag, credit: 1, refused: None, payload: 3 });
        assert!(matches!(self.engine.poll_action(), Some(Action::Answer { .. })));
        assert_eq!(self.engine.poll_action(), None);
        // A driver asks before each sleep. Time passes, so that the deadlines of answered requests
        // come.
        self.now += Duration::from_micros(100);
        if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.engine.expire(self.now);
            while self.engine.poll_action().is_some() {}
        }
    }
}
