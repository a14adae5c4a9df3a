//! Endpoints of a listener, and their verdicts.

use super::filter::NotificationFilter;
use super::notice::Notice;
use super::priorities::Priorities;
use crate::handler_error::HandlerError;

/// What happens to a notification after its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The notification is done. Its pool does not get it again.
    Handled,
    /// The notification comes again, to any listener of its pool, until the broker's limit of
    /// deliveries (option `rpc_zmq_max_deliveries`) or the end of its time to live.
    Requeue,
}

/// The result of an endpoint. An error is logged, and the notification counts as handled. A handler
/// that wants it again returns [`Verdict::Requeue`].
pub type NotificationResult = Result<Verdict, HandlerError>;

/// Takes notifications one by one. Implement it for a service with state. For closures, use
/// [`NotificationListenerBuilder::on`](crate::NotificationListenerBuilder::on).
///
/// Several workers call it at the same time, so it must be `Sync`. A panic is logged, the
/// notification counts as handled, and the worker goes on.
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
    /// The priorities that the endpoint wants. The listener asks once, at the start.
    fn priorities(&self) -> Priorities {
        Priorities::ALL
    }

    /// The endpoint gets only notifications that this filter matches. `None`: it gets all.
    fn filter(&self) -> Option<&NotificationFilter> {
        None
    }

    /// Takes a notification.
    ///
    /// # Errors
    /// The error is logged.
    fn notify(&self, notice: &Notice) -> NotificationResult;
}

/// What happens to the notifications of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchVerdict {
    /// The same for all of them.
    All(Verdict),
    /// One for each, in their order. A different number is an error of the endpoint.
    Each(Vec<Verdict>),
}

/// The result of an endpoint for batches. An error counts for the whole batch, as in
/// [`NotificationResult`].
pub type BatchResult = Result<BatchVerdict, HandlerError>;

/// Takes notifications in batches. It gets the notifications of a
/// [batch](crate::NotificationListenerBuilder::batch) that it wants, in the order of their arrival.
/// It is not called if it wants none of them.
pub trait BatchEndpoint: Send + Sync {
    /// The priorities that the endpoint wants. The listener asks once, at the start.
    fn priorities(&self) -> Priorities {
        Priorities::ALL
    }

    /// The endpoint gets only notifications that this filter matches. `None`: it gets all.
    fn filter(&self) -> Option<&NotificationFilter> {
        None
    }

    /// Takes one or more notifications.
    ///
    /// # Errors
    /// The error is logged.
    fn notify_batch(&self, batch: &[&Notice]) -> BatchResult;
}

/// A result of a closure for one notification: nothing, a [`Verdict`], or a `Result` of one of
/// these.
pub trait IntoNotificationResult {
    /// Converts it. Nothing means handled.
    ///
    /// # Errors
    /// The error of the closure.
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

/// A result of a closure for a batch: nothing, a [`Verdict`] for all, a `Vec` with one for each, or
/// a `Result` of one of these.
pub trait IntoBatchResult {
    /// Converts it. Nothing means that all are handled.
    ///
    /// # Errors
    /// The error of the closure.
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
