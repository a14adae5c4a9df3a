//! The notifier itself: who says it, where, and the verbs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use zmqv2_proto::{Exchange, Priority, RequestContext, Topic};

use crate::api::connections::Connections;
use crate::api::handles::notify::NotifyHandle;
use crate::api::notifier_builder::NotifierBuilder;
use crate::io::thread::Closed;
use crate::outcome::counters::Counters;
use crate::outcome::send_error::SendError;

/// Tells whoever listens that something happened.
///
/// A notification goes to every *pool* of listeners of its topics, and one listener of each pool takes it. Where nobody
/// listens, a broker keeps it until somebody does, within its [time to live](NotifierBuilder::time_to_live). It is delivered
/// at least once: a listener that dies before it has handled it leaves it to the next one.
///
/// `Send`, `Sync` and cheap to clone: clones, copies [with another publisher](Self::with_publisher) and threads share the
/// connections and the bounds. Dropping the last one waits for outcomes, as [`close`](Self::close) does.
///
/// ```no_run
/// use std::time::Duration;
/// use zmqv2_client::Notifier;
/// use zmqv2_proto::RequestContext;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let notifier = Notifier::builder("compute.node-7").topics(["notifications", "audit"])?.build()?;
/// let context = RequestContext::new().with("user", "ann");
/// let handle = notifier.info(&context, "instance.created", &("i-1", "small"))?;
/// match handle.wait(Duration::from_secs(5)) {
///     Some(report) if report.all_taken_over() => {}
///     Some(report) => println!("{report:#}"),
///     None => println!("no word yet"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Notifier {
    connections: Arc<Connections>,
    options: NotifierOptions,
}

/// What all notifications of a notifier have in common.
#[derive(Debug, Clone)]
pub(crate) struct NotifierOptions {
    pub(crate) publisher_id: String,
    pub(crate) exchange: Exchange,
    pub(crate) topics: Vec<Topic>,
    pub(crate) timeout: Duration,
    pub(crate) time_to_live: Duration,
    pub(crate) retries: u32,
}

macro_rules! verbs {
    ($($verb:ident $priority:ident $what:literal;)*) => {$(
        #[doc = concat!("Notifies with priority `", stringify!($verb), "`: ", $what, ". As [`notify`](Self::notify).")]
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
    /// Starts a notifier that speaks for `publisher_id`, such as `compute.node-7`. Nothing is opened before the first
    /// notification. One that is to share what a client has open is made by
    /// [`RpcClient::notifier`](crate::RpcClient::notifier).
    pub fn builder(publisher_id: impl Into<String>) -> NotifierBuilder {
        NotifierBuilder::new(publisher_id.into())
    }

    pub(crate) fn new(connections: Arc<Connections>, options: NotifierOptions) -> Self {
        Self { connections, options }
    }

    /// Tells that `event_type` happened, with what there is to say about it, and does not wait: the handle tells what
    /// becomes of it.
    ///
    /// This blocks only for room ([`WhenFull::Wait`](crate::WhenFull::Wait)) and for the first lookup of a topic. The id and
    /// the time of the notification are set here.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent, to none of the topics.
    pub fn notify(
        &self,
        context: &RequestContext,
        event_type: &str,
        payload: &(impl Serialize + ?Sized),
        priority: Priority,
    ) -> Result<NotifyHandle, SendError> {
        self.connections.send_notification(&self.options, context, event_type, payload, priority)
    }

    verbs! {
        audit Audit "for audit trails";
        debug Debug "for those who look for a fault";
        info Info "something happened as it should";
        warn Warn "something needs attention";
        error Error "something failed";
        critical Critical "something failed that others depend on";
        sample Sample "a measurement, one of many";
    }

    /// A copy that speaks for another publisher.
    #[must_use]
    pub fn with_publisher(&self, publisher_id: impl Into<String>) -> Self {
        self.with(|options| options.publisher_id = publisher_id.into())
    }

    /// A copy with another [timeout](NotifierBuilder::timeout).
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = timeout)
    }

    /// A copy with another [time to live](NotifierBuilder::time_to_live).
    #[must_use]
    pub fn with_time_to_live(&self, time_to_live: Duration) -> Self {
        self.with(|options| options.time_to_live = time_to_live)
    }

    /// A copy with another [number of resends](NotifierBuilder::retry).
    #[must_use]
    pub fn with_retry(&self, retries: u32) -> Self {
        self.with(|options| options.retries = retries)
    }

    /// For whom it speaks.
    #[must_use]
    pub fn publisher_id(&self) -> &str {
        &self.options.publisher_id
    }

    /// The topics, without priorities.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.options.topics
    }

    /// What became so far of the messages of this notifier, of its copies, and of the client that it shares.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.connections.counters()
    }

    /// Takes no more notifications, from any copy, and waits up to `timeout` for the outcomes of those that are on their way.
    /// The rest ends as `Unacknowledged`. A client that is shared is closed as well.
    pub fn close(&self, timeout: Duration) -> Closed {
        self.connections.close(timeout)
    }

    fn with(&self, change: impl FnOnce(&mut NotifierOptions)) -> Self {
        let mut copy = self.clone();
        change(&mut copy.options);
        copy
    }
}
