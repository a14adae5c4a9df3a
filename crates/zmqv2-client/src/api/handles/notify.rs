//! The outcomes of a notification.

use std::fmt;

use zmqv2_proto::{MessageId, NodeName, ServerName, Topic};

use crate::api::handles::report::{Report, ReportHandle, ReportResult};
use crate::outcome::Outcome;

/// The handle of a notification, made by the verbs of a [`Notifier`](crate::Notifier).
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::{Notifier, Outcome, RequestContext};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let notifier = Notifier::builder("compute.node-7").build()?;
/// let handle = notifier.error(&RequestContext::new(), "disk.full", &"/var")?;
/// for result in handle.wait(Duration::from_secs(5)).unwrap_or_else(|| handle.so_far()).results {
///     match result.outcome {
///         Outcome::Acked { .. } => println!("a listener of {:?} accepted it", result.pool),
///         Outcome::Stored { node, .. } => println!("{node} keeps it for {:?}", result.pool),
///         other => println!("{other}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub type NotifyHandle = ReportHandle<NotifyResult>;

/// The outcomes of a notification: one for each pool of each topic.
pub type NotifyReport = Report<NotifyResult>;

/// The outcome of a notification for one pool of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotifyResult {
    /// The topic, without the priority.
    pub topic: Topic,
    /// The pool; `None`: no pool is known, so the broker keeps it for the first pool that comes.
    pub pool: Option<ServerName>,
    /// The outcome.
    pub outcome: Outcome,
}

impl NotifyHandle {
    /// The id of the notification that listeners see: a UUID, the same for all topics and pools.
    #[must_use]
    pub fn message_id(&self) -> String {
        uuid(self.id)
    }
}

/// The id as listeners of notifications expect it, with hyphens.
pub(crate) fn uuid(id: MessageId) -> String {
    let mut text = id.to_string();
    for position in [8, 13, 18, 23] {
        text.insert(position, '-');
    }
    text
}

impl ReportResult for NotifyResult {
    const CAN_BE_STORED: bool = true;

    fn new(topic: Topic, _: Option<NodeName>, pool: Option<ServerName>, outcome: Outcome) -> Self {
        Self { topic, pool, outcome }
    }

    fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

impl fmt::Display for NotifyResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pool {
            Some(pool) => write!(f, "pool {pool} of {}: {}", self.topic, self.outcome),
            None => write!(f, "{}: {}", self.topic, self.outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_hyphens() {
        let id: MessageId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(uuid(id), "01234567-89ab-cdef-0123-456789abcdef");
    }
}
