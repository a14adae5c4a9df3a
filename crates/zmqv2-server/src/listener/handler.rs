//! Endpoints made of closures.

use std::fmt;

use super::endpoint::{
    BatchEndpoint, BatchResult, IntoBatchResult, IntoNotificationResult, NotificationEndpoint, NotificationResult,
};
use super::filter::NotificationFilter;
use super::notice::Notice;
use super::priorities::Priorities;

/// A closure, with the priorities and the filter of the notifications that it wants.
///
/// ```
/// use zmqv2_server::{Handler, NotificationFilter, NotificationListener, Priority};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let created = NotificationFilter::new().event_type(r"compute\.instance\.create\.")?;
/// let count = Handler::new(Priority::Info, |notice| println!("{} made one more", notice.publisher_id()));
/// let builder = NotificationListener::builder().topic("notifications")?.endpoint(count.filter(created));
/// # let _ = builder;
/// # Ok(())
/// # }
/// ```
pub struct Handler<F> {
    priorities: Priorities,
    filter: Option<NotificationFilter>,
    run: F,
}

impl<F> Handler<F> {
    /// Calls `run` with each notification of these priorities.
    #[must_use]
    pub fn new<R: IntoNotificationResult>(priorities: impl Into<Priorities>, run: F) -> Self
    where
        F: Fn(&Notice) -> R + Send + Sync,
    {
        Self { priorities: priorities.into(), filter: None, run }
    }

    /// Calls `run` with the notifications of these priorities in each batch.
    #[must_use]
    pub fn batch<R: IntoBatchResult>(priorities: impl Into<Priorities>, run: F) -> Self
    where
        F: Fn(&[&Notice]) -> R + Send + Sync,
    {
        Self { priorities: priorities.into(), filter: None, run }
    }

    /// Calls the closure only with notifications that `filter` matches.
    #[must_use]
    pub fn filter(mut self, filter: NotificationFilter) -> Self {
        self.filter = Some(filter);
        self
    }
}

impl<F> fmt::Debug for Handler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("priorities", &self.priorities)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl<F, R> NotificationEndpoint for Handler<F>
where
    F: Fn(&Notice) -> R + Send + Sync,
    R: IntoNotificationResult,
{
    fn priorities(&self) -> Priorities {
        self.priorities
    }

    fn filter(&self) -> Option<&NotificationFilter> {
        self.filter.as_ref()
    }

    fn notify(&self, notice: &Notice) -> NotificationResult {
        (self.run)(notice).into_result()
    }
}

impl<F, R> BatchEndpoint for Handler<F>
where
    F: Fn(&[&Notice]) -> R + Send + Sync,
    R: IntoBatchResult,
{
    fn priorities(&self) -> Priorities {
        self.priorities
    }

    fn filter(&self) -> Option<&NotificationFilter> {
        self.filter.as_ref()
    }

    fn notify_batch(&self, batch: &[&Notice]) -> BatchResult {
        (self.run)(batch).into_result()
    }
}
