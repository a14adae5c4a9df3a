//! The output of commands whose message has several outcomes.

use std::time::Duration;

use serde_json::Value;
use zmqv2_broker::cli::{Exit, Failure};
use zmqv2_client::Outcome;

pub(crate) fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Acked { elapsed, .. } => format!("acked in {:.3} ms", millis(*elapsed)),
        Outcome::Stored { elapsed, .. } => format!("stored in {:.3} ms", millis(*elapsed)),
        Outcome::Refused { refusal, after, .. } => format!("refused after {:.3} ms: {refusal}", millis(*after)),
        Outcome::Directory { problem, after, .. } => format!("not found after {:.3} ms: {problem}", millis(*after)),
        other => format!("unacknowledged: {other}"),
    }
}

/// Adds the fields of an outcome to a JSON object.
pub(crate) fn add_to(mut object: Value, outcome: &Outcome) -> Value {
    let name = |name: &str| ("outcome", Value::from(name));
    let after = |span: &Duration| ("after_ms", Value::from(millis(*span)));
    let fields = match outcome {
        Outcome::Acked { elapsed, .. } => vec![name("acked"), after(elapsed)],
        Outcome::Stored { elapsed, .. } => vec![name("stored"), after(elapsed)],
        Outcome::Refused { refusal, after: span, .. } => vec![
            name("refused"),
            after(span),
            ("reason", refusal.reason.to_string().into()),
            ("detail", refusal.detail.as_str().into()),
        ],
        Outcome::Directory { problem, after: span, .. } => {
            vec![name("not_found"), after(span), ("detail", problem.as_str().into())]
        }
        Outcome::Unacknowledged { after: span, sent, problem, .. } => {
            vec![name("unacknowledged"), after(span), ("sent", (*sent).into()), ("detail", problem.as_str().into())]
        }
        // An outcome of a later version.
        other => vec![name(&other.to_string())],
    };
    for (name, value) in fields {
        object[name] = value;
    }
    object
}

/// Adds why there may be other receivers to the JSON object of one.
pub(crate) fn mark(mut object: Value, incomplete: Option<&str>) -> Value {
    if let Some(reason) = incomplete {
        object["may_be_incomplete"] = reason.into();
    }
    object
}

/// The failure of a message that not all receivers have accepted, or perhaps not all.
/// A refusal comes before a missing acknowledgement, because it is certain.
pub(crate) fn failure<'a>(
    outcomes: impl IntoIterator<Item = &'a Outcome>,
    incomplete: bool,
    summary: impl std::fmt::Display,
) -> Failure {
    let (mut refused, mut not_found, mut unacknowledged) = (None, None, None);
    for outcome in outcomes {
        match outcome {
            Outcome::Refused { refusal, .. } => refused = refused.or(Some(refusal)),
            Outcome::Directory { problem, .. } => not_found = not_found.or(Some(problem)),
            Outcome::Unacknowledged { problem, .. } => unacknowledged = unacknowledged.or(Some(problem)),
            _ => {}
        }
    }
    match (refused, not_found, unacknowledged) {
        (Some(refusal), ..) => Failure::new(Exit::Refused, format!("{refusal} ({summary})")),
        (_, Some(problem), _) => Failure::new(Exit::Timeout, format!("Directory: {problem} ({summary})")),
        (.., Some(problem)) => Failure::new(Exit::Timeout, format!("Unacknowledged: {problem} ({summary})")),
        _ if incomplete => Failure::new(Exit::Timeout, format!("Incomplete ({summary})")),
        _ => Failure::new(Exit::Timeout, format!("Unacknowledged ({summary})")),
    }
}

pub(super) fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}
