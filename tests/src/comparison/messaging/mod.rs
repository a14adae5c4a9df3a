//! One messaging interface over two drivers: zmqv2 and the legacy one. What is written against it runs on both.
//!
//! A [`DriverCluster`] is a few nodes with their daemons; each [`Messaging`] is a driver as one process at one node sees it.

mod driver_cluster;
mod expectation;
mod over_legacy;
mod over_zmqv2;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use zmqv2_client::{CallHandle, CastHandle, FanoutHandle, Outcome};
use zmqv2_proto::{Failure, Priority};

use crate::journal::convert::variant_name;

pub use driver_cluster::{Driver, DriverCluster, Setup};
pub use expectation::{Expected, judge};
pub use over_legacy::OverLegacy;
pub use over_zmqv2::OverZmqv2;

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct To {
    /// The exchange; `None`: the configured one.
    pub exchange: Option<String>,
    /// The topic.
    pub topic: String,
    /// The server, if one is meant.
    pub server: Option<String>,
}

impl To {
    /// Any server of a topic.
    #[must_use]
    pub fn topic(topic: &str) -> Self {
        Self { exchange: None, topic: topic.to_owned(), server: None }
    }

    /// One server of it.
    #[must_use]
    pub fn at(&self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self.clone() }
    }

    /// The same topic in an exchange.
    #[must_use]
    pub fn within(&self, exchange: &str) -> Self {
        Self { exchange: Some(exchange.to_owned()), ..self.clone() }
    }
}

/// How a call ends without a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Failed {
    /// The method failed.
    Remote {
        /// The class to act upon: the original one, or `RemoteError` if its module is not allowed.
        class: String,
        /// What travelled.
        failure: Box<Failure>,
    },
    /// No answer in time.
    Timeout,
    /// The caller is told that it did not run, or that the answer is lost; the reason comes first.
    NotAnswered(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote { class, failure } => write!(f, "{class}: {failure}"),
            Self::Timeout => f.write_str("timeout"),
            Self::NotAnswered(reason) => f.write_str(reason),
        }
    }
}

/// What the sender of a message is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// A server or a listener has accepted it.
    Accepted,
    /// It is kept for whoever comes.
    Stored,
    /// It did not run, or it is not known whether it did; the reason comes first.
    Failed(String),
    /// Nothing, ever.
    Unknown,
}

/// What becomes of a message that was sent.
#[derive(Debug)]
pub enum Pending {
    /// Nobody will ever say.
    Silent,
    /// It was not even sent, for this reason.
    Unsent(String),
    /// One server will say.
    Cast(CastHandle),
    /// Several servers will say.
    Fanout(FanoutHandle),
}

impl Pending {
    /// Waits for all that is said of it.
    #[must_use]
    pub fn wait(self, timeout: Duration) -> Vec<SendOutcome> {
        match self {
            Self::Silent => Vec::new(),
            Self::Unsent(reason) => vec![SendOutcome::Failed(reason)],
            Self::Cast(handle) => vec![SendOutcome::of(&handle.wait(timeout).expect("an outcome in time"))],
            Self::Fanout(handle) => {
                let report = handle.wait(timeout).expect("a report in time");
                report.results.iter().map(|result| SendOutcome::of(&result.outcome)).collect()
            }
        }
    }
}

impl SendOutcome {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Acked { .. } => Self::Accepted,
            Outcome::Stored { .. } => Self::Stored,
            Outcome::Refused { refusal, .. } => Self::Failed(refusal.reason.to_string()),
            other => Self::Failed(variant_name(other)),
        }
    }
}

/// How long is waited for what becomes of a message, longer than any timeout in use.
const OUTCOME_WITHIN: Duration = Duration::from_secs(90);

/// Runs a method with its arguments; `None`: there is no such method.
pub type Handler = Arc<dyn Fn(&str, &Value) -> Option<Result<Value, Box<Failure>>> + Send + Sync>;

/// A notification as its listener sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// How much it matters.
    pub priority: Priority,
    /// What happened.
    pub event_type: String,
    /// What there is to say.
    pub payload: Value,
}

/// Takes a notification; `false`: it shall come again.
pub type NotificationHandler = Arc<dyn Fn(&Notification) -> bool + Send + Sync>;

/// A server or a listener, until it is dropped.
pub trait Running: Send {}

impl<T: Send> Running for T {}

/// A driver, as one process at one node uses it.
pub trait Messaging: Send + Sync {
    /// Calls a method and waits for its result; `timeout` instead of the configured one.
    fn call(&self, to: &To, method: &str, args: &Value, timeout: Option<Duration>) -> Result<Value, Failed>;

    /// Calls a method and goes on; `None`: this driver's calls block.
    fn start_call(&self, _to: &To, _method: &str, _args: &Value) -> Option<CallHandle<Value>> {
        None
    }

    /// Sends to one server and goes on.
    fn send(&self, to: &To, method: &str, args: &Value) -> Pending;

    /// Sends to every server and goes on.
    fn send_to_all(&self, to: &To, method: &str, args: &Value) -> Pending;

    /// Sends to one server, and waits until it is known what became of it, if that is ever known.
    fn cast(&self, to: &To, method: &str, args: &Value) -> SendOutcome {
        self.send(to, method, args).wait(OUTCOME_WITHIN).pop().unwrap_or(SendOutcome::Unknown)
    }

    /// Sends to every server; one word for each that has one.
    fn fanout(&self, to: &To, method: &str, args: &Value) -> Vec<SendOutcome> {
        self.send_to_all(to, method, args).wait(OUTCOME_WITHIN)
    }

    /// Tells listeners; one word for each pool that has one.
    fn notify(&self, topic: &str, priority: Priority, event_type: &str, payload: &Value) -> Vec<SendOutcome>;

    /// Serves a topic under a name; requests can come when this returns. `workers`: how many run at a time.
    fn serve(&self, at: &To, workers: usize, handler: Handler) -> Box<dyn Running>;

    /// Listens to notifications of these topics and priorities in a pool, one at a time.
    fn listen(
        &self,
        topics: &[&str],
        priorities: &[Priority],
        pool: &str,
        handler: NotificationHandler,
    ) -> Box<dyn Running>;
}
