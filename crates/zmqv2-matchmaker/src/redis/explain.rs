//! Turns failures of Redis into errors that say what to correct.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::connection::{RedisFailure, remedy};
use super::settings::{RedisLocation, RedisSettings};
use crate::api::MatchmakerError;

/// Whether the server wants a password or does not take the given one.
pub(super) fn wants_login(error: &RedisError) -> bool {
    let text = error.to_string();
    let words = ["WRONGPASS", "NOAUTH", "invalid password", "without any password", "arguments for 'auth'"];
    error.kind() == ErrorKind::AuthenticationFailed || words.iter().any(|word| text.contains(word))
}

fn shown(error: &RedisError) -> String {
    // The operating system's text would be "Resource temporarily unavailable".
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let text = error.to_string();
    // Redis names the hash of the script and the line in it, which says nothing to a reader, and
    // differs for one cause.
    let text = text.split(" script: ").next().unwrap_or(&text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why Redis refuses writes but takes reads, and the remedy, if this is the reason of an error.
pub(super) fn refused_writes(error: &str) -> Option<String> {
    let remedies = [
        ("NOREPLICAS", "start its replicas, or lower min-replicas-to-write in Redis"),
        ("OOM ", "its memory is full: raise maxmemory in Redis, or remove data of other programs"),
        ("MISCONF", "it cannot save to its disk: make room there, or correct save and dir in Redis"),
        ("READONLY", "it is a replica now: name the primary, or sentinel_hosts, in [matchmaker_redis]"),
    ];
    let (_, remedy) = remedies.iter().find(|(word, _)| error.contains(word))?;
    Some(format!("{}; {remedy}", error.split_whitespace().collect::<Vec<_>>().join(" ")))
}

impl RedisSettings {
    /// The error for an operator. Until a connection was open (`connected`), any option may be wrong.
    pub(super) fn explain(&self, failure: RedisFailure, connected: bool) -> MatchmakerError {
        let directory = format!("redis at {}", self.location);
        let error = match failure {
            RedisFailure::Misconfigured { problem, remedy } => {
                return MatchmakerError::Misconfigured { directory, problem, remedy };
            }
            RedisFailure::Unusable { problem, remedy } => {
                return MatchmakerError::Unavailable { directory, source: format!("{problem}; {remedy}").into() };
            }
            RedisFailure::Failed(error) => error,
        };
        if let Some((problem, option)) = self.diagnosis(&error) {
            return MatchmakerError::Misconfigured { directory, problem, remedy: remedy(option) };
        }
        let text = shown(&error);
        if let Some(reason) = refused_writes(&text) {
            return MatchmakerError::RefusesWrites { directory, reason };
        }
        let source = match self.hint(&error, &text, connected) {
            Some(hint) => format!("{text}; {hint}"),
            None => text,
        };
        MatchmakerError::Unavailable { directory, source: source.into() }
    }

    /// Like [`explain`](Self::explain), for an operation that must write.
    pub(super) fn explain_write(&self, error: MatchmakerError) -> MatchmakerError {
        match error {
            // It can still be read.
            MatchmakerError::Misconfigured { directory, problem, remedy } if problem.contains("lacks a permission") => {
                MatchmakerError::RefusesWrites { directory, reason: format!("{problem}; {remedy}") }
            }
            other => other,
        }
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
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || has(&["NOPERM", "ACL failure"]) {
            return Some((format!("the user lacks a permission: {text}"), "user"));
        }
        if has(&["cluster mode", "CROSSSLOT", "MOVED "]) {
            return Some((format!("it is a Redis Cluster, which does not work: {text}"), "host and port"));
        }
        if has(&["switch database", "DB index"]) {
            return Some((format!("it has no database {}", self.database), "database"));
        }
        if has(&["WRONGTYPE", "wrong kind of value"]) {
            let problem = format!("another program has written keys that begin with zmqv2: ({text})");
            return Some((problem, "database, or delete these keys,"));
        }
        if self.tls.is_some() {
            if has(&["CertificateRequired"]) {
                return Some((format!("it wants a certificate: {text}"), "tls_cert_file and tls_key_file"));
            }
            if has(&["NotValidForName", "not valid for name", "not valid for any name"]) {
                let problem = format!("its certificate is for another host name: {text}");
                return Some((problem, "host (a name of the certificate)"));
            }
            if has(&["corrupt message", "InvalidMessage", "InvalidContentType", "peer is incompatible"]) {
                return Some((format!("it does not speak TLS: {text}"), "tls and port"));
            }
            if has(&["certificate", "UnknownIssuer"]) && !has(&["xpired", "NotValidYet", "not valid yet"]) {
                return Some((format!("its certificate is not trusted: {text}"), "tls_ca_file"));
            }
        } else if error.kind() == ErrorKind::Parse {
            let problem = format!("its answer is not in the protocol of Redis, as if it spoke TLS: {text}");
            return Some((problem, "tls and port"));
        }
        None
    }

    /// The remedy for an error that may pass by itself.
    fn hint(&self, error: &RedisError, text: &str, connected: bool) -> Option<String> {
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let known = [
            (&["max number of clients"][..], "raise maxclients in Redis, and its limit of open files"),
            (&["xpired"], "the certificate has expired: renew that of Redis, or correct the clock of this machine"),
            (&["NotValidYet", "not valid yet"], "correct the clock of this machine, or the certificate of Redis"),
            (&["LOADING"], "it is reading its data from the disk, and will be ready then"),
            (&["MASTERDOWN"], "it is a replica without its primary: name the primary, or sentinel_hosts"),
            (&["BUSY "], "a script of another program runs in it"),
            (&["protected mode"], "set a password, or bind and protected-mode, in Redis"),
        ];
        if let Some((_, hint)) = known.iter().find(|(words, _)| has(words)) {
            return Some((*hint).to_owned());
        }
        if connected {
            return None;
        }
        let dropped = error.is_connection_dropped() && !error.is_connection_refusal();
        let option = match (&self.location, &self.tls) {
            _ if dropped && self.tls.is_none() => {
                return Some(format!("it ends the connection, as if it spoke TLS: {}", remedy("tls and port")));
            }
            _ if dropped => {
                let option = "tls, tls_cert_file and tls_key_file, or the port,";
                let problem = "it ends the connection, as if it wanted a certificate or spoke no TLS";
                return Some(format!("{problem}: {}", remedy(option)));
            }
            (RedisLocation::Server(_), None) => "host and port",
            // A Redis without TLS does not answer a TLS greeting.
            (RedisLocation::Server(_), Some(_)) => "host, tls and port",
            (RedisLocation::Sentinel { .. }, None) => "sentinel_hosts",
            (RedisLocation::Sentinel { .. }, Some(_)) => "sentinel_hosts and tls",
        };
        Some(format!("it cannot be reached: start it, or {}", remedy(option)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::redis::RedisTls;
    use zmqv2_proto::Config;

    fn settings(tls: bool) -> RedisSettings {
        let mut settings = RedisSettings::new(&Config::default()).unwrap();
        settings.tls = tls.then(RedisTls::default);
        settings
    }

    fn told(tls: bool, connected: bool, text: &str) -> MatchmakerError {
        let error = RedisError::from((ErrorKind::Client, "it said", text.to_owned()));
        settings(tls).explain(error.into(), connected)
    }

    #[test]
    fn the_text_of_an_error_names_the_option_to_correct() {
        let misconfigured = [
            (false, "WRONGPASS invalid username-password pair", "user and password"),
            (false, "NOAUTH Authentication required.", "it wants a password"),
            (false, "NOPERM this user has no permissions", "correct user"),
            (false, "ERR DB index is out of range", "correct database"),
            (false, "WRONGTYPE Operation against a key holding the wrong kind of value", "keys that begin with zmqv2:"),
            (false, "ERR SELECT is not allowed in cluster mode", "Redis Cluster"),
            (true, "invalid peer certificate: UnknownIssuer", "tls_ca_file"),
            (true, "certificate not valid for name \"r\"; certificate is only valid for \"q\"", "correct host"),
            (true, "received fatal alert: CertificateRequired", "tls_cert_file and tls_key_file"),
        ];
        for (tls, text, hint) in misconfigured {
            let error = told(tls, true, text);
            assert!(matches!(error, MatchmakerError::Misconfigured { .. }), "{error}");
            assert!(error.to_string().contains(hint) && !error.may_pass(), "{error}");
        }
        let passing = [
            (false, "ERR max number of clients reached", "raise maxclients"),
            (true, "invalid peer certificate: certificate expired: verification time 1", "the certificate has expired"),
            (true, "invalid peer certificate: NotValidYet", "correct the clock"),
            (false, "LOADING Redis is loading the dataset in memory", "will be ready then"),
            (false, "MASTERDOWN Link with MASTER is down", "a replica without its primary"),
            (false, "DENIED Redis is running in protected mode", "protected-mode"),
        ];
        for (tls, text, hint) in passing {
            let error = told(tls, true, text);
            assert!(matches!(error, MatchmakerError::Unavailable { .. }), "{error}");
            assert!(error.to_string().contains(hint) && error.may_pass(), "{error}");
        }
    }

    #[test]
    fn refused_writes_are_no_outage() {
        for (text, hint) in [
            ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
            ("MISCONF Redis is configured to save RDB snapshots, but", "save and dir"),
            ("READONLY You can't write against a read only replica.", "name the primary"),
        ] {
            let error = told(false, true, text);
            assert!(matches!(error, MatchmakerError::RefusesWrites { .. }), "{error}");
            assert!(error.to_string().contains(hint) && error.may_pass(), "{error}");
        }
        let denied = settings(false).explain_write(told(false, true, "NOPERM no permissions to run the 'set' command"));
        assert!(matches!(denied, MatchmakerError::RefusesWrites { .. }), "{denied}");
    }

    #[test]
    fn until_a_connection_was_open_any_option_may_be_wrong() {
        let refused = || RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)).into();
        let first = settings(false).explain(refused(), false);
        assert!(first.to_string().contains("start it, or correct host and port in [matchmaker_redis]"), "{first}");
        let later = settings(false).explain(refused(), true);
        assert!(!later.to_string().contains("correct") && first.may_pass() && later.may_pass(), "{later}");
    }
}
