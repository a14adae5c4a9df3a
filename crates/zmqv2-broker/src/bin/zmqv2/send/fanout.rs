//! `zmqv2 fanout`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use zmqv2_broker::cli::{CommonFlags, Failure, say};
use zmqv2_client::FanoutResult;
use zmqv2_proto::{NodeName, RequestContext, ServerName};

use super::call::failure;
use super::outcome;
use super::target::{MessageFlags, TopicFlags};

#[derive(Debug, Args)]
#[command(after_help = "Prints a line for every server: its node, its name (- if unknown), and the outcome there.\n\n\
Exit codes: 0 every server has accepted it, 4 a server has refused it or there is none (stderr begins with the reason), \
5 a server has not answered, the directory cannot say who they are, or there may be servers that it does not know; 1 failure, 2 wrong usage or configuration.")]
pub(crate) struct FanoutFlags {
    #[command(flatten)]
    topic: TopicFlags,
    #[command(flatten)]
    message: MessageFlags,
    /// Send it again up to N times to nodes without an answer; a server runs it once
    #[arg(long, value_name = "N", default_value_t = 0)]
    retry: u32,
    /// Print one JSON object per line for every server
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &CommonFlags, flags: &FanoutFlags) -> Result<(), Failure> {
    let FanoutFlags { topic, message, retry, json } = flags;
    let args = message.parsed()?;
    let client = topic.client(common, &message.interface)?.retry(*retry).wait_for_ready(message.wait_for_ready);
    let target = client.target().clone();
    let handle =
        client.fanout(&RequestContext::new(), &message.method, &args).map_err(|error| failure(error.into()))?;
    // Every server has an outcome, at the timeout at the latest.
    let report = handle.wait(Duration::MAX).unwrap_or_else(|| handle.so_far());
    for result in &report.results {
        say(if *json { outcome::mark(object(result), report.may_be_incomplete()).to_string() } else { line(result) })?;
    }
    if !json {
        say(&report)?;
    }
    if report.all_acked() {
        return Ok(());
    }
    let outcomes = report.results.iter().map(|result| &result.outcome);
    Err(outcome::failure(outcomes, report.may_be_incomplete().is_some(), format_args!("{target}: {report}")))
}

fn line(FanoutResult { node, server, outcome, .. }: &FanoutResult) -> String {
    let node = node.as_ref().map_or("-", |node| node.as_str());
    let server = server.as_ref().map_or("-", |server| server.as_str());
    format!("{node}  {server}  {}", outcome::text(outcome))
}

fn object(FanoutResult { node, server, outcome, .. }: &FanoutResult) -> Value {
    let object = json!({
        "node": node.as_ref().map(NodeName::as_str),
        "server": server.as_ref().map(ServerName::as_str),
    });
    outcome::add_to(object, outcome)
}
