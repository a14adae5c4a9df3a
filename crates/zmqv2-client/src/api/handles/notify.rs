//! What a sender holds of a notification, and what it says in the end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use zmqv2_proto::{ServerName, Topic};

use crate::outcome::Outcome;
use crate::outcome::result_group::{GroupReceiver, Part};

/// A notification on its way, made by the verbs of a [`Notifier`](crate::Notifier).
///
/// `Send` and `Sync`. It can be polled, waited on, awaited on any executor, or dropped. Every pool still has its outcome when the handle was
/// dropped: it counts, the [observer](crate::NotifierBuilder::observer) sees it, and unless somebody has taken it over a
/// warning is logged.
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::{Notifier, Outcome};
/// # use zmqv2_proto::RequestContext;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let notifier = Notifier::builder("compute.node-7").build()?;
/// let handle = notifier.error(&RequestContext::new(), "disk.full", &"/var")?;
/// for result in handle.wait(Duration::from_secs(5)).unwrap_or_else(|| handle.so_far()).results {
///     match result.outcome {
///         Outcome::Acked { .. } => println!("a listener of {:?} has it", result.pool),
///         Outcome::Stored { node, .. } => println!("{node} keeps it for {:?}", result.pool),
///         other => println!("{other}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, the outcomes reach only the counters, the observer and the log"]
pub struct NotifyHandle {
    message_id: String,
    receiver: GroupReceiver,
}

impl NotifyHandle {
    pub(crate) fn new(message_id: String, receiver: GroupReceiver) -> Self {
        Self { message_id, receiver }
    }

    /// The notification's id, as its listeners see it: a UUID in text, the same for all topics and pools.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// What became of it for every topic and pool, if that is known by now.
    #[must_use]
    pub fn report(&self) -> Option<NotifyReport> {
        self.receiver.is_complete().then(|| self.so_far())
    }

    /// Waits for the report; `None` when it is not complete within `timeout`. It is by the notifier's
    /// [timeout](crate::NotifierBuilder::timeout) (+ 50 ms).
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<NotifyReport> {
        self.receiver.wait(timeout).then(|| self.so_far())
    }

    /// What is known by now.
    #[must_use]
    pub fn so_far(&self) -> NotifyReport {
        self.receiver.look(|parts, open| NotifyReport { results: parts.iter().flat_map(results).collect(), open })
    }
}

impl Future for NotifyHandle {
    type Output = NotifyReport;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<NotifyReport> {
        if !self.receiver.poll(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.so_far())
    }
}

fn results(part: &Part) -> impl Iterator<Item = NotifyResult> {
    part.tracker.results().iter().map(|entry| NotifyResult {
        topic: part.topic.clone(),
        pool: entry.server.clone(),
        outcome: entry.outcome.clone(),
    })
}

/// What became of a notification, by topic and pool.
///
/// Shown with `{}`, it is one line of counts; with `{:#}`, a line follows for everything that nobody has taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotifyReport {
    /// One for each pool of each topic.
    pub results: Vec<NotifyResult>,
    /// How many messages have no last word yet; 0 in a complete report.
    pub open: usize,
}

/// What became of a notification for one pool of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotifyResult {
    /// The topic, without the priority.
    pub topic: Topic,
    /// The pool; `None`: for whichever comes first, or nobody knows which there are.
    pub pool: Option<ServerName>,
    /// What became of it.
    pub outcome: Outcome,
}

impl NotifyReport {
    /// How many pools have a listener that has accepted it.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.count(Outcome::is_acked)
    }

    /// For how many pools a broker keeps it.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Stored { .. }))
    }

    /// How many results are refusals.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Refused { .. }))
    }

    /// How many results say that nobody has answered.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Unacknowledged { .. }))
    }

    /// Whether a listener of every pool has accepted it.
    #[must_use]
    pub fn all_acked(&self) -> bool {
        self.is_all(self.acked())
    }

    /// Whether for every pool a listener has accepted it or a broker keeps it: nothing is left to do for the sender.
    #[must_use]
    pub fn all_taken_over(&self) -> bool {
        self.is_all(self.count(Outcome::is_taken_over))
    }

    fn is_all(&self, count: usize) -> bool {
        self.open == 0 && count > 0 && count == self.results.len()
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.results.iter().filter(|result| which(&result.outcome)).count()
    }
}

impl fmt::Display for NotifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, refused, silent) = (self.results.len(), self.refused(), self.unacknowledged());
        let (acked, stored) = (self.acked(), self.stored());
        write!(f, "accepted by {acked} of {all}, {stored} stored, {refused} refused, {silent} unacknowledged")?;
        if self.open > 0 {
            write!(f, ", {} open", self.open)?;
        }
        if f.alternate() {
            for result in self.results.iter().filter(|result| !result.outcome.is_taken_over()) {
                write!(f, "\n{result}")?;
            }
        }
        Ok(())
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
