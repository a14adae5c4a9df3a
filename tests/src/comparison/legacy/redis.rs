//! The directory `redis`, with the faults of the original's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, Commands, Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, pipe};

use super::Options;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The answer of `TTL` for a missing key.
const NO_KEY: i64 = -2;

/// A set `<topic>` of members `<topic>.<host>`, and a key for each member, which expires. Every
/// message asks Redis.
pub(super) struct Redis {
    client: Client,
    connection: Mutex<Option<Connection>>,
    ttl_seconds: i64,
}

impl Redis {
    pub(super) fn new(options: &Options) -> RedisResult<Self> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = &options.redis_password {
            settings = settings.set_password(password);
        }
        let address = ConnectionAddr::Tcp(options.redis_host.clone(), options.redis_port);
        let client = Client::open(address.into_connection_info()?.set_redis_settings(settings))?;
        let ttl_seconds = i64::try_from(options.heartbeat_ttl.as_secs()).unwrap_or(i64::MAX);
        Ok(Self { client, connection: Mutex::new(None), ttl_seconds })
    }

    fn run<T>(&self, ask: impl FnOnce(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // After a failure the next command opens a new connection.
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => {
                let connection = self.client.get_connection_with_timeout(ANSWER_WITHIN)?;
                connection.set_read_timeout(Some(ANSWER_WITHIN))?;
                connection
            }
        };
        let answer = ask(&mut connection)?;
        *held = Some(connection);
        Ok(answer)
    }

    /// A random live member of a topic, with its host.
    pub(super) fn one(&self, topic: &str) -> RedisResult<Vec<(String, String)>> {
        self.run(|redis| {
            loop {
                let Some(member): Option<String> = redis.srandmember(topic)? else { return Ok(Vec::new()) };
                if is_alive(redis, topic, &member)? {
                    return Ok(with_host(member).into_iter().collect());
                }
            }
        })
    }

    /// All live members of a topic, for a fanout, under their own names. These do not begin with
    /// `fanout~`, so each host's daemon treats the copy as a message to one server.
    pub(super) fn all(&self, topic: &str) -> RedisResult<Vec<(String, String)>> {
        self.run(|redis| {
            let members: Vec<String> = redis.smembers(topic)?;
            let mut alive = Vec::new();
            for member in members {
                if is_alive(redis, topic, &member)? {
                    alive.extend(with_host(member));
                }
            }
            Ok(alive)
        })
    }

    /// Registers a topic of a host; also used as heartbeat. The member's key is a set with an empty
    /// text, because only keys can expire, and not members of a set.
    pub(super) fn register(&self, topic: &str, host: &str) -> RedisResult<()> {
        let member = format!("{topic}.{host}");
        self.run(|redis| {
            let renewed: bool = redis.expire(&member, self.ttl_seconds)?;
            if !renewed {
                let _: () = pipe().atomic().sadd(topic, &member).sadd(&member, "").query(redis)?;
                let _: () = redis.expire(&member, self.ttl_seconds)?;
            }
            Ok(())
        })
    }

    /// Removes a topic of a host.
    pub(super) fn unregister(&self, topic: &str, host: &str) -> RedisResult<()> {
        let member = format!("{topic}.{host}");
        self.run(|redis| pipe().atomic().srem(topic, &member).del(&member).query(redis))
    }
}

fn with_host(member: String) -> Option<(String, String)> {
    let host = member.split_once('.')?.1.to_owned();
    Some((member, host))
}

/// Removes a member whose key has expired.
fn is_alive(redis: &mut Connection, topic: &str, member: &str) -> RedisResult<bool> {
    if redis.ttl::<_, i64>(member)? != NO_KEY {
        return Ok(true);
    }
    let _: () = pipe().atomic().del(member).srem(topic, member).query(redis)?;
    Ok(false)
}
