//! How a broker stops: nothing new, what waits is refused, what is in flight is finished.

use zmqv2_proto::Reason;

use super::routes::Topic;
use super::{Action, Engine};

impl<O, L> Engine<O, L> {
    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        // Before anything else: whoever looks for a server now shall not come here.
        for (_, topic) in &self.topics {
            for (_, named) in &topic.named {
                if named.runs.iter().any(|run| self.servers[*run].is_connected()) {
                    let (key, server) = (topic.key.clone(), named.name.clone());
                    self.actions.push_back(Action::Unannounce { key, server });
                }
            }
        }
        let queues = |(number, topic): (usize, &Topic)| {
            let named: Vec<_> = topic.named.iter().map(|(named, _)| (number, Some(named))).collect();
            named.into_iter().chain([(number, None)])
        };
        for (topic, server) in self.topics.iter().flat_map(queues).collect::<Vec<_>>() {
            let tags = self.topics[topic].backlog(server).take();
            self.refuse_queued(tags, Reason::ShuttingDown, "the broker is stopping; the request did not run");
        }
        // Names before their topic, which goes with the last of them.
        for (topic, server) in self.topics.iter().flat_map(queues).collect::<Vec<_>>() {
            if self.topics.contains(topic) {
                self.tidy(topic, server);
            }
        }
        self.refuse_connecting();
    }

    pub(super) fn check_drained(&mut self) {
        if self.draining && !self.drained && self.requests.in_flight() == 0 {
            self.drained = true;
            self.actions.push_back(Action::Drained);
        }
    }
}
