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
        Outcome::Unacknowledged { after: span, sent, .. } => {
            vec![name("unacknowledged"), after(span), ("sent", (*sent).into())]
        }
        // An outcome of a later version.
        other => vec![name(&other.to_string())],
    };
    for (name, value) in fields {
        object[name] = value;
    }
    object
}

/// The failure of a message that not all receivers have accepted. A refusal comes before a missing
/// acknowledgement, because it is certain.
pub(crate) fn failure<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>, summary: impl std::fmt::Display) -> Failure {
    let refusal = outcomes.into_iter().find_map(|outcome| match outcome {
        Outcome::Refused { refusal, .. } => Some(refusal),
        _ => None,
    });
    match refusal {
        Some(refusal) => Failure::new(Exit::Refused, format!("{refusal} ({summary})")),
        None => Failure::new(Exit::Timeout, format!("Unacknowledged ({summary})")),
    }
}

pub(super) fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}
