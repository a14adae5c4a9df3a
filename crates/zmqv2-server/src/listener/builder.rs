//! The builder of a listener.

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, DEFAULT_POOL, Exchange, InvalidName, ReceiverKind, ServerName, Target, Topic, TopicKey};

use super::NotificationListener;
use super::dispatcher::AnyEndpoint;
use super::endpoint::{BatchEndpoint, IntoBatchResult, IntoNotificationResult, NotificationEndpoint};
use super::handler::Handler;
use super::notice::Notice;
use super::priorities::Priorities;
use super::topics::Topics;
use super::worker::ListenerWork;
use crate::error::{MAX_BATCHED, ServerError};
use crate::runtime::rep_worker::Batch;
use crate::runtime::service::{Offer, Service};
use crate::runtime::settings::{Settings, settings_setters};

/// Builds a [`NotificationListener`].
#[derive(Default)]
pub struct NotificationListenerBuilder {
    topics: Vec<(Option<Exchange>, Topic)>,
    pool: Option<ServerName>,
    endpoints: Vec<AnyEndpoint>,
    batch: Option<(usize, Duration)>,
    settings: Settings,
}

impl fmt::Debug for NotificationListenerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationListenerBuilder")
            .field("topics", &self.topics)
            .field("pool", &self.pool)
            .field("endpoints", &self.endpoints.len())
            .field("batch", &self.batch)
            .field("workers", &self.settings.workers)
            .finish_non_exhaustive()
    }
}

impl NotificationListenerBuilder {
    /// Listens to `topic`, in the exchange of option `control_exchange`. Call it for each topic.
    ///
    /// # Errors
    /// [`InvalidName`] when `topic` is not a valid topic.
    pub fn topic(mut self, topic: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.topics.push((None, Topic::new(topic)?));
        Ok(self)
    }

    /// Listens to the topic of `target`. If `target` has no exchange, option `control_exchange`
    /// gives it. The other parts are for calls and casts, and a listener has no use for them.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.topics.push((target.exchange, target.topic));
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

    /// Calls `handler` with each notification of these priorities. It may return nothing, a
    /// [`Verdict`](crate::Verdict), or a `Result` of one of these. [`Handler`] adds a filter.
    #[must_use]
    pub fn on<R, F>(self, priorities: impl Into<Priorities>, handler: F) -> Self
    where
        R: IntoNotificationResult + 'static,
        F: Fn(&Notice) -> R + Send + Sync + 'static,
    {
        self.endpoint(Handler::new(priorities, handler))
    }

    /// Calls `handler` with the notifications of these priorities in each [`batch`](Self::batch).
    /// It may return nothing, a [`Verdict`](crate::Verdict) for all, a `Vec` with one for each, or
    /// a `Result` of one of these.
    #[must_use]
    pub fn on_batch<R, F>(self, priorities: impl Into<Priorities>, handler: F) -> Self
    where
        R: IntoBatchResult + 'static,
        F: Fn(&[&Notice]) -> R + Send + Sync + 'static,
    {
        self.batch_endpoint(Handler::batch(priorities, handler))
    }

    /// Adds an endpoint. Every endpoint that wants a notification gets it. If any of them returns
    /// [`Verdict::Requeue`](crate::Verdict::Requeue), it comes again, to all of them. A
    /// notification that no endpoint wants counts as handled.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl NotificationEndpoint + 'static) -> Self {
        self.endpoints.push(AnyEndpoint::one(endpoint));
        self
    }

    /// Adds an endpoint for batches, as [`endpoint`](Self::endpoint) does. Without
    /// [`batch`](Self::batch), each batch has one notification.
    #[must_use]
    pub fn batch_endpoint(mut self, endpoint: impl BatchEndpoint + 'static) -> Self {
        self.endpoints.push(AnyEndpoint::batch(endpoint));
        self
    }

    /// Collects notifications in batches. Handlers run when a worker has `size` of them, or
    /// `timeout` after the first one. With [`Duration::MAX`], they run when the batch is full or
    /// the listener stops. Every worker collects its own batch, so the default is one worker.
    /// All batches together have at most 8,192 notifications. A notification whose time to live
    /// ends before its batch runs goes back to the broker.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zmqv2_server::{NotificationListener, Priority, Verdict};
    ///
    /// # fn main() -> Result<(), zmqv2_server::InvalidName> {
    /// let builder = NotificationListener::builder()
    ///     .topic("notifications")?
    ///     .batch(100, Duration::from_secs(1))
    ///     .on_batch(Priority::Sample, |batch| {
    ///         println!("{} samples", batch.len());
    ///         Verdict::Handled
    ///     });
    /// # let _ = builder;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn batch(mut self, size: usize, timeout: Duration) -> Self {
        self.batch = Some((size, timeout));
        self
    }

    settings_setters! {
        /// How many notifications, or batches, run at the same time: 1 to
        /// [`MAX_WORKERS`](zmqv2_proto::control::MAX_WORKERS). Default: option
        /// `rpc_thread_pool_size` (64), or 1 with [`batch`](Self::batch).
    }

    /// Starts the listener: binds its sockets, and registers at the node's broker as soon as there
    /// is one. [`NotificationListener::wait_ready`] tells when notifications can come.
    ///
    /// # Errors
    /// [`ServerError`]: the listener cannot start as asked.
    pub fn start(self) -> Result<NotificationListener, ServerError> {
        let keys = self.keys()?;
        let Self { pool, endpoints, batch, mut settings, .. } = self;
        let workers = settings.workers_or(if batch.is_some() { 1 } else { settings.config.thread_pool_size })?;
        let batch = batch.map_or(Ok(Batch::ONE), |(size, timeout)| {
            let fits = (1..=MAX_BATCHED / usize::from(workers)).contains(&size);
            let size = u16::try_from(size).ok().filter(|_| fits).ok_or(ServerError::Batch { size, workers })?;
            Ok::<_, ServerError>(Batch { size, timeout })
        })?;
        let server = pool.map_or_else(|| ServerName::new(DEFAULT_POOL), Ok)?;
        let (key, also) = keys.split_first().ok_or(ServerError::NoEndpoint)?;
        let (key, also, pool) = (key.clone(), also.to_vec(), server.clone());
        // A worker that collects a batch needs a socket of its own. A notification that waits at one
        // listener could run at another one of the pool, so the broker sends no more than run.
        let shares_socket = workers > 1 && batch.size == 1;
        let receiver = ReceiverKind::Listener;
        let offer = Offer { receiver, key, also, server, workers, batch, shares_socket, window: 0 };
        let interceptors = std::mem::take(&mut settings.interceptors);
        let work = ListenerWork { endpoints, interceptors, deliveries: Mutex::default() };
        let service = Service::start(settings, offer, work)?;
        Ok(NotificationListener { keys, pool, service })
    }

    /// The keys of each topic, with each priority that an endpoint wants.
    fn keys(&self) -> Result<Vec<TopicKey>, ServerError> {
        let wanted = self.endpoints.iter().fold(Priorities::NONE, |all, endpoint| all.with(endpoint.priorities));
        let mut topics = Topics::default();
        for (exchange, topic) in &self.topics {
            topics.add(exchange.clone(), topic.clone(), wanted);
        }
        topics.keys(&self.settings.config.control_exchange)
    }
}
