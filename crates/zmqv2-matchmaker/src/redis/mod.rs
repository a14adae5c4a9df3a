//! The directory in Redis: leases that end by the clock of Redis, for any number of nodes.
//!
//! The files of this folder import each other: Sentinels are asked over connections, connections
//! ask Sentinels for the primary, and every error names the setting to correct.

mod connection;
mod explain;
mod keys;
mod list;
mod sentinel;
mod settings;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Value, cmd};
use zmqv2_proto::{Config, PerProcess, TopicKey, Ttl};

use crate::api::{CheckIn, CheckedIn, MatchmakerError, OtherBroker, Registration};
use crate::cached::remote::{
    ChangeWatcher, DirectoryAnswer, DirectoryList, RemoteDirectory, Renewals, ServerEntry, TopicQuery, TopicState,
};
use crate::cached::{CacheSettings, CachedMatchmaker, longest_pause};
use connection::{Connector, RedisFailure, Script, Session};
use keys::CheckIns;
pub use settings::{RedisLocation, RedisSettings, RedisTls};

/// The most registrations or topics in one command. Redis runs one command at a time.
const MAX_BATCH: usize = 200;

/// A directory in Redis (`rpc_zmq_matchmaker = redis`). `docs/matchmaker.md` lists its keys.
///
/// Every registration is a lease that ends by the clock of Redis. One script registers, renews or
/// withdraws up to 200 registrations, so that no reader sees a part of it. Reading a topic of any
/// number of nodes takes one round trip. A command may take 2 s, opening a connection 5 s.
///
/// The directory remembers nothing. [`RedisDirectory::open`] puts a [`CachedMatchmaker`] in front.
pub struct RedisDirectory {
    settings: Arc<RedisSettings>,
    /// How long Redis remembers a withdrawal.
    lease: Duration,
    /// A child that was forked has a connection of its own.
    connector: PerProcess<Mutex<Connector>>,
}

impl RedisDirectory {
    /// A directory without a connection. `lease` is the usual lease of a registration.
    #[must_use]
    pub fn new(settings: RedisSettings, lease: Duration) -> Self {
        let settings = Arc::new(settings);
        Self {
            connector: PerProcess::new(Mutex::new(Connector::new(Arc::clone(&settings)))),
            settings,
            lease: lease.min(Ttl::MAX.into()),
        }
    }

    /// The directory that `config` names, with a cache in front. Does not connect: a Redis that is
    /// down, slow or refuses the login does not stop a program from starting. The first question and
    /// [`health`](crate::Matchmaker::health) report it, and it is tried again and again.
    ///
    /// # Errors
    /// [`MatchmakerError::Misconfigured`] names the option to correct: an address that is none, a
    /// user without a password, files of TLS that cannot be used.
    pub fn open(config: &Config) -> Result<CachedMatchmaker, MatchmakerError> {
        let directory = Self::new(RedisSettings::new(config)?, config.heartbeat_ttl);
        directory.settings.check().map_err(|failure| directory.settings.explain(failure, false))?;
        let settings = CacheSettings {
            refresh: config.redis_refresh,
            max_stale: config.redis_max_stale,
            lease: config.heartbeat_ttl,
            renew_every: config.heartbeat_freq,
        };
        Ok(CachedMatchmaker::new(Box::new(directory), settings))
    }

    /// Checks that Redis can be reached, takes the password, is new enough and is the primary.
    ///
    /// # Errors
    /// [`MatchmakerError`] names the option to correct, within a few seconds.
    pub fn check(&self) -> Result<(), MatchmakerError> {
        self.connector().run(|session| read(session, &[])).map(drop)
    }

    fn connector(&self) -> MutexGuard<'_, Connector> {
        let connector = self.connector.get_or_renew(|| Mutex::new(Connector::new(Arc::clone(&self.settings))));
        connector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        script: Script,
        registrations: &[Registration],
        lease: Duration,
        texts: impl Fn(&Registration) -> Vec<String>,
    ) -> Result<u64, MatchmakerError> {
        let mut sum = 0;
        let mut connector = self.connector();
        for some in registrations.chunks(MAX_BATCH) {
            let mut names = [keys::EPOCH, keys::TOPICS, keys::RENEWALS].map(str::to_owned).to_vec();
            // The process of Redis is the second.
            let mut arguments = vec![keys::millis(lease).to_string(), String::new()];
            for registration in some {
                names.extend(names_of(&registration.key));
                arguments.extend(texts(registration));
            }
            let written = connector.run(|session| {
                arguments[1].clone_from(&session.instance);
                session.run::<u64>(script, &names, &arguments)
            });
            sum += written.map_err(|error| self.settings.explain_write(error))?;
        }
        Ok(sum)
    }
}

impl fmt::Debug for RedisDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisDirectory").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RemoteDirectory for RedisDirectory {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn location(&self) -> String {
        format!("redis at {}", self.settings.location)
    }

    fn read(&self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError> {
        self.connector().run(|session| read(session, queries))
    }

    fn register(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        let new = self.write(Script::Register, registrations, lease, |registration| {
            let place = keys::place(&registration.node, lease);
            vec![registration.key.to_string(), keys::member(registration), place]
        })?;
        log::debug!("{} registrations in {}, {new} of them new", registrations.len(), self.location());
        Ok(())
    }

    fn withdraw(&self, registrations: &[Registration]) -> Result<(), MatchmakerError> {
        let gone = self.write(Script::Withdraw, registrations, self.lease, |registration| {
            vec![registration.key.to_string(), keys::member(registration)]
        })?;
        log::debug!("{gone} registrations withdrawn from {}", self.location());
        Ok(())
    }

    fn check_in(&self, check_in: &CheckIn<'_>) -> Result<CheckedIn, MatchmakerError> {
        let checked = self.connector().run(|session| check_in_at(session, check_in));
        checked.map_err(|error| self.settings.explain_write(error))
    }

    fn list(&self) -> Result<DirectoryList, MatchmakerError> {
        self.connector().run(list::list)
    }

    fn watcher(&self) -> Box<dyn ChangeWatcher> {
        Box::new(RedisChangeWatcher { connector: Connector::new(Arc::clone(&self.settings)) })
    }

    fn close_idle(&self) {
        // A connection that is in use is not idle.
        if let Some(connector) = self.connector.get()
            && let Ok(mut connector) = connector.try_lock()
        {
            connector.close_idle();
        }
    }
}

/// Follows changes over its own connection. Redis blocks it until a change comes.
struct RedisChangeWatcher {
    connector: Connector,
}

impl ChangeWatcher for RedisChangeWatcher {
    fn wait(&mut self, known: &[TopicQuery], timeout: Duration) -> Result<bool, MatchmakerError> {
        // `millis` is at least 1: zero would block for ever.
        let mut command = cmd("XREAD");
        command.arg("BLOCK").arg(keys::millis(timeout)).arg("STREAMS");
        command.arg(known.iter().map(|query| keys::changes(&query.key)).collect::<Vec<_>>());
        command.arg(known.iter().map(|query| keys::shown(query.known.unwrap_or_default())).collect::<Vec<_>>());
        let answer: Value = self.connector.run(|session| session.wait(&command, timeout))?;
        Ok(answer != Value::Nil)
    }

    fn read(&mut self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError> {
        self.connector.run(|session| read(session, queries))
    }
}

fn names_of(key: &TopicKey) -> [String; 3] {
    [keys::leases(key), keys::places(key), keys::changes(key)]
}

fn read(session: &mut Session, queries: &[TopicQuery]) -> Result<DirectoryAnswer, RedisFailure> {
    let mut states = Vec::with_capacity(queries.len());
    loop {
        let rest = &queries[states.len()..];
        let some = &rest[..rest.len().min(MAX_BATCH)];
        let (names, arguments) = reading(session, some);
        let mut answer: Vec<Value> = session.run(Script::Read, &names, &arguments)?;
        let some_states = answer.split_off(HEAD.min(answer.len()));
        // The script may answer only some queries when topics are large.
        if some_states.len() > some.len() || some_states.is_empty() != some.is_empty() {
            return Err(unexpected("it answered another number of queries"));
        }
        for state in some_states {
            states.push(state_of(state)?);
        }
        if states.len() == queries.len() {
            return Ok(answer_of(session, answer, states)?.answer);
        }
    }
}

/// Keys and arguments of the script that reads these topics.
fn reading(session: &Session, queries: &[TopicQuery]) -> (Vec<String>, Vec<String>) {
    let mut names = vec![keys::EPOCH.to_owned(), keys::RENEWALS.to_owned()];
    names.extend(queries.iter().flat_map(|query| names_of(&query.key)));
    let mut arguments = vec![session.instance.clone(), keys::millis(keys::QUIET).to_string()];
    arguments.extend(queries.iter().map(|query| query.known.map(keys::shown).unwrap_or_default()));
    (names, arguments)
}

/// The number of values before the states.
const HEAD: usize = 4;

struct Reading {
    answer: DirectoryAnswer,
    /// The text of the check-ins.
    check_ins: String,
}

/// The answer of the script that reads topics. `head`: its first values.
fn answer_of(session: &Session, head: Vec<Value>, states: Vec<Option<TopicState>>) -> Result<Reading, RedisFailure> {
    let [epoch, clock, check_ins, refused] = texts(head)?;
    let clock = millis(&clock)?;
    let since = session.started.max(keys::begun(&epoch).unwrap_or_default());
    let (instance, age) = (session.instance.clone(), clock.saturating_sub(since));
    let renewals = match CheckIns::parse(&check_ins) {
        Some(state) => state.renewals(clock, &instance, &refused),
        // Redis is empty and cannot even note its epoch.
        None if !refused.is_empty() => Renewals::Stopped { reason: refused.into() },
        None => Renewals::Unknown,
    };
    Ok(Reading { answer: DirectoryAnswer { epoch, instance, clock, age, renewals, states }, check_ins })
}

/// Reads the revision, whether only changes follow, then pairs of member and place. `None`:
/// unchanged.
fn state_of(value: Value) -> Result<Option<TopicState>, RedisFailure> {
    let Value::Array(parts) = value else { return Ok(None) };
    let mut parts = parts.into_iter();
    let (revision, form) = (parts.next().map(text).transpose()?, parts.next().map(text).transpose()?);
    let revision = revision.as_deref().and_then(keys::revision).ok_or_else(|| unexpected("a revision is missing"))?;
    let mut entries = Vec::with_capacity(parts.len() / 2);
    while let (Some(member), Some(place)) = (parts.next(), parts.next()) {
        entries.extend(entry_of(&text(member)?, &text(place)?).map(|(entry, _)| entry));
    }
    Ok(Some(TopicState { revision, changes_only: form.as_deref() == Some("changed"), entries }))
}

fn entry_of(member: &str, place: &str) -> Option<(ServerEntry, Duration)> {
    let entry = keys::entry(member, place);
    if entry.is_none() {
        // Escaped by `{:?}`, because other programs may have written it.
        log::debug!("ignored an entry that is not a registration: {member:?} = {place:?}");
    }
    entry
}

fn check_in_at(session: &mut Session, check_in: &CheckIn<'_>) -> Result<CheckedIn, RedisFailure> {
    let CheckIn { node, broker, again, sample, lease, renew_every } = *check_in;
    let sample_places = sample.map_or_else(|| keys::EPOCH.to_owned(), |sample| keys::places(&sample.key));
    let names = [keys::EPOCH.to_owned(), keys::RENEWALS.to_owned(), keys::NODES.to_owned(), sample_places];
    let arguments = [
        session.instance.clone(),
        keys::millis(longest_pause(lease, renew_every)).to_string(),
        keys::millis(lease).to_string(),
        node.name.to_string(),
        keys::broker(&node.address, broker, session.own_ip),
        sample.map(keys::member).unwrap_or_default(),
    ];
    let [epoch, now, renewals, other, place] = texts(session.run(Script::CheckIn, &names, &arguments)?)?;
    let now = millis(&now)?;
    let incomplete = match CheckIns::parse(&renewals).map(|state| state.renewals(now, &session.instance, "")) {
        Some(Renewals::Interrupted { left, reason }) => Some((reason, left)),
        _ => None,
    };
    // A broker of an earlier version shows only in the sample.
    let of_sample = || {
        let address = place.split(' ').next()?.parse().ok().filter(|address| *address != node.address)?;
        Some(OtherBroker { address, about: String::new() })
    };
    let other_broker = keys::other_broker(&other, broker).or_else(of_sample).filter(|_| again);
    Ok(CheckedIn {
        origin: format!("{epoch} {}", session.instance),
        sample_is_missing: sample.is_some() && place.is_empty(),
        other_broker,
        incomplete,
    })
}

fn texts<const N: usize>(values: Vec<Value>) -> Result<[String; N], RedisFailure> {
    let texts = values.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    texts.try_into().map_err(|_| unexpected("it answered with another number of values"))
}

fn millis(text: &str) -> Result<Duration, RedisFailure> {
    Ok(Duration::from_millis(text.parse().map_err(|_| unexpected("its time is not a number"))?))
}

fn text(value: Value) -> Result<String, RedisFailure> {
    redis::from_redis_value(value).map_err(|error| redis::RedisError::from(error).into())
}

fn unexpected(problem: &'static str) -> RedisFailure {
    RedisFailure::Failed((redis::ErrorKind::UnexpectedReturnType, problem).into())
}
