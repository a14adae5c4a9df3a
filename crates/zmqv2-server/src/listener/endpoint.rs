//! Who takes notifications, and what comes of them.

use super::filter::NotificationFilter;
use super::notice::Notice;
use super::priorities::Priorities;
use crate::rpc::endpoint::HandlerError;

/// What becomes of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is done with; this pool does not get it again.
    Handled,
    /// It shall come again, to any listener of the pool, until the broker's limit of deliveries
    /// (option `rpc_zmq_max_deliveries`) or the end of its time to live.
    Requeue,
}

/// What an endpoint comes to. An error is logged, and the notification counts as handled: a handler that wants it again says
/// [`Verdict::Requeue`].
pub type NotificationResult = Result<Verdict, HandlerError>;

/// Takes notifications one by one. Implement it for a service with state; for closures there is
/// [`NotificationListenerBuilder::on`](crate::NotificationListenerBuilder::on).
///
/// Called by several workers at once, so `Sync`. A panic in it is logged, counts as handled, and the worker goes on.
///
/// ```
/// use zmqv2_server::{Notice, NotificationEndpoint, NotificationResult, Priorities, Priority, Verdict};
///
/// struct Billing;
///
/// impl NotificationEndpoint for Billing {
///     fn priorities(&self) -> Priorities {
///         Priority::Info.into()
///     }
///
///     fn notify(&self, notice: &Notice) -> NotificationResult {
///         let hours: f64 = notice.payload()?;
///         println!("{} owes {hours} hours", notice.publisher_id());
///         Ok(Verdict::Handled)
///     }
/// }
/// # assert!(Billing.priorities().contains(Priority::Info));
/// ```
pub trait NotificationEndpoint: Send + Sync {
    /// Which priorities it wants; asked once, at the start.
    fn priorities(&self) -> Priorities {
        Priorities::ALL
    }

    /// Which notifications of these priorities it wants; `None`: all.
    fn filter(&self) -> Option<&NotificationFilter> {
        None
    }

    /// Takes a notification.
    ///
    /// # Errors
    /// What went wrong, for the log.
    fn notify(&self, notice: &Notice) -> NotificationResult;
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchVerdict {
    /// The same for all of them.
    All(Verdict),
    /// One for each, in their order. Any other number is an error of the endpoint.
    Each(Vec<Verdict>),
}

/// What an endpoint for batches comes to; errors are as in [`NotificationResult`], for the whole batch.
pub type BatchResult = Result<BatchVerdict, HandlerError>;

/// Takes notifications in batches ([`NotificationListenerBuilder::batch`](crate::NotificationListenerBuilder::batch)): all those of a batch that it
/// wants, in the order in which they came. Not called when it wants none.
pub trait BatchEndpoint: Send + Sync {
    /// Which priorities it wants; asked once, at the start.
    fn priorities(&self) -> Priorities {
        Priorities::ALL
    }

    /// Which notifications of these priorities it wants; `None`: all.
    fn filter(&self) -> Option<&NotificationFilter> {
        None
    }

    /// Takes notifications, at least one.
    ///
    /// # Errors
    /// What went wrong, for the log.
    fn notify_batch(&self, batch: &[&Notice]) -> BatchResult;
}

/// What a closure for one notification may return: nothing, a [`Verdict`], or a `Result` of one of these.
pub trait IntoNotificationResult {
    /// The same as a result; nothing means handled.
    ///
    /// # Errors
    /// The closure's.
    fn into_result(self) -> NotificationResult;
}

impl IntoNotificationResult for () {
    fn into_result(self) -> NotificationResult {
        Ok(Verdict::Handled)
    }
}

impl IntoNotificationResult for Verdict {
    fn into_result(self) -> NotificationResult {
        Ok(self)
    }
}

impl<T: IntoNotificationResult, E: Into<HandlerError>> IntoNotificationResult for Result<T, E> {
    fn into_result(self) -> NotificationResult {
        self.map_err(Into::into)?.into_result()
    }
}

/// What a closure for a batch may return: nothing, a [`Verdict`] for all, a `Vec` of one for each, or a `Result` of one of these.
pub trait IntoBatchResult {
    /// The same as a result; nothing means that all are handled.
    ///
    /// # Errors
    /// The closure's.
    fn into_result(self) -> BatchResult;
}

impl IntoBatchResult for () {
    fn into_result(self) -> BatchResult {
        Ok(BatchVerdict::All(Verdict::Handled))
    }
}

impl IntoBatchResult for Verdict {
    fn into_result(self) -> BatchResult {
        Ok(BatchVerdict::All(self))
    }
}

impl IntoBatchResult for Vec<Verdict> {
    fn into_result(self) -> BatchResult {
        Ok(BatchVerdict::Each(self))
    }
}

impl IntoBatchResult for BatchVerdict {
    fn into_result(self) -> BatchResult {
        Ok(self)
    }
}

impl<T: IntoBatchResult, E: Into<HandlerError>> IntoBatchResult for Result<T, E> {
    fn into_result(self) -> BatchResult {
        self.map_err(Into::into)?.into_result()
    }
}
