//! The listener, which takes notifications.

mod builder;
mod deliveries;
mod dispatcher;
mod endpoint;
mod filter;
mod handler;
mod notice;
mod priorities;
mod worker;

use std::time::Duration;

use zmqv2_proto::{InstanceId, ServerName, TopicKey};

pub use builder::NotificationListenerBuilder;
pub use endpoint::{
    BatchEndpoint, BatchResult, BatchVerdict, IntoBatchResult, IntoNotificationResult, NotificationEndpoint,
    NotificationResult, Verdict,
};
pub use filter::{InvalidFilter, NotificationFilter};
pub use handler::Handler;
pub use notice::Notice;
pub use priorities::Priorities;

use crate::error::ServerError;
use crate::runtime::service::Service;
use crate::runtime::settings::service_methods;

/// A running listener. Dropping the listener stops it, as [`stop`](Self::stop) does.
///
/// The broker keeps a notification until a listener of each pool has handled it. If the listener
/// dies earlier, the broker delivers the notification again. So every handler runs at least once,
/// and a listener does not repeat a notification that it has handled.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_server::{NotificationListener, Priority, Verdict};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = NotificationListener::builder()
///     .topic("notifications")?
///     .pool("audit")?
///     .on(Priority::Info, |notice| println!("{}: {}", notice.publisher_id(), notice.event_type()))
///     .on([Priority::Error, Priority::Critical], |notice| {
///         if notice.delivery < 3 { Verdict::Requeue } else { Verdict::Handled }
///     })
///     .start()?;
/// listener.wait_ready(Duration::from_secs(5))?;
/// // ... until it is time to go:
/// listener.stop()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NotificationListener {
    keys: Vec<TopicKey>,
    pool: ServerName,
    service: Service,
}

impl NotificationListener {
    /// A builder of a listener, without topics and endpoints.
    #[must_use]
    pub fn builder() -> NotificationListenerBuilder {
        NotificationListenerBuilder::default()
    }

    /// The listener's topics, with each priority that an endpoint wants: `exchange/topic.priority`.
    #[must_use]
    pub fn keys(&self) -> &[TopicKey] {
        &self.keys
    }

    /// The listener's pool.
    #[must_use]
    pub fn pool(&self) -> &ServerName {
        &self.pool
    }

    service_methods!();

    /// Stops: takes no new notifications, runs those that it has (also a batch that is not full),
    /// reports their ends to the broker, and unregisters. All of this takes no longer than option
    /// `rpc_zmq_drain_timeout`. If the broker is away and has to requeue a notification, the
    /// listener waits for the broker. A second call does nothing.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`]: handlers were still running when the time ended. Other
    /// listeners get these notifications.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.service.stop()
    }
}
