//! `zmqv2 fanout`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use zmqv2_broker::cli::{CommonFlags, Exit, Failure};
use zmqv2_client::{FanoutReport, FanoutResult, Outcome};
use zmqv2_proto::{NodeName, RequestContext, ServerName};

use crate::call::failure;
use crate::target::{MessageFlags, TopicFlags};

#[derive(Debug, Args)]
#[command(
    after_help = "Prints a line for every server: its node, its name (- when nobody knows it), and what became of the message there.\n\n\
Exit codes: 0 every server has accepted it, 4 one has refused it or there is none (the reason comes first on stderr), 5 one has \
not answered; 1 failed, 2 usage or configuration."
)]
pub(crate) struct FanoutFlags {
    #[command(flatten)]
    topic: TopicFlags,
    #[command(flatten)]
    message: MessageFlags,
    /// Send it again up to N times to nodes that do not answer; a server runs it once
    #[arg(long, value_name = "N", default_value_t = 0)]
    retry: u32,
    /// One JSON object a line for every server
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &CommonFlags, flags: &FanoutFlags) -> Result<(), Failure> {
    let FanoutFlags { topic, message, retry, json } = flags;
    let args = message.args()?;
    let client = topic.client(common, &message.interface)?.retry(*retry).wait_for_ready(message.wait_for_ready);
    let whom = client.target().clone();
    let handle =
        client.fanout(&RequestContext::new(), &message.method, &args).map_err(|error| failure(error.into()))?;
    // Every server has its outcome, at the timeout at the latest; this only bounds the wait for the impossible.
    let report = handle.wait(Duration::MAX).unwrap_or_else(|| handle.so_far());
    for result in &report.results {
        println!("{}", if *json { object(result).to_string() } else { line(result) });
    }
    if !json {
        println!("{report}");
    }
    verdict(&report).map_err(|(exit, told)| Failure::new(exit, anyhow::anyhow!("{told} ({whom}: {report})")))
}

/// Refused counts more than unacknowledged: it is certain.
fn verdict(report: &FanoutReport) -> Result<(), (Exit, String)> {
    if report.all_acked() {
        return Ok(());
    }
    let refusal = report.results.iter().find_map(|result| match &result.outcome {
        Outcome::Refused { refusal, .. } => Some(refusal.to_string()),
        _ => None,
    });
    Err(match refusal {
        Some(refusal) => (Exit::Refused, refusal),
        None => (Exit::Timeout, "Unacknowledged".to_owned()),
    })
}

fn line(FanoutResult { node, server, outcome, .. }: &FanoutResult) -> String {
    let node = node.as_ref().map_or("-", |node| node.as_str());
    let server = server.as_ref().map_or("-", |server| server.as_str());
    let told = match outcome {
        Outcome::Acked { elapsed, .. } => format!("acked in {:.3} ms", millis(*elapsed)),
        Outcome::Refused { refusal, after, .. } => format!("refused after {:.3} ms: {refusal}", millis(*after)),
        other => format!("unacknowledged: {other}"),
    };
    format!("{node}  {server}  {told}")
}

fn object(FanoutResult { node, server, outcome, .. }: &FanoutResult) -> Value {
    let node = node.as_ref().map(NodeName::as_str);
    let server = server.as_ref().map(ServerName::as_str);
    match outcome {
        Outcome::Acked { elapsed, .. } => {
            json!({ "node": node, "server": server, "outcome": "acked", "after_ms": millis(*elapsed) })
        }
        Outcome::Refused { refusal, after, .. } => json!({
            "node": node, "server": server, "outcome": "refused", "after_ms": millis(*after),
            "reason": refusal.reason.to_string(), "detail": refusal.detail,
        }),
        Outcome::Unacknowledged { after, sent, .. } => json!({
            "node": node, "server": server, "outcome": "unacknowledged", "after_ms": millis(*after), "sent": sent,
        }),
        // An outcome that is not known here yet.
        other => json!({ "node": node, "server": server, "outcome": other.to_string() }),
    }
}

/// To a microsecond.
fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}
