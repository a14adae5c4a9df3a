//! The directory in Redis: leases that end by the clock of Redis, for any number of nodes.
//!
//! The files of this folder import each other: Sentinels are asked over connections, connections
//! ask Sentinels for the primary, and every error names the setting to correct.

mod connection;
mod explain;
mod keys;
mod sentinel;
mod settings;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Value, cmd};
use zmqv2_proto::{Config, TopicKey, Ttl};

use crate::api::{Lease, ListedServer, ListedTopic, MatchmakerError, Registration};
use crate::cached::remote::{
    ChangeWatcher, DirectoryAnswer, Presence, RemoteDirectory, ServerEntry, TopicQuery, TopicState,
};
use crate::cached::{CacheSettings, CachedMatchmaker};
use connection::{Connector, RedisFailure, Script, Session};
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
    connector: Mutex<Connector>,
}

impl RedisDirectory {
    /// A directory without a connection. `lease` is the usual lease of a registration.
    #[must_use]
    pub fn new(settings: RedisSettings, lease: Duration) -> Self {
        let settings = Arc::new(settings);
        Self {
            connector: Mutex::new(Connector::new(Arc::clone(&settings))),
            settings,
            lease: lease.min(Ttl::MAX.into()),
        }
    }

    /// The directory that `config` names, with a cache in front, after a [check](Self::check).
    ///
    /// # Errors
    /// [`MatchmakerError::Misconfigured`] names the option to correct.
    /// [`MatchmakerError::Unavailable`] when Redis cannot be reached. Both come within a few
    /// seconds.
    pub fn open(config: &Config) -> Result<CachedMatchmaker, MatchmakerError> {
        let directory = Self::new(RedisSettings::new(config)?, config.heartbeat_ttl);
        directory.check()?;
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
    /// As [`open`](Self::open).
    pub fn check(&self) -> Result<(), MatchmakerError> {
        let checked = self.connector().try_run(|session| read(session, &[]));
        checked.map(drop).map_err(|failure| self.settings.explain_start(failure))
    }

    fn connector(&self) -> MutexGuard<'_, Connector> {
        self.connector.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut names = vec![keys::EPOCH.to_owned(), keys::TOPICS.to_owned()];
            let mut arguments = vec![keys::millis(lease).to_string()];
            for registration in some {
                names.extend(names_of(&registration.key));
                arguments.extend(texts(registration));
            }
            sum += connector.run(|session| session.run::<u64>(script, &names, &arguments))?;
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

    fn list(&self) -> Result<Vec<ListedTopic>, MatchmakerError> {
        self.connector().run(list)
    }

    fn watcher(&self) -> Box<dyn ChangeWatcher> {
        Box::new(RedisChangeWatcher { connector: Connector::new(Arc::clone(&self.settings)) })
    }

    fn close_idle(&self) {
        // A connection that is in use is not idle.
        if let Ok(mut connector) = self.connector.try_lock() {
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
        let mut names = vec![keys::EPOCH.to_owned()];
        names.extend(some.iter().flat_map(|query| names_of(&query.key)));
        let known = |query: &TopicQuery| query.known.map(keys::shown).unwrap_or_default();
        let known: Vec<_> = some.iter().map(known).collect();
        let mut answer: Vec<Value> = session.run(Script::Read, &names, &known)?;
        let some_states = answer.split_off(2.min(answer.len()));
        // The script may answer only some queries when topics are large.
        if some_states.len() > some.len() || some_states.is_empty() != some.is_empty() {
            return Err(unexpected("it answered another number of queries"));
        }
        for state in some_states {
            states.push(state_of(state)?);
        }
        if states.len() == queries.len() {
            let [epoch, clock] = <[Value; 2]>::try_from(answer).map_err(|_| unexpected("its time is missing"))?;
            let (epoch, clock) = (text(epoch)?, text(clock)?);
            let clock = Duration::from_millis(clock.parse().map_err(|_| unexpected("its time is not a number"))?);
            let since = session.started.max(keys::begun(&epoch).unwrap_or_default());
            let (instance, age) = (session.instance.clone(), clock.saturating_sub(since));
            return Ok(DirectoryAnswer { epoch, instance, clock, age, states });
        }
    }
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

/// All topics and their servers. Reads topic by topic, so that a long list does not block Redis.
fn list(session: &mut Session) -> Result<Vec<ListedTopic>, RedisFailure> {
    let now = clock(session)?;
    let mut command = cmd("ZRANGEBYSCORE");
    command.arg(keys::TOPICS).arg(now.as_millis() as u64).arg("+inf");
    let mut topics: Vec<String> = session.ask(command)?;
    topics.sort_unstable();
    let mut listed = Vec::new();
    for topic in topics {
        let Ok(key) = TopicKey::parse(&topic) else { continue };
        let mut leases = cmd("ZRANGE");
        leases.arg(keys::leases(&key)).arg(0).arg(-1).arg("WITHSCORES");
        let leases: Vec<(String, f64)> = session.ask(leases)?;
        let places: HashMap<String, String> = session.ask(cmd("HGETALL").arg(keys::places(&key)).clone())?;
        let now = clock(session)?;
        let mut servers: Vec<_> = leases
            .into_iter()
            .filter_map(|(member, ends)| {
                let (entry, lease) = entry_of(&member, places.get(&member)?)?;
                let left = Duration::try_from_secs_f64(ends / 1_000.0).ok()?.checked_sub(now)?;
                let Presence::At(node) = entry.presence else { return None };
                let mut server = ListedServer::new(node, Some(entry.server));
                server.lease = Some(Lease { age: lease.saturating_sub(left), left });
                Some(server)
            })
            .collect();
        servers.sort_by(|one, other| (&one.node.name, &one.server).cmp(&(&other.node.name, &other.server)));
        if !servers.is_empty() {
            listed.push(ListedTopic::new(topic, servers));
        }
    }
    Ok(listed)
}

/// The time in Redis.
fn clock(session: &mut Session) -> Result<Duration, RedisFailure> {
    let (seconds, micros): (u64, u32) = session.ask(cmd("TIME"))?;
    Ok(Duration::from_secs(seconds) + Duration::from_micros(micros.into()))
}

fn text(value: Value) -> Result<String, RedisFailure> {
    redis::from_redis_value(value).map_err(|error| redis::RedisError::from(error).into())
}

fn unexpected(problem: &'static str) -> RedisFailure {
    RedisFailure::Failed((redis::ErrorKind::UnexpectedReturnType, problem).into())
}
