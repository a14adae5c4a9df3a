//! A notification that comes again does not run again. Pure: `now` comes from the caller.
//!
//! A broker delivers a notification again after a restart, or if the acknowledgement was lost. The
//! ids of handled notifications are kept in [`RecentIds`].

use std::collections::HashMap;
use std::time::Instant;

use zmqv2_proto::MessageId;

use super::endpoint::Verdict;
use crate::rpc::duplicates::recent::{Bounds, RecentIds};

#[derive(Debug)]
pub(crate) struct Deliveries {
    /// With the tag of the last delivery that has come meanwhile.
    running: HashMap<MessageId, Option<u64>>,
    handled: RecentIds<()>,
}

/// What is known of a notification that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has not come before, and runs now.
    New,
    /// It runs already, and this delivery ends with it. An earlier delivery that waited for the
    /// same, with this tag, is replaced.
    Running(Option<u64>),
    Handled,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { running: HashMap::new(), handled: RecentIds::new(Bounds::default()) }
    }
}

impl Deliveries {
    /// A delivery with this tag has come.
    pub(crate) fn take(&mut self, id: MessageId, tag: u64) -> Known {
        if let Some(waiting) = self.running.get_mut(&id) {
            return Known::Running(waiting.replace(tag));
        }
        if self.handled.contains(id) {
            return Known::Handled;
        }
        self.running.insert(id, None);
        Known::New
    }

    /// It has run. Returns the tag of the last delivery that has come meanwhile.
    pub(crate) fn settle(&mut self, id: MessageId, verdict: Verdict, deadline: Instant, now: Instant) -> Option<u64> {
        if verdict == Verdict::Handled {
            self.handled.record(id, deadline, now);
        }
        self.running.remove(&id).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ID: MessageId = MessageId::from_bytes([7; 16]);

    fn times() -> (Instant, Instant) {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
        let now = Instant::now();
        (now, now + Duration::from_secs(5))
    }

    #[test]
    fn a_handled_notification_is_known_until_its_time_is_over() {
        let (mut deliveries, (now, end)) = (Deliveries::default(), times());
        assert_eq!(deliveries.take(ID, 1), Known::New);
        assert_eq!(deliveries.settle(ID, Verdict::Handled, end, now), None);
        assert_eq!(deliveries.take(ID, 2), Known::Handled);
        let other = MessageId::from_bytes([8; 16]);
        deliveries.take(other, 3);
        deliveries.settle(other, Verdict::Handled, end, end + Duration::from_secs(60));
        assert_eq!(deliveries.take(ID, 4), Known::New);
    }

    #[test]
    fn a_delivery_that_comes_while_the_notification_runs_ends_with_it() {
        let (mut deliveries, (now, end)) = (Deliveries::default(), times());
        assert_eq!(deliveries.take(ID, 1), Known::New);
        assert_eq!(deliveries.take(ID, 2), Known::Running(None));
        assert_eq!(deliveries.take(ID, 3), Known::Running(Some(2)));
        assert_eq!(deliveries.settle(ID, Verdict::Handled, end, now), Some(3));
        assert!(deliveries.running.is_empty());
    }

    #[test]
    fn a_requeued_notification_is_forgotten() {
        let (mut deliveries, (now, end)) = (Deliveries::default(), times());
        assert_eq!(deliveries.take(ID, 1), Known::New);
        assert_eq!(deliveries.settle(ID, Verdict::Requeue, end, now), None);
        assert_eq!(deliveries.take(ID, 2), Known::New);
    }
}
