//! The listener, which takes notifications.

mod builder;
pub(crate) mod deliveries;
mod dispatcher;
mod endpoint;
mod filter;
mod handler;
mod notice;
mod priorities;
pub(crate) mod topics;
mod worker;

use std::time::Duration;

use zmqv2_proto::{InstanceId, Kind, Refusal, ServerName, TopicKey};

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
use crate::runtime::worker::malformed;

/// The refusal of a request that is no notification.
pub(crate) fn wrong_kind(pool: &ServerName, kind: Kind) -> Refusal {
    malformed(format!("{pool} is a pool of listeners, which take notifications; a {kind:?} goes to an RPC server"))
}

/// A running listener. Dropping it stops it as [`stop`](Self::stop) does.
///
/// The broker keeps a notification until a listener of each pool has handled it. If the listener
/// dies before that, the broker delivers it again. So every notification is handled at least once,
/// and a listener never handles the same notification twice.
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
    /// A new builder. It has no topics and endpoints yet.
    #[must_use]
    pub fn builder() -> NotificationListenerBuilder {
        NotificationListenerBuilder::default()
    }

    /// One key for each topic and each priority that an endpoint listens for:
    /// `exchange/topic.priority`.
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

    /// Stops. The listener takes no new notifications, handles those that it has (also an
    /// incomplete batch), reports their results to the broker, and unregisters. All of this takes no
    /// longer than option `rpc_zmq_drain_timeout`. If the broker has to requeue a notification, but
    /// is down, the listener waits for the broker. A second call does nothing. A handler of this
    /// listener may call it: it then only begins to stop, because it would wait for itself.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`]: handlers were still running when this time was over. Other
    /// listeners get their notifications.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.service.stop()
    }
}
