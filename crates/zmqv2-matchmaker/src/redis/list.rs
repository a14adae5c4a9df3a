//! All topics and their servers, for people.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, Value, cmd};
use zmqv2_proto::TopicKey;

use super::connection::{RedisFailure, Script, Session};
use super::keys::{self, CheckIns};
use super::{answer_of, entry_of, reading, unexpected};
use crate::api::{Lease, ListedServer, ListedTopic};
use crate::cached::remote::{DirectoryAnswer, DirectoryList, Presence};

/// The most topics of one round trip. Other clients of Redis get their turns between the commands.
const MAX_TOPICS: usize = 1_000;

/// Two round trips, and one more for each further 1,000 topics.
pub(super) fn list(session: &mut Session) -> Result<DirectoryList, RedisFailure> {
    let (names, arguments) = reading(session, &[]);
    let mut all = cmd("ZRANGEBYSCORE");
    all.arg(keys::TOPICS).arg("-inf").arg("+inf").arg("WITHSCORES");
    let answers = session.ask_all([session.call(Script::Read, &names, &arguments), all])?;
    let [state, topics] = answers.try_into().map_err(|_| unexpected("it answered another number of commands"))?;
    let head = answer_of(session, values(state)?, Vec::new())?;
    let check_ins = CheckIns::parse(&head.check_ins);
    let DirectoryAnswer { clock: now, age, renewals, .. } = head.answer;
    // Otherwise registrations stay although their leases have ended.
    let leases_count = check_ins.is_none_or(|state| state.leases_count(now, &session.instance));
    let topics: Vec<(String, f64)> = values(topics)?;
    let mut topics: Vec<_> = topics
        .into_iter()
        .filter(|(_, ends)| !leases_count || *ends >= now.as_millis() as f64)
        .filter_map(|(topic, _)| Some((topic.parse().ok()?, topic)))
        .collect();
    topics.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
    let mut listed = Vec::new();
    for some in topics.chunks(MAX_TOPICS) {
        listed.extend(list_some(session, some, leases_count)?);
    }
    Ok(DirectoryList { topics: listed, age, renewals })
}

fn list_some(
    session: &mut Session,
    topics: &[(TopicKey, String)],
    leases_count: bool,
) -> Result<Vec<ListedTopic>, RedisFailure> {
    let of_topic = |(key, _): &(TopicKey, String)| {
        let mut leases = cmd("ZRANGE");
        leases.arg(keys::leases(key)).arg(0).arg(-1).arg("WITHSCORES");
        let mut places = cmd("HGETALL");
        places.arg(keys::places(key));
        [leases, places]
    };
    let mut answers = session.ask_all(topics.iter().flat_map(of_topic).chain([cmd("TIME")]))?;
    let (seconds, micros): (u64, u32) = values(answers.pop().unwrap_or(Value::Nil))?;
    let now = Duration::from_secs(seconds) + Duration::from_micros(micros.into());
    let mut answers = answers.into_iter();
    let mut listed = Vec::new();
    for (_, topic) in topics {
        let (Some(leases), Some(places)) = (answers.next(), answers.next()) else {
            return Err(unexpected("it answered another number of commands"));
        };
        let (leases, places): (Vec<(String, f64)>, HashMap<String, String>) = (values(leases)?, values(places)?);
        let mut servers: Vec<_> = leases
            .into_iter()
            .filter_map(|(member, ends)| {
                let (entry, lease) = entry_of(&member, places.get(&member)?)?;
                let ends = Duration::try_from_secs_f64(ends / 1_000.0).ok()?;
                let Presence::At(node) = entry.presence else { return None };
                let mut server = ListedServer::new(node, Some(entry.server));
                let age = now.saturating_add(lease).saturating_sub(ends);
                server.lease = Some(Lease { age, left: ends.saturating_sub(now) });
                (ends > now || !leases_count).then_some(server)
            })
            .collect();
        servers.sort_by(|one, other| (&one.node.name, &one.server).cmp(&(&other.node.name, &other.server)));
        if !servers.is_empty() {
            listed.push(ListedTopic::new(topic.clone(), servers));
        }
    }
    Ok(listed)
}

fn values<T: FromRedisValue>(value: Value) -> Result<T, RedisFailure> {
    T::from_redis_value(value).map_err(|error| redis::RedisError::from(error).into())
}
