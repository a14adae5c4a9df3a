//! Converts the outcomes of a client into those of a journal.

use std::time::Duration;

use zmqv2_client::{CallError, FanoutReport, NotifyReport, Outcome as Of};
use zmqv2_proto::{NodeName, ServerName};

use crate::journal::{Outcome, Part};

/// Stands for an unknown server, pool or node.
const UNKNOWN: &str = "-";

/// The outcome of a cast, and the time it took.
pub fn cast_outcome(outcome: &Of) -> (Duration, Outcome<&str>) {
    match outcome {
        Of::Acked { server, node, elapsed } => {
            (*elapsed, Outcome::Acked { server: server.as_str(), node: node.as_str() })
        }
        Of::Refused { refusal, after, .. } => (*after, Outcome::Refused(refusal.reason)),
        Of::Unacknowledged { after, sent, .. } => (*after, Outcome::Unacknowledged { sent: *sent }),
        other => panic!("no outcome of a cast: {other:?}"),
    }
}

/// The outcome of a fanout, and the time until its last part.
pub fn fanout_outcome(report: &FanoutReport) -> (Duration, Outcome<&str>) {
    join(report.results.iter().map(|result| part(result.server.as_ref(), result.node.as_ref(), &result.outcome)))
}

/// The outcome of a notification, and the time until its last part.
pub fn notify_outcome(report: &NotifyReport) -> (Duration, Outcome<&str>) {
    join(report.results.iter().map(|result| part(result.pool.as_ref(), None, &result.outcome)))
}

fn join<'a>(parts: impl Iterator<Item = (Duration, Part<&'a str>)>) -> (Duration, Outcome<&'a str>) {
    let mut last = Duration::ZERO;
    let parts = parts.inspect(|(after, _)| last = last.max(*after)).map(|(_, part)| part).collect();
    (last, Outcome::Report(parts))
}

fn part<'a>(server: Option<&'a ServerName>, at: Option<&'a NodeName>, outcome: &'a Of) -> (Duration, Part<&'a str>) {
    let whose = server.map_or(UNKNOWN, ServerName::as_str);
    let place = at.map_or(UNKNOWN, NodeName::as_str);
    match outcome {
        Of::Acked { server, node, elapsed } => (*elapsed, Part::Acked(server.as_str(), node.as_str())),
        Of::Stored { node, elapsed } => (*elapsed, Part::Stored(whose, node.as_str())),
        Of::Refused { refusal, node, after } => {
            (*after, Part::Refused(whose, node.as_ref().map_or(place, NodeName::as_str), refusal.reason))
        }
        Of::Unacknowledged { after, .. } => (*after, Part::Silent(whose, place)),
        other => panic!("an outcome that this program does not know: {other:?}"),
    }
}

/// The name of a call's error.
pub fn call_error_name(error: &CallError) -> String {
    match error {
        CallError::Timeout { .. } => "Timeout".to_owned(),
        CallError::Unreachable { .. } => "Unreachable".to_owned(),
        CallError::ConnectionLost { .. } => "ConnectionLost".to_owned(),
        error => error.reason().map_or_else(|| variant_name(error), |reason| reason.to_string()),
    }
}

/// The name of an error's variant.
pub fn variant_name(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
