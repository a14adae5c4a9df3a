//! A notification that comes again does not run again. Pure: `now` comes from the caller.
//!
//! A broker delivers a notification again after a restart, or if the acknowledgement was lost. The
//! ids of handled notifications are kept in [`RecentIds`].

use std::collections::HashMap;
use std::time::Instant;

use zmqv2_proto::MessageId;

use super::endpoint::Verdict;
use crate::rpc::duplicates::recent::RecentIds;

#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    /// Notifications that run, each with the tag of the last delivery that came during the run.
    running: HashMap<MessageId, Option<u64>>,
    handled: RecentIds<()>,
}

/// What the listener knows of a notification when a delivery comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The notification is new. It runs now.
    New,
    /// The notification runs already, and this delivery ends when the run ends. The tag is of an
    /// earlier delivery that waited for the run. The earlier delivery ends now.
    Running(Option<u64>),
    Handled,
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

    /// A notification has run. Returns the tag of the last delivery that came during the run.
    pub(crate) fn settle(&mut self, id: MessageId, verdict: Verdict, deadline: Instant, now: Instant) -> Option<u64> {
        if verdict == Verdict::Handled {
            self.handled.record(id, deadline, now);
        }
        self.running.remove(&id).flatten()
    }
}

#[cfg(test)]
#[path = "tests/deliveries.rs"]
mod tests;
