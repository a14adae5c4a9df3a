//! What a sender holds of a fanout, and what it says in the end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use zmqv2_proto::{MessageId, NodeName, ServerName};

use crate::outcome::Outcome;
use crate::outcome::result_group::{GroupReceiver, Part};

/// A fanout on its way, made by [`RpcClient::fanout`](crate::RpcClient::fanout).
///
/// `Send` and `Sync`. It can be polled, waited on, awaited on any executor, or dropped. Every server still has its outcome when the handle
/// was dropped: it counts, the [observer](crate::RpcClientBuilder::observer) sees it, and unless it is `Acked` a warning is
/// logged.
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::RpcClient;
/// # use zmqv2_proto::{RequestContext, Target};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = RpcClient::builder(Target::topic("cache")?).build()?;
/// let handle = client.fanout(&RequestContext::new(), "forget", &("ann",))?;
/// match handle.wait(Duration::from_secs(1)) {
///     Some(report) if report.all_acked() => println!("{} servers have it", report.acked()),
///     Some(report) => println!("{report:#}"),
///     None => println!("so far: {}", handle.so_far()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, the outcomes reach only the counters, the observer and the log"]
pub struct FanoutHandle {
    id: MessageId,
    receiver: GroupReceiver,
}

impl FanoutHandle {
    pub(crate) fn new(id: MessageId, receiver: GroupReceiver) -> Self {
        Self { id, receiver }
    }

    /// The message's id, as servers and logs show it; the same at every node.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What every server came to, if that is known by now.
    #[must_use]
    pub fn report(&self) -> Option<FanoutReport> {
        self.receiver.is_complete().then(|| self.so_far())
    }

    /// Waits for the report; `None` when it is not complete within `timeout`. It is by the cast timeout (+ 50 ms).
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<FanoutReport> {
        self.receiver.wait(timeout).then(|| self.so_far())
    }

    /// What is known by now: the servers that have answered, and those of nodes that will not.
    #[must_use]
    pub fn so_far(&self) -> FanoutReport {
        self.receiver.look(|parts, open| FanoutReport { results: parts.iter().flat_map(results).collect(), open })
    }
}

impl Future for FanoutHandle {
    type Output = FanoutReport;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FanoutReport> {
        if !self.receiver.poll(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.so_far())
    }
}

fn results(part: &Part) -> impl Iterator<Item = FanoutResult> {
    part.tracker.results().iter().map(|entry| FanoutResult {
        node: entry.node.clone(),
        server: entry.server.clone(),
        outcome: entry.outcome.clone(),
    })
}

/// What became of a fanout, server by server.
///
/// Shown with `{}`, it is one line of counts; with `{:#}`, a line follows for every server that has not accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanoutReport {
    /// One for every server process that has answered, and for every server that the directory knows and that has not.
    pub results: Vec<FanoutResult>,
    /// Of how many nodes the last word is still to come; 0 in a complete report.
    pub open: usize,
}

/// What became of a fanout at one server.
///
/// When neither the node nor the directory says which servers it has, one result without a server stands for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanoutResult {
    /// The node; `None`: the directory knows no node of the topic.
    pub node: Option<NodeName>,
    /// The server; `None`: nobody knows which.
    pub server: Option<ServerName>,
    /// What became of it there.
    pub outcome: Outcome,
}

impl FanoutReport {
    /// How many servers have accepted it.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.count(Outcome::is_acked)
    }

    /// How many results are refusals.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Refused { .. }))
    }

    /// How many results say that nobody has answered.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Unacknowledged { .. }))
    }

    /// Whether every server has accepted it, and there was one. Servers that nobody knew of cannot be missed.
    #[must_use]
    pub fn all_acked(&self) -> bool {
        self.open == 0 && !self.results.is_empty() && self.acked() == self.results.len()
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.results.iter().filter(|result| which(&result.outcome)).count()
    }
}

impl fmt::Display for FanoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acked, refused, silent) = (self.acked(), self.refused(), self.unacknowledged());
        write!(f, "accepted by {acked} of {}, {refused} refused, {silent} unacknowledged", self.results.len())?;
        if self.open > 0 {
            write!(f, ", {} nodes open", self.open)?;
        }
        if f.alternate() {
            for result in self.results.iter().filter(|result| !result.outcome.is_acked()) {
                write!(f, "\n{result}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for FanoutResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Some(server) => write!(f, "{server}")?,
            None => f.write_str("servers")?,
        }
        if let Some(node) = &self.node {
            write!(f, " on node {node}")?;
        }
        write!(f, ": {}", self.outcome)
    }
}
