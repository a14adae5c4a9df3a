//! How a message that was not delivered is told to Python.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use zmqv2_client::{CallError, Outcome, Reason, Refusal, SendError};

create_exception!(
    oslo_messaging_zmqv2._native,
    Failed,
    PyException,
    "A message did not succeed. Its arguments are: the kind (a word), whether the method may have run, and a sentence."
);

/// Why a message did not succeed.
#[derive(Debug)]
pub struct Failure {
    pub kind: &'static str,
    pub may_have_run: bool,
    pub text: String,
}

impl Failure {
    /// Something that was not sent.
    pub fn not_sent(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, may_have_run: false, text: text.into() }
    }

    pub fn into_error(self) -> PyErr {
        Failed::new_err((self.kind, self.may_have_run, self.text))
    }
}

fn kind_of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRoute => "no_route",
        Reason::Busy => "busy",
        Reason::Expired => "expired",
        Reason::ServerLost => "server_lost",
        Reason::TooLarge => "too_large",
        Reason::Malformed => "malformed",
        Reason::Unauthorized => "unauthorized",
        Reason::ShuttingDown => "shutting_down",
        Reason::NoMethod => "no_method",
        // A newer reason.
        _ => "refused",
    }
}

fn kind_of_send_error(error: &SendError) -> &'static str {
    match error {
        SendError::TooLarge { .. } => "too_large",
        SendError::Full { .. } => "full",
        SendError::Closed { .. } => "closed",
        SendError::Directory { .. } | SendError::DirectorySilent { .. } => "directory",
        SendError::InvalidName(_) => "invalid_name",
        SendError::Inherited { .. } => "inherited",
        SendError::Transport { .. } => "transport",
        _ => "not_sent",
    }
}

/// An error and its causes, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::not_sent(kind_of_send_error(&error), with_causes(&error))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::NotSent(error) => kind_of_send_error(error),
            CallError::Refused { refusal, .. } => kind_of_reason(refusal.reason),
            CallError::Timeout { .. } => "timeout",
            CallError::Unreachable { .. } => "unreachable",
            CallError::ConnectionLost { .. } => "connection_lost",
            CallError::Closed { .. } => "closed",
            CallError::Inherited { .. } => "inherited",
            _ => "failed",
        };
        Self { kind, may_have_run: error.may_have_run(), text: with_causes(&error) }
    }
}

/// How one copy of a message ended: a word, whether the method may have run, and a sentence.
pub fn describe(outcome: &Outcome) -> (&'static str, bool, String) {
    let text = outcome.to_string();
    match outcome {
        Outcome::Acked { .. } => ("acked", true, text),
        Outcome::Stored { .. } => ("stored", true, text),
        Outcome::Refused { refusal, .. } => (kind_of_reason(refusal.reason), Refusal::may_have_run(refusal), text),
        Outcome::Directory { .. } => ("directory", false, text),
        Outcome::Unacknowledged { sent, .. } => (if *sent { "unacknowledged" } else { "unreachable" }, *sent, text),
        _ => ("unknown", true, text),
    }
}
