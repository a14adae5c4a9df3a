//! The outcomes of a fanout.

use std::fmt;

use zmqv2_proto::{MessageId, NodeName, ServerName, Topic};

use crate::api::handles::report::{Report, ReportHandle, ReportResult};
use crate::outcome::Outcome;

/// The handle of a fanout, made by [`RpcClient::fanout`](crate::RpcClient::fanout).
///
/// ```no_run
/// # use std::time::Duration;
/// # use zmqv2_client::{RequestContext, RpcClient, Target};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = RpcClient::builder(Target::topic("cache")?).build()?;
/// let handle = client.fanout(&RequestContext::new(), "forget", &("ann",))?;
/// match handle.wait(Duration::from_secs(1)) {
///     Some(report) if report.all_acked() => println!("{} servers accepted it", report.acked()),
///     Some(report) => println!("{report:#}"),
///     None => println!("so far: {}", handle.so_far()),
/// }
/// # Ok(())
/// # }
/// ```
pub type FanoutHandle = ReportHandle<FanoutResult>;

/// The outcomes of a fanout: one for every server process that answered, and one for every server
/// that the directory lists and that did not answer.
pub type FanoutReport = Report<FanoutResult>;

/// The outcome of a fanout at one server.
///
/// If neither the node nor the directory says which servers it has, one result without a server
/// stands for all servers of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanoutResult {
    /// The node; `None`: the directory knows no node of the topic.
    pub node: Option<NodeName>,
    /// The server; `None`: it is not known.
    pub server: Option<ServerName>,
    /// The outcome.
    pub outcome: Outcome,
}

impl FanoutHandle {
    /// The id of the message in the logs. It is the same at every node.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }
}

impl ReportResult for FanoutResult {
    const CAN_BE_STORED: bool = false;

    fn new(_: Topic, node: Option<NodeName>, server: Option<ServerName>, outcome: Outcome) -> Self {
        Self { node, server, outcome }
    }

    fn outcome(&self) -> &Outcome {
        &self.outcome
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
