//! `zmqv2 notify`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use zmqv2_broker::cli::{CommonFlags, Failure, hold_warnings_of_directory, say};
use zmqv2_client::{Notifier, NotifyReport, NotifyResult, Outcome};
use zmqv2_proto::{Priority, RequestContext, ServerName};

use super::call::failure;
use super::outcome;
use super::target::{TopicFlags, parse_json, seconds, set_if_given};

#[derive(Debug, Args)]
#[command(
    after_help = "Prints a line for every pool of listeners: accepted by a listener, or stored by a broker until one is free.\n\n\
Exit codes: 0 accepted or stored for every pool, 4 refused for a pool (stderr begins with the reason), 5 not acknowledged \
for a pool, or there may be pools that the directory does not know; 1 failure, 2 wrong usage or configuration."
)]
pub(crate) struct NotifyFlags {
    #[command(flatten)]
    topic: TopicFlags,
    /// The event type, such as instance.created
    event: String,
    /// The payload, as JSON
    #[arg(default_value = "{}")]
    payload: String,
    /// The priority: audit, debug, info, warn, error, critical or sample
    #[arg(long, value_name = "P", default_value = "info")]
    priority: Priority,
    /// The publisher, such as compute.node-7 (default: zmqv2 and the node's name)
    #[arg(long, value_name = "ID")]
    publisher: Option<String>,
    /// How long a broker may keep it for a listener (default: an hour)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    ttl: Option<Duration>,
    /// Send it again up to N times without an acknowledgement; a listener handles it once
    #[arg(long, value_name = "N", default_value_t = 0)]
    retry: u32,
    /// Print one JSON object per line for every pool
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &CommonFlags, flags: &NotifyFlags) -> Result<(), Failure> {
    let NotifyFlags { topic, event, payload, priority, publisher, ttl, retry, json } = flags;
    let payload = parse_json(payload)?;
    hold_warnings_of_directory();
    let notifier = topic.notifier(common, publisher.as_deref(), |builder| builder.retry(*retry))?;
    let notifier = set_if_given(notifier, *ttl, Notifier::time_to_live);
    let handle =
        notifier.notify(&RequestContext::new(), event, &payload, *priority).map_err(|error| failure(error.into()))?;
    // Every pool has an outcome, at the timeout at the latest.
    let report: NotifyReport = handle.wait(Duration::MAX).unwrap_or_else(|| handle.so_far());
    for result in &report.results {
        let object = || outcome::mark(object(result, &handle.message_id()), report.may_be_incomplete());
        say(if *json { object().to_string() } else { line(result) })?;
    }
    if let Some(reason) = report.may_be_incomplete().filter(|_| !json) {
        say(format_args!("there may be other pools: {reason}"))?;
    }
    if report.all_taken_over() {
        return Ok(());
    }
    let outcomes = report.results.iter().map(|result| &result.outcome);
    Err(outcome::failure(
        outcomes,
        report.may_be_incomplete().is_some(),
        format_args!("{}.{priority}: {report}", topic.topic),
    ))
}

fn line(NotifyResult { pool, outcome, .. }: &NotifyResult) -> String {
    match (outcome, pool) {
        (Outcome::Acked { server, node, elapsed }, _) => {
            format!("accepted by pool {server} at node {node} in {:.3} ms", outcome::millis(*elapsed))
        }
        (Outcome::Stored { node, .. }, Some(pool)) => format!("stored at node {node} for pool {pool}"),
        (Outcome::Stored { node, .. }, None) => format!("stored at node {node} for the first pool that comes"),
        (other, Some(pool)) => format!("pool {pool}: {}", outcome::text(other)),
        (other, None) => outcome::text(other),
    }
}

fn object(NotifyResult { topic, pool, outcome, .. }: &NotifyResult, message_id: &str) -> Value {
    let node = match outcome {
        Outcome::Acked { node, .. } | Outcome::Stored { node, .. } => Some(node),
        Outcome::Refused { node, .. } => node.as_ref(),
        _ => None,
    };
    let object = json!({
        "message_id": message_id,
        "topic": topic.as_str(),
        "pool": pool.as_ref().map(ServerName::as_str),
        "node": node.map(zmqv2_proto::NodeName::as_str),
    });
    outcome::add_to(object, outcome)
}
