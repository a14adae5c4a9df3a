//! Asks Sentinels where the primary is.

use std::io;
use std::sync::{Arc, mpsc};

use redis::{RedisError, cmd};
use zmqv2_proto::TcpAddress;
use zmqv2_proto::config::Secret;

use super::connection::{Batch, COMMAND_TIMEOUT, RedisFailure, connect};
use super::explain::wants_login;
use super::settings::RedisSettings;
use crate::cached::now;

/// The addresses that Sentinels name for the primary of `group`, the one with the most votes first.
/// Asks all Sentinels at once and waits until more than half agree, because a Sentinel that is cut
/// off from the others may name a former primary. The answer may be out of date for a moment, so a
/// connection checks the role of the server too.
pub(super) fn primaries(
    settings: &Arc<RedisSettings>,
    sentinels: &[TcpAddress],
    group: &str,
    password: Option<&Secret>,
) -> Result<Vec<TcpAddress>, RedisFailure> {
    let (answers, received) = mpsc::channel();
    for sentinel in sentinels {
        let (answers, settings) = (answers.clone(), Arc::clone(settings));
        let (sentinel, group, password) = (sentinel.clone(), group.to_owned(), password.cloned());
        // The receiver of a late answer may be gone.
        let ask = move || drop(answers.send(ask(&settings, &sentinel, &group, password.as_ref())));
        std::thread::Builder::new().name("zmqv2-sentinel".to_owned()).spawn(ask).map_err(RedisError::from)?;
    }
    drop(answers);
    let deadline = now() + COMMAND_TIMEOUT;
    let mut poll = Poll { asked: sentinels.len(), ..Poll::default() };
    while !poll.is_decided()
        && let Ok(answer) = received.recv_timeout(deadline.saturating_duration_since(now()))
    {
        poll.count(answer);
    }
    poll.result(group)
}

/// The answers so far.
#[derive(Default)]
struct Poll {
    asked: usize,
    votes: Vec<(TcpAddress, usize)>,
    without_group: usize,
    failure: Option<RedisFailure>,
}

impl Poll {
    fn count(&mut self, answer: Result<Option<TcpAddress>, RedisFailure>) {
        match answer {
            Ok(Some(address)) => match self.votes.iter_mut().find(|(named, _)| *named == address) {
                Some((_, votes)) => *votes += 1,
                None => self.votes.push((address, 1)),
            },
            Ok(None) => self.without_group += 1,
            // A mistake that an operator can correct is reported before an absent Sentinel.
            Err(error) if self.failure.is_none() || matches!(error, RedisFailure::Misconfigured { .. }) => {
                self.failure = Some(error);
            }
            Err(_) => {}
        }
    }

    fn is_decided(&self) -> bool {
        self.votes.iter().any(|(_, votes)| votes * 2 > self.asked)
    }

    fn result(mut self, group: &str) -> Result<Vec<TcpAddress>, RedisFailure> {
        if !self.votes.is_empty() {
            self.votes.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
            return Ok(self.votes.into_iter().map(|(address, _)| address).collect());
        }
        // If all answered, the group is wrong. A Sentinel that did not answer may know it.
        if self.without_group == self.asked {
            return Err(RedisFailure::option(format!("no Sentinel knows a group {group:?}"), "sentinel_group_name"));
        }
        let silent = || RedisError::from(io::Error::from(io::ErrorKind::TimedOut)).into();
        Err(self.failure.unwrap_or_else(silent))
    }
}

fn ask(
    settings: &RedisSettings,
    sentinel: &TcpAddress,
    group: &str,
    password: Option<&Secret>,
) -> Result<Option<TcpAddress>, RedisFailure> {
    let named = connect(sentinel, settings.tls.as_ref()).and_then(|mut connection| {
        let mut batch = Batch::default();
        batch.login(None, password);
        batch.add(cmd("SENTINEL").arg("get-master-addr-by-name").arg(group));
        batch.send(&mut connection)?.next::<Option<(String, u16)>>()
    });
    let named = named.map_err(|failure| match failure {
        RedisFailure::Failed(error) if wants_login(&error) => {
            let problem = if password.is_none() { "wants a password" } else { "refuses this password" };
            RedisFailure::option(format!("Sentinel {sentinel} {problem}"), "sentinel_password")
        }
        other => other,
    })?;
    let Some((host, port)) = named else { return Ok(None) };
    TcpAddress::new(&host, port).map(Some).map_err(|error| RedisFailure::Misconfigured {
        problem: format!("Sentinel {sentinel} names a primary that cannot be reached: {error}"),
        remedy: "correct the configuration of the Sentinels".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use redis::ErrorKind;

    use super::*;

    fn poll(asked: usize, answers: &[&str]) -> Poll {
        let mut poll = Poll { asked, ..Poll::default() };
        for answer in answers {
            poll.count(match *answer {
                "?" => Ok(None),
                "" => Err(RedisError::from((ErrorKind::Io, "gone")).into()),
                "login" => Err(RedisFailure::Misconfigured { problem: "login".to_owned(), remedy: String::new() }),
                address => Ok(Some(address.parse().unwrap())),
            });
        }
        poll
    }

    #[test]
    fn the_address_with_the_most_votes_comes_first_and_more_than_half_are_enough() {
        let one_is_cut_off = poll(3, &["old:1", "new:2", "new:2"]);
        assert!(one_is_cut_off.is_decided());
        let named: Vec<_> = one_is_cut_off.result("g").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(named, ["new:2", "old:1"]);
        let open = poll(3, &["old:1", ""]);
        assert!(!open.is_decided(), "the third may know better");
        assert_eq!(open.result("g").unwrap().len(), 1, "one that answers is better than none");
        assert!(poll(1, &["a:1"]).is_decided());
    }

    #[test]
    fn a_mistake_that_can_be_corrected_is_reported() {
        let problem = |answers: &[&str]| match poll(answers.len(), answers).result("g").unwrap_err() {
            RedisFailure::Misconfigured { problem, .. } | RedisFailure::Unusable { problem, .. } => problem,
            RedisFailure::Failed(error) => error.to_string(),
        };
        assert_eq!(problem(&["?", "?"]), "no Sentinel knows a group \"g\"");
        assert_eq!(problem(&["", "login", ""]), "login");
        assert!(problem(&["?", ""]).contains("gone"));
    }
}
