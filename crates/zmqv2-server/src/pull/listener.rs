//! A listener whose program asks for notifications.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, DEFAULT_POOL, InstanceId, InvalidName, ReceiverKind, ServerName, Target, TopicKey};

use super::deliveries::PulledDeliveries;
use super::notification::PulledNotification;
use super::queue::PullQueue;
use crate::error::ServerError;
use crate::listener::Priorities;
use crate::listener::topics::Topics;
use crate::runtime::rep_worker::Batch;
use crate::runtime::service::{Offer, Service};
use crate::runtime::settings::{Settings, common_setters, service_methods};
use crate::runtime::shared_socket::Inbox;

/// Builds a [`PullListener`].
#[derive(Debug, Default)]
pub struct PullListenerBuilder {
    topics: Topics,
    pool: Option<ServerName>,
    settings: Settings,
}

impl PullListenerBuilder {
    /// Listens to the topic of `target` with these priorities. Call it for each topic. If `target`
    /// has no exchange, option `control_exchange` gives it.
    #[must_use]
    pub fn target(mut self, target: Target, priorities: impl Into<Priorities>) -> Self {
        self.topics.add(target.exchange, target.topic, priorities.into());
        self
    }

    /// Joins this pool. Every pool gets a copy of each notification, and one listener of the pool
    /// takes it. Default: [`DEFAULT_POOL`].
    ///
    /// # Errors
    /// [`InvalidName`] when `pool` is not a valid server name.
    pub fn pool(mut self, pool: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.pool = Some(ServerName::new(pool)?);
        Ok(self)
    }

    /// How many notifications may be open at the same time, from their arrival until they end: 1 to
    /// [`MAX_PLACES`](zmqv2_proto::control::MAX_PLACES). The broker sends no more. Default: option
    /// `rpc_thread_pool_size` (64).
    #[must_use]
    pub fn places(mut self, places: usize) -> Self {
        self.settings.workers = Some(places);
        self
    }

    common_setters!();

    /// Starts the listener: binds its socket, and registers at the node's broker as soon as there is
    /// one. [`PullListener::wait_ready`] tells when notifications can come.
    ///
    /// # Errors
    /// [`ServerError`]: the listener cannot start as asked.
    pub fn start(self) -> Result<PullListener, ServerError> {
        let Self { topics, pool, settings } = self;
        let keys = topics.keys(&settings.config.control_exchange)?;
        let workers = settings.places_or(settings.config.thread_pool_size)?;
        let pool = pool.map_or_else(|| ServerName::new(DEFAULT_POOL), Ok)?;
        let (key, also) = keys.split_first().ok_or(ServerError::NoEndpoint)?;
        let (key, also, server) = (key.clone(), also.to_vec(), pool.clone());
        let queue = Arc::new(PullQueue::new(PulledDeliveries::default())?);
        let (receiver, batch) = (ReceiverKind::Listener, Batch::ONE);
        // A notification that waits here could run at another listener of the pool, so the broker
        // sends no more than there are places.
        let offer = Offer { receiver, key, also, server, workers, batch, shares_socket: true, window: 0 };
        let service = Service::start_deferred(settings, offer, Arc::clone(&queue) as Arc<dyn Inbox>)?;
        Ok(PullListener { keys, pool, queue, service })
    }
}

/// A listener for programs with a loop of their own, such as gateways and drivers of other languages.
/// The program [polls](Self::poll) for notifications, and ends each from any thread, later.
///
/// Dropping it stops it as [`stop`](Self::stop) does. Its descriptor ([`AsFd`]) is readable while a
/// poll would return at once. Nobody else may read from it.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_server::{Priorities, PullListener, Target, Verdict};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let topic = Target::topic("notifications")?;
/// let listener = PullListener::builder().target(topic, Priorities::ALL).pool("audit")?.start()?;
/// loop {
///     for notification in listener.poll(100, Duration::from_secs(1)) {
///         println!("{} bytes for {}", notification.body().len(), notification.key());
///         notification.end(Verdict::Handled);
///     }
/// }
/// # }
/// ```
pub struct PullListener {
    keys: Vec<TopicKey>,
    pool: ServerName,
    queue: Arc<PullQueue<PulledDeliveries>>,
    service: Service,
}

impl PullListener {
    /// A new builder. It has no topics yet.
    #[must_use]
    pub fn builder() -> PullListenerBuilder {
        PullListenerBuilder::default()
    }

    /// Takes up to `most` notifications, in the order in which they came. If there are none, waits for
    /// the first one, at most for `timeout`. Those whose time has ended go back to the broker.
    ///
    /// After [`drain`](Self::drain) it does not wait. Once it has then returned nothing, notifications
    /// that still come go back. In a process that was forked later it returns nothing.
    #[must_use]
    pub fn poll(&self, most: usize, timeout: Duration) -> Vec<PulledNotification> {
        if !self.service.is_own() {
            return Vec::new();
        }
        let polled = self.queue.poll(most, timeout);
        polled.into_iter().filter_map(|delivery| PulledNotification::new(delivery, &self.queue.gate)).collect()
    }

    /// Begins to stop: the broker sends nothing new, and every [`poll`](Self::poll) returns what is
    /// there without waiting. Does not wait.
    ///
    /// # Errors
    /// [`ServerError::Inherited`]: the listener is in the parent of this process.
    pub fn drain(&self) -> Result<(), ServerError> {
        self.service.begin_stop()?;
        self.queue.drain();
        Ok(())
    }

    /// Stops: gives back what nobody has polled, waits for the end of the others (within option
    /// `rpc_zmq_drain_timeout`), and unregisters. A second call does nothing.
    ///
    /// # Errors
    /// [`ServerError::Unfinished`]: notifications were still open at the end of that time.
    /// [`ServerError::Inherited`]: the listener is in the parent of this process.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.drain()?;
        self.queue.close();
        self.service.stop()
    }

    /// One key for each topic and priority: `exchange/topic.priority`.
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
}

impl AsFd for PullListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.fd()
    }
}

impl Drop for PullListener {
    fn drop(&mut self) {
        // The service stops, with a warning if notifications are still open.
        if self.drain().is_ok() {
            self.queue.close();
        }
    }
}

impl fmt::Debug for PullListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullListener").field("keys", &self.keys).field("service", &self.service).finish_non_exhaustive()
    }
}
