//! One messaging interface over both drivers. A test that uses it runs with both.
//!
//! A [`DriverCluster`] is a few nodes with their daemons. Each [`Messaging`] is a driver as one
//! process at one node uses it.

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

/// The target of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct To {
    /// The exchange; `None`: the configured one.
    pub exchange: Option<String>,
    pub topic: String,
    /// The server; `None`: any server of the topic.
    pub server: Option<String>,
}

impl To {
    #[must_use]
    pub fn topic(topic: &str) -> Self {
        Self { exchange: None, topic: topic.to_owned(), server: None }
    }

    #[must_use]
    pub fn at(&self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self.clone() }
    }

    #[must_use]
    pub fn within(&self, exchange: &str) -> Self {
        Self { exchange: Some(exchange.to_owned()), ..self.clone() }
    }
}

/// How a call ends without a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Failed {
    Remote {
        /// The class of the error: the original one, or `RemoteError` if its module is not allowed.
        class: String,
        /// The failure as it was sent.
        failure: Box<Failure>,
    },
    Timeout,
    /// The call did not run, or its answer was lost. The reason comes first.
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

/// The outcome of a message, as its sender sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// A server or a listener has accepted it.
    Accepted,
    /// A broker keeps it for the next listener.
    Stored,
    /// It did not run, or this is unknown. The reason comes first.
    Failed(String),
    /// The sender never learns it.
    Unknown,
}

/// A message whose outcome is still open.
#[derive(Debug)]
pub enum Pending {
    /// No outcome will come.
    Silent,
    /// It was not sent, for this reason.
    Unsent(String),
    /// One outcome will come.
    Cast(CastHandle),
    /// Several outcomes will come.
    Fanout(FanoutHandle),
}

impl Pending {
    /// Waits for all outcomes.
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

/// The longest wait for an outcome, longer than any timeout in use.
const OUTCOME_WITHIN: Duration = Duration::from_secs(90);

/// Runs a method with its arguments. `None`: there is no such method.
pub type Handler = Arc<dyn Fn(&str, &Value) -> Option<Result<Value, Box<Failure>>> + Send + Sync>;

/// A notification, as its listener sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    pub priority: Priority,
    pub event_type: String,
    pub payload: Value,
}

/// Handles a notification. `false`: it must come again.
pub type NotificationHandler = Arc<dyn Fn(&Notification) -> bool + Send + Sync>;

/// A server or a listener, until it is dropped.
pub trait Running: Send {}

impl<T: Send> Running for T {}

/// A driver in one process at one node.
pub trait Messaging: Send + Sync {
    /// Calls a method and waits for its result. `timeout` replaces the configured one.
    fn call(&self, to: &To, method: &str, args: &Value, timeout: Option<Duration>) -> Result<Value, Failed>;

    /// Starts a call without waiting. `None`: this driver's calls block.
    fn start_call(&self, _to: &To, _method: &str, _args: &Value) -> Option<CallHandle<Value>> {
        None
    }

    /// Sends to one server without waiting.
    fn send(&self, to: &To, method: &str, args: &Value) -> Pending;

    /// Sends to every server without waiting.
    fn send_to_all(&self, to: &To, method: &str, args: &Value) -> Pending;

    /// Sends to one server, and waits for the outcome, if there ever is one.
    fn cast(&self, to: &To, method: &str, args: &Value) -> SendOutcome {
        self.send(to, method, args).wait(OUTCOME_WITHIN).pop().unwrap_or(SendOutcome::Unknown)
    }

    /// Sends to every server, and returns their outcomes.
    fn fanout(&self, to: &To, method: &str, args: &Value) -> Vec<SendOutcome> {
        self.send_to_all(to, method, args).wait(OUTCOME_WITHIN)
    }

    /// Sends a notification, and returns an outcome for each pool that reports one.
    fn notify(&self, topic: &str, priority: Priority, event_type: &str, payload: &Value) -> Vec<SendOutcome>;

    /// Serves a topic under a name, with `workers` requests at a time. It is ready when this
    /// returns.
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
