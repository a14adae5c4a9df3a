//! A stopping broker refuses new and waiting requests, and finishes those in flight.

use std::time::Instant;

use zmqv2_proto::Reason;

use super::pending::{Queue, Recipient};
use super::topics::Named;
use super::{Action, Engine};

impl<O: Clone, P: Clone> Engine<O, P> {
    pub(super) fn drain(&mut self, now: Instant) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        // First, so that clients which look for a server now do not choose this node.
        for (topic, entry) in &self.topics {
            for (named, Named { name, .. }) in &entry.named {
                if self.connected_runs(topic, named) > 0 {
                    let (key, server) = (entry.key.clone(), name.clone());
                    self.actions.push_back(Action::Unannounce { key, server });
                }
            }
        }
        let runs = self.servers.iter().filter_map(|(number, server)| {
            let topic = server.memberships.first()?.topic;
            Some(Queue { topic, recipient: Recipient::Run(number) })
        });
        let names = self.topics.iter().flat_map(|(topic, entry)| {
            let named = entry.named.iter().map(move |(named, _)| Queue { topic, recipient: Recipient::Server(named) });
            named.chain([Queue { topic, recipient: Recipient::AnyServer }])
        });
        let queues: Vec<Queue> = runs.chain(names).collect();
        for queue in queues {
            // Notifications stay, because their senders know that they are stored.
            let detail = "the broker is stopping; the request did not run";
            self.refuse_all_but(queue, |request| request.notification.is_some(), Reason::ShuttingDown, detail);
        }
        for (_, instance) in std::mem::take(&mut self.connecting) {
            self.give_up_connecting(now, instance);
        }
    }

    /// Whether waiting notifications stay in the store for the next run of the broker. If they were
    /// delivered now, this run might end before the reports, and the next run would repeat them.
    pub(super) fn leaves_notifications_in_store(&self) -> bool {
        self.draining && self.limits.durable
    }

    /// Whether listeners have notifications that they have not handled yet.
    pub fn has_unhandled_notifications(&self) -> bool {
        self.servers.iter().any(|(_, server)| server.notifications > 0)
    }

    pub(super) fn check_drained(&mut self) {
        if self.draining && !self.drained && self.pending.in_flight() == 0 {
            self.drained = true;
            self.actions.push_back(Action::Drained);
        }
    }
}
