//! Turns failures of Redis into errors that say what to correct.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::connection::{RedisFailure, remedy};
use super::settings::{RedisLocation, RedisSettings};
use crate::api::MatchmakerError;

/// Whether the server wants a password or does not take the given one.
pub(super) fn wants_login(error: &RedisError) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::AuthenticationFailed
        || ["WRONGPASS", "NOAUTH", "invalid password"].iter().any(|word| text.contains(word))
}

fn shown(error: &RedisError) -> String {
    // The operating system's text would be "Resource temporarily unavailable".
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

impl RedisSettings {
    /// The error for an operator.
    pub(super) fn explain(&self, failure: RedisFailure) -> MatchmakerError {
        let directory = format!("redis at {}", self.location);
        let (problem, remedy) = match failure {
            RedisFailure::Misconfigured { problem, remedy } => (problem, remedy),
            RedisFailure::Failed(error) => match self.diagnosis(&error) {
                Some((problem, option)) => (problem, remedy(option)),
                None => return MatchmakerError::Unavailable { directory, source: shown(&error).into() },
            },
        };
        MatchmakerError::Misconfigured { directory, problem, remedy }
    }

    /// The error for an operator when the first connection fails, so that any option may be wrong.
    pub(super) fn explain_start(&self, failure: RedisFailure) -> MatchmakerError {
        let directory = format!("redis at {}", self.location);
        let place = match (&self.location, &self.tls) {
            (RedisLocation::Server(_), None) => "host and port",
            // A Redis without TLS does not answer a TLS greeting.
            (RedisLocation::Server(_), Some(_)) => "host, tls and port",
            (RedisLocation::Sentinel { .. }, None) => "sentinel_hosts",
            (RedisLocation::Sentinel { .. }, Some(_)) => "sentinel_hosts and tls",
        };
        let RedisFailure::Failed(error) = failure else { return self.explain(failure) };
        let dropped = error.is_connection_dropped() && !error.is_connection_refusal();
        let (problem, option) = match self.diagnosis(&error) {
            Some(known) => known,
            None if dropped && self.tls.is_none() => {
                (format!("it ends the connection, as if it spoke TLS: {error}"), "tls and port")
            }
            None if dropped => (
                format!("it ends the connection, as if it wanted a certificate or spoke no TLS: {error}"),
                "tls, tls_cert_file and tls_key_file, or the port,",
            ),
            None => {
                let (problem, remedy) = (format!("it cannot be reached: {}", shown(&error)), remedy(place));
                return MatchmakerError::Misconfigured { directory, problem, remedy: format!("start it, or {remedy}") };
            }
        };
        MatchmakerError::Misconfigured { directory, problem, remedy: remedy(option) }
    }

    /// The problem and the option to correct, for an error that does not pass by itself.
    fn diagnosis(&self, error: &RedisError) -> Option<(String, &'static str)> {
        let text = shown(error);
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if wants_login(error) {
            let wanted = self.password.is_none();
            let problem = if wanted { "it wants a password" } else { "it refuses this user or password" };
            return Some((problem.to_owned(), "user and password"));
        }
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || has(&["NOPERM"]) {
            return Some((format!("the user lacks a permission: {text}"), "user"));
        }
        if has(&["switch database", "DB index"]) {
            return Some((format!("it has no database {}", self.database), "database"));
        }
        if self.tls.is_some() {
            if has(&["CertificateRequired"]) {
                return Some((format!("it wants a certificate: {text}"), "tls_cert_file and tls_key_file"));
            }
            if has(&["certificate", "UnknownIssuer", "NotValidForName"]) {
                return Some((format!("its certificate is not trusted: {text}"), "tls_ca_file"));
            }
            if has(&["corrupt message", "InvalidMessage", "InvalidContentType", "peer is incompatible"]) {
                return Some((format!("it does not speak TLS: {text}"), "tls and port"));
            }
        } else if error.kind() == ErrorKind::Parse {
            let problem = format!("its answer is not in the protocol of Redis, as if it spoke TLS: {text}");
            return Some((problem, "tls and port"));
        }
        None
    }
}
