//! FANOUT: every run of a server of the topic gets a copy.

use std::time::Instant;

use super::pending::{Queue, Recipient};
use super::{Arrival, Counter, Engine};

impl<O: Clone, P: Clone> Engine<O, P> {
    /// Each copy waits for its own server, and is answered alone: a slow server delays no other.
    pub(super) fn fanout(&mut self, now: Instant, arrival: Arrival<'_>, from: O, payload: P) {
        let runs = self.runs_of(arrival);
        let Some((topic, runs)) = runs.filter(|(_, runs)| !runs.is_empty()) else {
            // Without servers the request is refused, or waits for the first one.
            return self.request_one(now, arrival, from, payload);
        };
        let group = (runs.len() > 1).then(|| self.groups.insert(runs.len()));
        for run in runs {
            self.counters.add(Counter::FanoutCopies);
            let queue = Queue { topic, recipient: Recipient::Run(run) };
            self.deliver_or_queue(now, arrival, from.clone(), payload.clone(), queue, group);
        }
    }

    /// The topic, and its runs that take work: all, or those of one server name.
    fn runs_of(&self, arrival: Arrival<'_>) -> Option<(usize, Vec<usize>)> {
        let topic = self.topic_of_servers(arrival.key)?;
        let entry = &self.topics[topic];
        let asked = entry.by_name.get(arrival.server).copied();
        let wanted = |named: usize| arrival.server.is_empty() || asked == Some(named);
        let runs = entry.named.iter().filter(|(named, _)| wanted(*named)).flat_map(|(_, named)| &named.runs).copied();
        Some((topic, runs.collect()))
    }
}
