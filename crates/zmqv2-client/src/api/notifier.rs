//! The notifier: the options of its notifications, and the verbs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use zmqv2_proto::{Exchange, Priority, RequestContext, Topic};

use crate::api::connections::SharedConnections;
use crate::api::handles::notify::NotifyHandle;
use crate::api::notifier_builder::NotifierBuilder;
use crate::api::setup::ClientError;
use crate::io::thread::Closed;
use crate::outcome::counters::Counters;
use crate::outcome::send_error::SendError;

/// The topic of a notifier that names none, as in oslo.messaging.
pub(super) const DEFAULT_TOPIC: &str = "notifications";
const DEFAULT_TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// Sends notifications: says that something happened to every service that listens.
///
/// Every *pool* of listeners of the topics gets a notification, and one listener of each pool takes
/// it. If nobody listens, a broker keeps the notification until a listener comes or the [time to
/// live](Self::time_to_live) ends. Delivery is *at least once*: if a listener dies before it has
/// handled the notification, another one gets it.
///
/// A notifier is `Send`, `Sync` and cheap to clone. All copies share the connections and the
/// bounds. [`prepare`](Self::prepare) makes a copy for another publisher, topic or timeout.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_client::{Notifier, RequestContext};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let notifier = Notifier::builder("compute.node-7").topics(["notifications", "audit"])?.build()?;
/// let context = RequestContext::new().with("user", "ann");
/// let handle = notifier.info(&context, "instance.created", &("i-1", "small"))?;
/// match handle.wait(Duration::from_secs(5)) {
///     Some(report) if report.all_taken_over() => {}
///     Some(report) => println!("{report:#}"),
///     None => println!("no outcome yet"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a notifier does nothing until it sends a notification"]
pub struct Notifier {
    pub(super) connections: Arc<SharedConnections>,
    pub(super) options: NotifyOptions,
}

/// The options of a notification. `None`: the default of the connections.
#[derive(Debug, Clone)]
pub(crate) struct NotifyOptions {
    pub(crate) publisher_id: String,
    pub(crate) exchange: Option<Exchange>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) time_to_live: Duration,
    pub(crate) retries: u32,
    pub(crate) until_stored: bool,
}

impl NotifyOptions {
    pub(crate) fn new(publisher_id: String) -> Self {
        Self {
            publisher_id,
            exchange: None,
            topics: Topic::new(DEFAULT_TOPIC).into_iter().collect(),
            timeout: None,
            time_to_live: DEFAULT_TIME_TO_LIVE,
            retries: 0,
            until_stored: false,
        }
    }

    pub(crate) fn set_topics<T: AsRef<str>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<(), ClientError> {
        self.topics.clear();
        for topic in topics {
            let topic = Topic::new(topic)?;
            if !self.topics.contains(&topic) {
                self.topics.push(topic);
            }
        }
        if self.topics.is_empty() { Err(ClientError::NoTopic) } else { Ok(()) }
    }
}

/// The setters that [`Notifier`] and [`NotifierBuilder`] share. Both have a field `options`.
macro_rules! notify_setters {
    () => {
        /// Sets the topics. Every topic gets every notification, as `<topic>.<priority>`. Default:
        /// `notifications`.
        ///
        /// # Errors
        /// [`ClientError`] if one of them is not a valid topic, or if there is none.
        pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Result<Self, ClientError> {
            self.options.set_topics(topics)?;
            Ok(self)
        }

        /// Sets the exchange of the topics. Default: the option `control_exchange`.
        pub fn exchange(mut self, exchange: Exchange) -> Self {
            self.options.exchange = Some(exchange);
            self
        }

        /// Sets how long a notification waits for its outcome. Default: the option
        /// `rpc_cast_timeout` (30 s). The minimum is 1 ms, the maximum is the time to live.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = Some(timeout);
            self
        }

        /// Sets how long a broker keeps a notification that no listener has handled. Then the
        /// broker drops it. Default: 1 hour. The minimum is 1 ms, the maximum is 49 days.
        pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
            self.options.time_to_live = time_to_live;
            self
        }

        /// Sets how often a notification that may be lost is sent again, as
        /// [`RpcClientBuilder::retry`](crate::RpcClientBuilder::retry) does. Default: 0. A listener
        /// drops a notification that it has handled before. Another listener of its pool may get it
        /// a second time.
        pub fn retry(mut self, retries: u32) -> Self {
            self.options.retries = retries;
            self
        }

        /// Sets whether a notification ends as soon as a broker keeps it
        /// ([`Stored`](crate::Outcome::Stored)), even if a listener is ready. Then no sender waits
        /// for a slow listener. What a listener refuses later becomes a dead letter at the broker.
        /// Default: `false`. Brokers of earlier versions wait for the listener.
        pub fn until_stored(mut self, until_stored: bool) -> Self {
            self.options.until_stored = until_stored;
            self
        }
    };
}
pub(crate) use notify_setters;

macro_rules! verbs {
    ($($verb:ident $priority:ident $meaning:literal;)*) => {$(
        #[doc = concat!("Sends with priority `", stringify!($verb), "`: ", $meaning, ".")]
        ///
        /// # Errors
        /// As [`notify`](Self::notify).
        pub fn $verb(
            &self,
            context: &RequestContext,
            event_type: &str,
            payload: &(impl Serialize + ?Sized),
        ) -> Result<NotifyHandle, SendError> {
            self.notify(context, event_type, payload, Priority::$priority)
        }
    )*};
}

impl Notifier {
    /// Starts to build a notifier for `publisher_id`, such as `compute.node-7`. No connection is
    /// opened before the first notification. To share the connections of a client, use
    /// [`RpcClient::notifier`](crate::RpcClient::notifier) instead.
    pub fn builder(publisher_id: impl Into<String>) -> NotifierBuilder {
        NotifierBuilder::new(publisher_id.into())
    }

    pub(crate) fn new(connections: Arc<SharedConnections>, options: NotifyOptions) -> Self {
        Self { connections, options }
    }

    /// Makes a copy that shares everything with this notifier. The following setters change the
    /// copy, for one notification or for many.
    pub fn prepare(&self) -> Self {
        self.clone()
    }

    /// Sets the publisher, such as `compute.node-7`.
    pub fn publisher_id(mut self, publisher_id: impl Into<String>) -> Self {
        self.options.publisher_id = publisher_id.into();
        self
    }

    notify_setters!();

    verbs! {
        audit Audit "for audit trails";
        debug Debug "for finding faults";
        info Info "something happened as expected";
        warn Warn "something needs attention";
        error Error "something failed";
        critical Critical "something failed that others depend on";
        sample Sample "one measurement of many";
    }

    /// Counts the messages of this notifier, of its copies, and of the client that it shares.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.connections.counters()
    }

    /// Closes this notifier, all its copies, and the client that it shares: they send no more
    /// notifications. Waits up to `timeout` for the outcomes of open messages. The rest end as
    /// `Unacknowledged`.
    ///
    /// Dropping the last copy does the same with a timeout of 1 s.
    pub fn close(&self, timeout: Duration) -> Closed {
        self.connections.close(timeout)
    }
}
