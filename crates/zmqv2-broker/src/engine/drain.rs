//! How a broker stops: nothing new, what waits is refused, what is in flight is finished.

use zmqv2_proto::Reason;

use super::{Action, Engine};

impl<O, L> Engine<O, L> {
    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let mut waiting = Vec::new();
        for (_, topic) in &mut self.topics {
            waiting.push(topic.shared.take());
            waiting.extend(topic.named.iter_mut().map(|(_, named)| named.backlog.take()));
        }
        for tags in waiting {
            self.refuse_queued(tags, Reason::ShuttingDown, "the broker is stopping; the request did not run");
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
