//! The engine's part of a status report.

use std::collections::BTreeMap;

use zmqv2_proto::control::{ServerStatus, StatusReport, TopicStatus};
use zmqv2_proto::{Exchange, Topic, TopicKey};

use super::Engine;

impl<O: Clone, P: Clone> Engine<O, P> {
    /// Fills in everything that the engine knows. Topics are in the order of their keys.
    pub fn report(&self, into: &mut StatusReport) {
        let mut topics: BTreeMap<&TopicKey, TopicStatus> = BTreeMap::new();
        let status = |key: &TopicKey, queued: usize| {
            // A key was made from two valid names, so this succeeds.
            let (exchange, topic) = (Exchange::new(key.exchange()).ok()?, Topic::new(key.topic()).ok()?);
            let mut status = TopicStatus::new(exchange, topic, queued as u64);
            status.receivers = key.receivers();
            Some(status)
        };
        for (_, topic) in &self.topics {
            topics.extend(status(&topic.key, topic.shared.len()).map(|status| (&topic.key, status)));
        }
        for (_, server) in &self.servers {
            let mut line = ServerStatus::new(server.name.clone(), server.instance, server.pid);
            let (ready, busy) = server.count_workers(&self.workers);
            (line.workers_ready, line.workers_busy) = (ready as u64, busy as u64);
            line.withdrawing = !server.takes_work();
            // A server is under each of its topics. Its copies of fanouts count in the first.
            for (index, key) in server.keys.iter().enumerate() {
                // The memberships are in the order of the keys.
                let membership = server.memberships.get(index);
                let named = membership.map_or(0, |at| self.topics[at.topic].named[at.named].backlog.len());
                let own = if index == 0 { server.backlog.len() } else { 0 };
                line.queued = (named + own) as u64;
                if !topics.contains_key(key) {
                    topics.extend(status(key, 0).map(|status| (key, status)));
                }
                if let Some(topic) = topics.get_mut(key) {
                    topic.servers.push(line.clone());
                }
            }
        }
        into.topics = topics.into_values().collect();
        for topic in &mut into.topics {
            topic.servers.sort_by(|a, b| (&a.server, a.instance).cmp(&(&b.server, b.instance)));
        }
        into.in_flight = self.in_flight() as u64;
        into.queued = self.topics.iter().map(|(_, topic)| topic.waiting as u64).sum();
        into.held_bytes = (self.request_bytes + self.notification_bytes) as u64;
        into.notifications = self.notifications() as u64;
        into.draining = self.draining;
        into.counters = self.counters.iter().map(|(counter, count)| (counter.name().to_owned(), count)).collect();
    }

    /// Counts an event that only the driver sees.
    pub fn count(&mut self, counter: super::Counter) {
        self.counters.add(counter);
    }
}
