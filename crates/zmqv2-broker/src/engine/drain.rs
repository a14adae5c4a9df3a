//! How a broker stops: nothing new, what waits is refused, what is in flight is finished.

use std::time::Instant;

use zmqv2_proto::Reason;

use super::pending::{Queue, Recipient};
use super::{Action, Engine};

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn drain(&mut self, now: Instant) {
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
        let runs = self.servers.iter().filter_map(|(number, server)| {
            let topic = server.memberships.first()?.topic;
            Some(Queue { topic, recipient: Recipient::Run(number) })
        });
        // Names before their topic, which goes with the last of them.
        let names = self.topics.iter().flat_map(|(topic, place)| {
            let named = place.named.iter().map(move |(named, _)| Queue { topic, recipient: Recipient::Server(named) });
            named.chain([Queue { topic, recipient: Recipient::AnyServer }])
        });
        let queues: Vec<Queue> = runs.chain(names).collect();
        for queue in &queues {
            // The senders of notifications have been told that they are kept: nobody is left to be told otherwise.
            let detail = "the broker is stopping; the request did not run";
            self.refuse_all_but(*queue, |request| request.notification.is_some(), Reason::ShuttingDown, detail);
        }
        for queue in queues {
            if self.topics.contains(queue.topic) {
                self.remove_queue_if_idle(queue);
            }
        }
        self.refuse_connecting(now);
    }

    /// What still waits are notifications that the store has for the next run. What a listener took now, it might have
    /// handled without being heard, and the next run would deliver it again.
    pub(super) fn leaves_notifications_in_store(&self) -> bool {
        self.draining && self.limits.durable
    }

    /// Whether listeners have notifications that they have not handled yet.
    #[must_use]
    pub fn has_unhandled_notifications(&self) -> bool {
        self.servers.iter().any(|(_, server)| server.notes > 0)
    }

    pub(super) fn check_drained(&mut self) {
        if self.draining && !self.drained && self.pending.in_flight() == 0 {
            self.drained = true;
            self.actions.push_back(Action::Drained);
        }
    }
}
