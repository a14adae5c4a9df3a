//! Listeners: servers that take notifications.

mod builder;
mod deliveries;
mod dispatcher;
mod endpoint;
mod filter;
mod handler;
mod notice;
mod priorities;
mod worker;

use std::fmt;
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

/// A running listener. `Send + Sync`. Dropping it stops it as [`stop`](Self::stop) does.
///
/// The broker keeps a notification until a listener of each pool has *handled* it, and delivers it again when the listener
/// dies before that: every handler runs at least once. One process does not run twice what it has handled.
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
pub struct NotificationListener {
    keys: Vec<TopicKey>,
    pool: ServerName,
    service: Service,
}

impl fmt::Debug for NotificationListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationListener")
            .field("keys", &self.keys)
            .field("pool", &self.pool)
            .field("service", &self.service)
            .finish()
    }
}

impl NotificationListener {
    /// A builder of a listener without topics and endpoints.
    #[must_use]
    pub fn builder() -> NotificationListenerBuilder {
        NotificationListenerBuilder::default()
    }

    /// What it listens to: each topic with each priority that an endpoint wants, `exchange/topic.priority`.
    #[must_use]
    pub fn keys(&self) -> &[TopicKey] {
        &self.keys
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> &ServerName {
        &self.pool
    }

    /// The id of this run.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.service.instance()
    }

    /// Whether the broker has taken its registration. Turns false while the broker is away.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.service.is_ready()
    }

    /// Waits until the broker has taken the registration: notifications can come from now on.
    ///
    /// # Errors
    /// [`ServerError::NotReady`] after `timeout`; the listener goes on trying.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), ServerError> {
        self.service.wait_ready(timeout)
    }

    /// Stops: takes nothing new, runs what it has accepted (a batch that is not full at once), tells the broker, unregisters; all
    /// within option `rpc_zmq_drain_timeout`. While the broker is away, it waits for it as long as there is something to be
    /// requeued. Does nothing the second time.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`] when handlers were still running at the end of that time; what they had goes to other
    /// listeners.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.service.stop()
    }
}
