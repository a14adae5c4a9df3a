//! SIGUSR2: writes the state of a server to the log.

use std::time::Instant;

use serde_json::{Map, Value, json};
use zmqv2_proto::transport::{open_file_limit, refused_connections};

use super::tell;
use crate::log_queue;
use crate::threads::now;

/// Writes the state of `zmqv2 serve` and `zmqv2 listen`. That of a broker is its status report.
#[derive(Debug)]
pub struct StateReport {
    started: Instant,
    /// What the program serves, such as `"target"`.
    about: Value,
}

impl StateReport {
    /// For a program that starts now.
    #[must_use]
    pub fn new(about: Value) -> Self {
        Self { started: now(), about }
    }

    /// Writes one line: `state: ` and a JSON object.
    pub fn write(&self, ready: bool) {
        let mut state: Map<String, Value> = self.about.as_object().cloned().unwrap_or_default();
        let general = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": now().saturating_duration_since(self.started).as_secs_f64(),
            "ready": ready,
            "open_file_limit": open_file_limit(),
            "connections_refused": refused_connections().local,
            "log_lines_dropped": log_queue::dropped(),
        });
        if let Value::Object(general) = general {
            state.extend(general);
        }
        write_state(&Value::Object(state));
    }
}

/// Writes the line about a state. It is asked for, so the level of the log does not count.
pub(super) fn write_state(state: &impl serde::Serialize) {
    match serde_json::to_string(state) {
        Ok(text) => tell(format_args!("state: {text}")),
        Err(error) => log::error!("the state cannot be written: {error}"),
    }
}
