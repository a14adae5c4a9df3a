//! Builds a listener.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zmqv2_proto::control::MAX_TOPICS;
use zmqv2_proto::transport::Transport;
use zmqv2_proto::{Config, DEFAULT_POOL, InvalidName, ServerName, Target, TopicKey};

use super::NotificationListener;
use super::dispatch::Receiver;
use super::endpoint::{BatchEndpoint, IntoBatchResult, IntoNotificationResult, NotificationEndpoint};
use super::handler::Handler;
use super::notice::Notice;
use super::priorities::Priorities;
use super::work::Listening;
use crate::error::{MAX_BATCHED, ServerError};
use crate::lane::Batch;
use crate::service::{Offer, Setup};

/// Builds a [`NotificationListener`].
#[derive(Default)]
pub struct ListenerBuilder {
    topics: Vec<Target>,
    pool: Option<ServerName>,
    receivers: Vec<Receiver>,
    batch: Option<(usize, Duration)>,
    setup: Setup,
}

impl fmt::Debug for ListenerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerBuilder")
            .field("topics", &self.topics)
            .field("pool", &self.pool)
            .field("endpoints", &self.receivers.len())
            .field("batch", &self.batch)
            .field("workers", &self.setup.workers)
            .finish_non_exhaustive()
    }
}

impl ListenerBuilder {
    /// Listens to `topic`, in the exchange of option `control_exchange`; once for each topic.
    ///
    /// # Errors
    /// [`InvalidName`] when `topic` is not a valid topic.
    pub fn topic(self, topic: impl AsRef<str>) -> Result<Self, InvalidName> {
        Ok(self.target(Target::topic(topic)?))
    }

    /// Listens to the topic of `target`, in its exchange (default: option `control_exchange`). The other
    /// fields of the target are ignored.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.topics.push(target);
        self
    }

    /// Joins this pool: of each notification, every pool gets a copy, and inside a pool one listener takes it. Default:
    /// [`DEFAULT_POOL`].
    ///
    /// # Errors
    /// [`InvalidName`] when `pool` is not a valid server name, which a pool stands for.
    pub fn pool(mut self, pool: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.pool = Some(ServerName::new(pool)?);
        Ok(self)
    }

    /// Calls `handler` with each notification of these priorities. It may return nothing, a [`Verdict`](crate::Verdict), or a
    /// `Result` of one of these. With a filter: [`Handler`].
    #[must_use]
    pub fn on<R, F>(self, priorities: impl Into<Priorities>, handler: F) -> Self
    where
        R: IntoNotificationResult + 'static,
        F: Fn(&Notice) -> R + Send + Sync + 'static,
    {
        self.endpoint(Handler::new(priorities, handler))
    }

    /// Calls `handler` with the notifications of these priorities in each [`batch`](Self::batch). It may return nothing, a
    /// [`Verdict`](crate::Verdict) for all, a `Vec` of one for each, or a `Result` of one of these.
    #[must_use]
    pub fn on_batch<R, F>(self, priorities: impl Into<Priorities>, handler: F) -> Self
    where
        R: IntoBatchResult + 'static,
        F: Fn(&[&Notice]) -> R + Send + Sync + 'static,
    {
        self.batch_endpoint(Handler::batch(priorities, handler))
    }

    /// Adds an endpoint. Every endpoint that wants a notification gets it; it comes again, to all of them, if any says
    /// [`Verdict::Requeue`](crate::Verdict::Requeue). One that no endpoint wants is handled.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl NotificationEndpoint + 'static) -> Self {
        self.receivers.push(Receiver::one(endpoint));
        self
    }

    /// Adds an endpoint for batches; without [`batch`](Self::batch) each has one notification. Otherwise as
    /// [`endpoint`](Self::endpoint).
    #[must_use]
    pub fn batch_endpoint(mut self, endpoint: impl BatchEndpoint + 'static) -> Self {
        self.receivers.push(Receiver::batch(endpoint));
        self
    }

    /// Gathers notifications: handlers run when a worker has `size` of them, or `timeout` after the first
    /// ([`Duration::MAX`]: when the batch is full, or the listener stops). What is gathered is accepted already: an endpoint gets
    /// it although its time to live may end meanwhile. Every worker gathers a batch of its own, so the default is one worker.
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

    /// How many notifications, or batches, run at the same time; 1 to
    /// [`MAX_WORKERS`](zmqv2_proto::control::MAX_WORKERS). Default: option `rpc_thread_pool_size` (64), and 1 with
    /// [`batch`](Self::batch).
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.setup.workers = Some(workers);
        self
    }

    /// The configuration. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.setup.config = config;
        self
    }

    /// The socket directory of the node's broker. Default: the one that the configuration leads to.
    #[must_use]
    pub fn ipc_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.setup.ipc_dir = Some(dir.into());
        self
    }

    /// Shares a transport, and so one libzmq context, with clients of the same process.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.setup.transport = Some(transport);
        self
    }

    /// Starts the listener: binds its workers and registers at the node's broker as soon as there is one, once for all topics
    /// and priorities. [`NotificationListener::wait_ready`] tells when notifications can come.
    ///
    /// # Errors
    /// [`ServerError`], which says what is in the way.
    pub fn start(self) -> Result<NotificationListener, ServerError> {
        let keys = self.keys()?;
        let Self { pool, receivers, batch, setup, .. } = self;
        let workers = setup.workers_or(if batch.is_some() { 1 } else { setup.config.thread_pool_size })?;
        let batch = batch.map_or(Ok(Batch::ONE), |(size, timeout)| {
            let fits = (1..=MAX_BATCHED / usize::from(workers)).contains(&size);
            let size = u16::try_from(size).ok().filter(|_| fits).ok_or(ServerError::Batch { size, workers })?;
            Ok::<_, ServerError>(Batch { size, timeout })
        })?;
        let server = pool.map_or_else(|| ServerName::new(DEFAULT_POOL), Ok)?;
        let (key, also) = keys.split_first().ok_or(ServerError::NoEndpoint)?;
        let offer = Offer { key: key.clone(), also: also.to_vec(), server: server.clone(), batch, shared: false };
        let service = setup.start(workers, offer, Listening::new(receivers))?;
        Ok(NotificationListener { keys, pool: server, service })
    }

    /// Each topic with each priority that an endpoint wants.
    fn keys(&self) -> Result<Vec<TopicKey>, ServerError> {
        if self.topics.is_empty() {
            return Err(ServerError::NoTopic);
        }
        let wanted = self.receivers.iter().fold(Priorities::NONE, |all, receiver| all.with(receiver.priorities()));
        let mut keys = Vec::new();
        for target in &self.topics {
            let mut edition = target.clone().with_default_exchange(&self.setup.config.control_exchange);
            for priority in wanted.iter() {
                edition.topic = priority.topic(&target.topic)?;
                let key = edition.key();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        if keys.len() > MAX_TOPICS { Err(ServerError::Topics(keys.len())) } else { Ok(keys) }
    }
}
