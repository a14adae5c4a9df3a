//! Proves which commands the directory sends to Redis, how often, and what it does with the
//! answers, without brokers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zmqv2_matchmaker::{
    CacheSettings, CachedMatchmaker, Matchmaker, MatchmakerError, Presence, RedisDirectory, RedisSettings,
    Registration, RemoteDirectory, TopicQuery,
};
use zmqv2_proto::{Config, Node, TopicKey};
use zmqv2_tests::redis_server::{Redis, installed};
use zmqv2_tests::{PATIENCE, eventually, now};

const MINUTE: Duration = Duration::from_secs(60);

/// A directory with leases of this length, and a cache in front.
fn remembering(redis: &Redis, lease: Duration, max_stale: Duration) -> (RedisDirectory, CachedMatchmaker) {
    let directory = || RedisDirectory::new(settings(redis), lease);
    let settings = CacheSettings { refresh: Duration::from_secs(60), max_stale, lease, renew_every: lease / 2 };
    (directory(), CachedMatchmaker::new(Box::new(directory()), settings))
}

fn settings(redis: &Redis) -> RedisSettings {
    let mut config = Config::default();
    (config.redis_host, config.redis_port) = ("127.0.0.1".to_owned(), redis.port());
    RedisSettings::new(&config).unwrap()
}

fn registrations(topics: &[&str], node: &str) -> Vec<Registration> {
    let node = Node::new(node.parse().unwrap(), node.parse().unwrap());
    let registration = |topic: &&str| {
        let key = TopicKey::parse(&format!("x/{topic}")).unwrap();
        Registration { key, server: "s".parse().unwrap(), node: node.clone() }
    };
    topics.iter().map(registration).collect()
}

fn questions(topics: &[&str]) -> Vec<TopicQuery> {
    registrations(topics, "any").into_iter().map(|Registration { key, .. }| TopicQuery { key, known: None }).collect()
}

#[test]
fn a_topic_is_resolved_by_one_command_however_many_nodes_it_has() {
    if !installed("a_topic_is_resolved_by_one_command_however_many_nodes_it_has") {
        return;
    }
    let redis = Redis::start();
    let directory = RedisDirectory::new(settings(&redis), MINUTE);
    let topics = ["t", "u", "v"];
    let all: Vec<_> = (0..2_500).flat_map(|n| registrations(&topics, &format!("n{n}"))).collect();
    directory.register(&all, MINUTE).unwrap();
    let commands = |asked: &[&str]| {
        let (scripts, all) = (redis.calls("evalsha"), redis.info("total_commands_processed"));
        let reading = directory.read(&questions(asked)).unwrap();
        for state in reading.states {
            assert_eq!(state.unwrap().entries.len(), 2_500);
        }
        // Counting takes two commands. Some versions also count the commands inside scripts, so
        // those are counted separately.
        assert!(redis.info("total_commands_processed") > all);
        redis.calls("evalsha") - scripts
    };
    let sent = redis.info("total_net_input_bytes");
    assert_eq!(commands(&["t"]), 1);
    assert!(redis.info("total_net_input_bytes") - sent < 4_000, "no name of a node is sent there");
    assert_eq!(commands(&["t", "u"]), 1, "of several, as many as have 5,000 members");
    assert_eq!(commands(&topics), 2, "the rest by another one, so that others get their turn");
}

#[test]
fn servers_registered_together_appear_together_or_not_at_all() {
    const ROUNDS: usize = 300;
    if !installed("servers_registered_together_appear_together_or_not_at_all") {
        return;
    }
    let redis = Redis::start();
    let topics = ["a", "b", "c"];
    let done = AtomicBool::new(false);
    let (seen, gone) = std::thread::scope(|scope| {
        let (redis, done) = (&redis, &done);
        let writers: Vec<_> = ["n1", "n2"]
            .into_iter()
            .map(|node| {
                scope.spawn(move || {
                    let (directory, all) = (RedisDirectory::new(settings(redis), MINUTE), registrations(&topics, node));
                    for _ in 0..ROUNDS {
                        directory.register(&all, MINUTE).unwrap();
                        directory.withdraw(&all).unwrap();
                    }
                })
            })
            .collect();
        let read = || {
            let directory = RedisDirectory::new(settings(redis), MINUTE);
            let (mut seen, mut gone) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let states = directory.read(&questions(&topics)).unwrap().states;
                let there = states.into_iter().map(|state| {
                    let mut there: Vec<_> = state.unwrap().entries.into_iter().collect();
                    there.retain(|entry| matches!(entry.presence, Presence::At(_)));
                    there.sort_by(|one, other| one.node.cmp(&other.node));
                    there
                });
                let there: Vec<_> = there.collect();
                assert!(there.iter().all(|topic| *topic == there[0]), "a part of it is there: {there:?}");
                (seen, gone) = (seen + usize::from(!there[0].is_empty()), gone + usize::from(there[0].is_empty()));
            }
            (seen, gone)
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        let counts = readers.map(|reader| reader.join().unwrap());
        (counts[0].0 + counts[1].0, counts[0].1 + counts[1].1)
    });
    println!("there {seen} times, and gone {gone} times");
    assert!(seen > 0, "nobody has looked while it was there");
}

#[test]
fn an_empty_answer_is_asked_for_again_only_once_a_second() {
    if !installed("an_empty_answer_is_asked_for_again_only_once_a_second") {
        return;
    }
    let redis = Redis::start();
    let lease = Duration::from_secs(3);
    let (_, cached) = remembering(&redis, lease, MINUTE);
    let nobody = TopicKey::parse("x/nobody").unwrap();
    let started = now();
    let mut counts = [0, 0];
    eventually("it is believed", || {
        // A thousand messages.
        for _ in 0..1_000 {
            match cached.resolve_all(&nobody) {
                Ok(placement) => {
                    assert!(placement.is_empty());
                    counts[1] += 1;
                }
                Err(MatchmakerError::Refilling { .. }) => counts[0] += 1,
                Err(error) => panic!("{error}"),
            }
        }
        counts[1] >= 20_000
    });
    let (asked, seconds) = (redis.calls("evalsha"), started.elapsed().as_secs_f64());
    println!("{counts:?} questions in {seconds:.1} s: {asked} commands");
    assert!(counts[0] > 1_000, "the directory was younger than a lease");
    // Each asking thread sends one at a time, and the refreshing thread sends its own.
    assert!(asked as f64 <= 4.0 + 4.0 * seconds, "{asked} commands in {seconds} s");
}

#[test]
fn data_that_is_too_old_is_an_error_and_asked_for_now_and_then_until_redis_is_back() {
    if !installed("data_that_is_too_old_is_an_error_and_asked_for_now_and_then_until_redis_is_back") {
        return;
    }
    let redis = Redis::start();
    let max_stale = Duration::from_secs(2);
    let (directory, cached) = remembering(&redis, MINUTE, max_stale);
    let all = registrations(&["t"], "n1");
    // What is read later than this holds the registration, and its age counts from then.
    let registered = now();
    directory.register(&all, MINUTE).unwrap();
    assert_eq!(cached.resolve_all(&all[0].key).unwrap().nodes().len(), 1);
    // Nobody can connect any more, and Redis counts the attempts.
    let mut operator = redis.connection();
    let () = redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("sesame").query(&mut operator).unwrap();
    let () = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .query(&mut operator)
        .unwrap();
    let connections = |operator: &mut redis::Connection| -> u64 {
        let stats: String = redis::cmd("INFO").arg("stats").query(operator).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
        line.trim().parse().unwrap()
    };
    let (locked, before) = (now(), connections(&mut operator));
    assert!(cached.refresh().is_err());
    eventually("it is too old", || {
        let answer = cached.resolve_all(&all[0].key);
        let oldest = registered.elapsed();
        assert!(answer.is_ok() || oldest >= max_stale, "{answer:?}: it is {oldest:?} old at most");
        answer.is_err()
    });
    let until = now() + Duration::from_secs(2);
    let mut asked = 0;
    while now() < until {
        assert!(cached.resolve_all(&all[0].key).is_err());
        asked += 1;
    }
    let (tried, seconds) = (connections(&mut operator) - before, locked.elapsed().as_secs_f64());
    println!("{asked} questions in vain: {tried} connections in {seconds:.1} s");
    // Two a second by the asking threads, and ever fewer by the refreshing thread.
    assert!(asked > 100 && tried as f64 <= 10.0 + 3.0 * seconds, "{tried} connections in {seconds} s");
    let () = redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").query(&mut operator).unwrap();
    eventually("it is back", || cached.resolve_all(&all[0].key).is_ok_and(|placement| placement.nodes().len() == 1));
}

#[test]
fn redis_tells_how_old_it_is_and_which_process_it_is() {
    if !installed("redis_tells_how_old_it_is_and_which_process_it_is") {
        return;
    }
    let mut redis = Redis::start();
    let directory = RedisDirectory::new(settings(&redis), MINUTE);
    let read = || directory.read(&[]).unwrap();
    let first = read();
    assert!(first.age < PATIENCE && !first.instance.is_empty() && !first.epoch.is_empty(), "{first:?}");
    // Older than a Redis can be that is started again below.
    eventually("it grows older, and its clock goes on", || {
        let later = read();
        assert_eq!((&later.epoch, &later.instance), (&first.epoch, &first.instance));
        later.age > first.age + Duration::from_secs(5) && later.clock > first.clock + Duration::from_secs(5)
    });
    let before = read();
    let () = redis.run(&["FLUSHALL"]);
    let flushed = read();
    assert!(flushed.epoch != first.epoch && flushed.age < before.age, "{flushed:?}");
    let () = redis.run(&["SAVE"]);
    redis.kill9();
    redis.restart();
    let mut again = None;
    eventually("it is back", || {
        again = directory.read(&[]).ok();
        again.is_some()
    });
    let again = again.unwrap();
    assert_eq!(again.epoch, flushed.epoch, "it was on the disk");
    assert_ne!(again.instance, first.instance);
    assert!(again.age < before.age, "it has been there for {:?}, says a process that has just started", again.age);
}
