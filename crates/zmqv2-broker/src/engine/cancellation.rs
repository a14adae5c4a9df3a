//! Requests that their senders no longer want: a caller gave up, or its connection has ended.
//!
//! A request that waits is dropped without an answer. One that a server has stays there, and the
//! server learns of it, if it can. A server that hands it back drops it. Only the sender can cancel
//! a request: its connection is part of the key.

use zmqv2_proto::MessageId;

use super::pending::{Queue, State};
use super::{Action, ClientId, Counter, Engine};

impl<O: Clone, P: Clone> Engine<O, P> {
    /// Nothing happens if there is no such request of this client: it is to come, or has ended.
    pub(super) fn cancel(&mut self, client: ClientId, id: MessageId) {
        if let Some(tag) = self.pending.tag_of(client, id) {
            self.cancel_tag(tag, id);
        }
    }

    /// The connections of these clients have ended, so nobody can get the answers to their calls.
    /// Their other messages stay: nobody need wait for what a cast does.
    pub(super) fn clients_gone(&mut self, clients: &[ClientId]) {
        for (id, tag) in self.pending.calls_of(clients) {
            self.cancel_tag(tag, id);
        }
    }

    fn cancel_tag(&mut self, tag: u64, id: MessageId) {
        let Some(request) = self.pending.get_mut(tag) else { return };
        match request.state {
            State::Queued(queue) => self.drop_waiting(tag, queue),
            State::InFlight { worker } => {
                let again = std::mem::replace(&mut request.cancelled, true);
                if !again && self.servers[self.workers[worker].server].cancels {
                    self.actions.push_back(Action::Cancel { worker, tag, id });
                }
            }
            _ => {}
        }
    }

    fn drop_waiting(&mut self, tag: u64, queue: Queue) {
        let Some(request) = self.pending.remove(tag) else { return };
        self.request_bytes -= request.bytes;
        self.removed_from(queue);
        self.counters.add(Counter::Cancelled);
    }
}
