//! Proves that no server is lost when Redis takes reads and refuses writes for longer than a lease:
//! not by running clients, and not by new processes.

use std::time::Duration;

use zmqv2_tests::redis_cluster::{SERVERS, directory_of, registered};
use zmqv2_tests::redis_newcomers::{Told, directory_line, three_nodes};
use zmqv2_tests::redis_server::{Redis, free_port, installed};
use zmqv2_tests::{Traffic, eventually, now, wait_until, within};

/// How soon everything is registered again when writes are taken again.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
/// How soon the status and the log say what is wrong.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than promised a busy machine may take.
const SLACK: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

/// How often brokers renew, how long a lease is, and for how long writes are refused, in seconds.
struct Times {
    renew_every: u64,
    lease: u64,
    refused: u64,
}

/// Two leases and more.
const SHORT: Times = Times { renew_every: 1, lease: 3, refused: 8 };
const FIVE: Times = Times { renew_every: 5, lease: 10, refused: 22 };
/// The default. It begins as if writes had been refused for some time.
const DEFAULT: Times = Times { renew_every: 300, lease: 600, refused: 25 };

/// As if writes had been refused for 290 s already: the last check-in was then, when each lease had at
/// least 300 s left, so all leases end 10 s from now.
const LONG_REFUSED: &str = "local t = redis.call('TIME') \
    local now = tonumber(t[1]) * 1000 \
    local function whole(number) return string.format('%.0f', number) end \
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
        redis.call('ZADD', KEYS[1], whole(now + 10000), member) \
    end \
    redis.call('ZADD', KEYS[2], whole(now + 10000), 'openstack/t') \
    local rest = string.match(redis.call('GET', KEYS[3]), '^%d+ (.*)$') \
    redis.call('SET', KEYS[3], whole(now - 290000) .. ' ' .. rest)";

/// A refusal of Redis.
struct Refusal {
    /// The commands that begin and end it.
    begin: Vec<String>,
    end: Vec<String>,
    /// What the status and the log say.
    word: &'static str,
    /// Whether new processes can read.
    readable: bool,
}

impl Refusal {
    fn config(option: &str, refuse: &str, accept: &str, word: &'static str) -> Self {
        let set = |value: &str| ["CONFIG", "SET", option, value].map(str::to_owned).to_vec();
        Self { begin: set(refuse), end: set(accept), word, readable: true }
    }
}

/// Redis refuses writes. New processes are started every second.
fn refuses_writes(redis: &Redis, times: &Times, refusal: &Refusal) {
    let Refusal { begin, end, word, readable } = refusal;
    let (cluster, processes) = three_nodes(&redis.settings(), times.renew_every, times.lease);
    let node = cluster.node(0);
    let is_default = times.renew_every == DEFAULT.renew_every;
    if is_default {
        redis.pretend_renewals_worked();
    }
    eventually("the list is complete", || {
        let fanout = node.tool(&["fanout", "t", "echo", "1"]);
        fanout.code() == 0 && fanout.stdout.contains("accepted by 3 of 3")
    });
    let traffic = Traffic::start(&cluster, "t", &SERVERS);
    traffic.wait(200);
    let mut both = redis::pipe();
    both.atomic();
    if is_default {
        let keys = ["zmqv2:{openstack/t}:leases", "zmqv2:topics", "zmqv2:renewals"];
        both.cmd("EVAL").arg(LONG_REFUSED).arg(keys.len()).arg(&keys);
    }
    both.cmd(&begin[0]).arg(&begin[1..]);
    let () = both.exec(&mut redis.connection()).unwrap();
    let refused = now();
    let is_shown = || directory_line(node).contains(word);
    assert!(within(SHOWN_WITHIN + SLACK, is_shown), "no {word:?} in {}", directory_line(node));
    // The first process is a broker.
    let log = || processes[0].stderr();
    assert!(within(SLACK, || log().contains(word)), "no {word:?} in the log: {}", log());
    let mut told = Told::default();
    let mut turn = 0;
    while refused.elapsed() < SECOND * times.refused as u32 {
        told.ask(cluster.node(turn % 3));
        turn += 1;
        wait_until(refused + SECOND * turn as u32);
    }
    // Running clients have lost no node.
    traffic.wait(200);
    let topics = node.tool(&["topics"]);
    if *readable {
        assert!(topics.code() == 5 && topics.stderr.contains("Incomplete: "), "{topics:?}");
        assert!(topics.stdout.starts_with("this list may be incomplete: "), "{topics:?}");
        let fanout = node.tool(&["fanout", "t", "echo", "1", "--json"]);
        assert!(fanout.code() == 5 && fanout.stdout.contains("\"may_be_incomplete\":\""), "{fanout:?}");
    } else {
        assert!(topics.code() == 5 && topics.stderr.starts_with("Directory: "), "{topics:?}");
    }
    let () = redis.run(&end.iter().map(String::as_str).collect::<Vec<_>>());
    let taken = now();
    let directory = directory_of(&cluster);
    let are_there = || registered(&directory).is_ok_and(|names| names == SERVERS);
    eventually("all are registered again", are_there);
    assert!(taken.elapsed() < REGISTERED_WITHIN + SLACK, "{:?}", taken.elapsed());
    traffic.wait(200);
    told.ask(node);
    told.assert_true();
    traffic.stop().assert_clean();
    if !is_default {
        eventually("new processes are sure again", || {
            let fanout = node.tool(&["fanout", "t", "echo", "1"]);
            fanout.code() == 0 && fanout.stdout.contains("accepted by 3 of 3")
        });
    }
    eventually("the status says that it is over", || !directory_line(node).contains(word));
    let lines = log().lines().filter(|line| line.contains(word)).count();
    assert!(lines <= 2, "a line for each change, not {lines}: {}", log());
}

fn too_few_replicas() -> Refusal {
    Refusal::config("min-replicas-to-write", "1", "0", "min-replicas-to-write")
}

fn full_memory() -> Refusal {
    Refusal::config("maxmemory", "1", "0", "maxmemory")
}

#[test]
fn a_redis_without_enough_replicas_takes_no_server_away() {
    if installed("a_redis_without_enough_replicas_takes_no_server_away") {
        refuses_writes(&Redis::start(), &SHORT, &too_few_replicas());
    }
}

#[test]
fn a_redis_without_enough_replicas_takes_no_server_away_at_a_frequency_of_5() {
    if installed("a_redis_without_enough_replicas_takes_no_server_away_at_a_frequency_of_5") {
        refuses_writes(&Redis::start(), &FIVE, &too_few_replicas());
    }
}

#[test]
fn a_redis_without_enough_replicas_takes_no_server_away_at_the_default_frequency() {
    if installed("a_redis_without_enough_replicas_takes_no_server_away_at_the_default_frequency") {
        refuses_writes(&Redis::start(), &DEFAULT, &too_few_replicas());
    }
}

#[test]
fn a_redis_without_memory_takes_no_server_away() {
    if installed("a_redis_without_memory_takes_no_server_away") {
        refuses_writes(&Redis::start(), &SHORT, &full_memory());
    }
}

#[test]
fn a_redis_without_memory_takes_no_server_away_at_a_frequency_of_5() {
    if installed("a_redis_without_memory_takes_no_server_away_at_a_frequency_of_5") {
        refuses_writes(&Redis::start(), &FIVE, &full_memory());
    }
}

#[test]
fn a_redis_without_memory_takes_no_server_away_at_the_default_frequency() {
    if installed("a_redis_without_memory_takes_no_server_away_at_the_default_frequency") {
        refuses_writes(&Redis::start(), &DEFAULT, &full_memory());
    }
}

#[test]
fn a_redis_that_cannot_save_takes_no_server_away() {
    if !installed("a_redis_that_cannot_save_takes_no_server_away") {
        return;
    }
    let redis = Redis::start();
    // The name of its file is that of a directory, which even root cannot replace.
    std::fs::create_dir_all(redis.dir().join("dump.rdb").join("full")).unwrap();
    let () = redis.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"]);
    let _: String = redis.run(&["BGSAVE"]);
    eventually("it has failed to save", || {
        let info: String = redis.run(&["INFO", "persistence"]);
        info.contains("rdb_last_bgsave_status:err")
    });
    // It refuses writes only if it is to save by itself.
    refuses_writes(&redis, &SHORT, &Refusal::config("save", "3600 1", "", "save and dir"));
}

#[test]
fn a_redis_that_becomes_a_replica_takes_no_server_away() {
    if !installed("a_redis_that_becomes_a_replica_takes_no_server_away") {
        return;
    }
    // Of a primary that is not there, so that it keeps its data.
    let nowhere = free_port().to_string();
    let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    let (begin, end) = (words(["REPLICAOF", "127.0.0.1", &nowhere]), words(["REPLICAOF", "NO", "ONE"]));
    let refusal = Refusal { begin, end, word: "name the primary", readable: false };
    refuses_writes(&Redis::start(), &SHORT, &refusal);
}
