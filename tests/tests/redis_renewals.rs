//! Proves that leases which end while brokers cannot renew take no server away, from running clients
//! or new ones, and that a server which died meanwhile is gone a lease later.
//!
//! The brokers are threads that register and check in as a broker does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use zmqv2_matchmaker::{
    BrokerProcess, CacheSettings, CachedMatchmaker, CheckIn, CheckedIn, Health, Matchmaker, MatchmakerError, Placement,
    RedisDirectory, RedisSettings, Registration, RemoteDirectory,
};
use zmqv2_proto::config::Secret;
use zmqv2_proto::{Config, Node, TopicKey};
use zmqv2_tests::redis_server::{Redis, installed};
use zmqv2_tests::{DelayRelay, eventually, now, wait_until};

const LEASE: Duration = Duration::from_secs(3);
const RENEW_EVERY: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn settings(port: u16) -> RedisSettings {
    let mut config = Config::default();
    (config.redis_host, config.redis_port) = ("127.0.0.1".to_owned(), port);
    RedisSettings::new(&config).unwrap()
}

fn client(port: u16) -> CachedMatchmaker {
    let max_stale = Duration::from_secs(600);
    let settings_of_cache =
        CacheSettings { refresh: Duration::from_millis(500), max_stale, lease: LEASE, renew_every: RENEW_EVERY };
    CachedMatchmaker::new(Box::new(RedisDirectory::new(settings(port), LEASE)), settings_of_cache)
}

fn key() -> TopicKey {
    TopicKey::parse("x/t").unwrap()
}

fn registration(name: &str) -> Registration {
    Registration {
        key: key(),
        server: "s".parse().unwrap(),
        node: Node::new(name.parse().unwrap(), name.parse().unwrap()),
    }
}

fn nodes(placement: &Placement) -> Vec<String> {
    placement.nodes().iter().map(|placed| placed.node.name.to_string()).collect()
}

/// Renews and checks in, until it is told to stop.
fn broker(directory: &RedisDirectory, name: &str, stopped: &AtomicBool) {
    let registration = registration(name);
    let process = BrokerProcess::new("m");
    let mut again = false;
    let mut renew_at = now();
    while !stopped.load(Ordering::Relaxed) {
        let sample = again.then_some(&registration);
        let node = &registration.node;
        let check_in = CheckIn { node, broker: &process, again, sample, lease: LEASE, renew_every: RENEW_EVERY };
        if directory.check_in(&check_in).is_ok() && now() >= renew_at {
            let renewed = directory.register(std::slice::from_ref(&registration), LEASE);
            (again, renew_at) = (renewed.is_ok(), now() + RENEW_EVERY);
        }
        wait_until(now() + Duration::from_millis(200));
    }
}

/// Three brokers renew, `disturb` happens, one of them dies, and after two leases `mend` happens.
/// `readable`: whether new clients can ask meanwhile.
fn disturbed(
    redis: &Redis,
    broker_settings: &RedisSettings,
    readable: bool,
    disturb: impl FnOnce(),
    mend: impl FnOnce(),
) {
    let [all, third] = [false, false].map(|stopped| Arc::new(AtomicBool::new(stopped)));
    std::thread::scope(|scope| {
        for name in NAMES {
            let stopped = Arc::clone(if name == "n3" { &third } else { &all });
            scope.spawn(move || broker(&RedisDirectory::new(broker_settings.clone(), LEASE), name, &stopped));
        }
        // The brokers end even if the test fails.
        let _stop = StopOnDrop([Arc::clone(&all), Arc::clone(&third)]);
        let running = client(redis.port());
        eventually("the list is complete, a lease after the start", || {
            running.resolve_all(&key()).is_ok_and(|found| nodes(&found) == NAMES && found.completeness().is_complete())
        });
        assert_eq!(running.health(), Health::Ok);

        disturb();
        third.store(true, Ordering::Relaxed);
        let until = now() + LEASE * 2;
        while now() < until {
            assert_eq!(nodes(&running.resolve_all(&key()).unwrap()), NAMES, "a running client");
            wait_until(now() + Duration::from_millis(100));
        }
        let found = running.resolve_all(&key()).unwrap();
        println!("a running client: {:?}, {:?}", found.completeness(), running.health());
        assert!(!found.completeness().is_complete() && running.health() != Health::Ok);
        if readable {
            assert!(matches!(running.health(), Health::RefusingWrites { .. }), "{:?}", running.health());
            let found = client(redis.port()).resolve_all(&key()).unwrap();
            assert_eq!(nodes(&found), NAMES, "a new client");
            assert!(!found.completeness().is_complete());
        }
        let new = client(redis.port());
        let nobody = new.resolve_all(&TopicKey::parse("x/nobody").unwrap());
        assert!(nobody.is_err_and(|error| error.may_pass() || !readable), "no empty answer is believed");

        mend();
        let mut complete = false;
        eventually("the dead one is gone, and the others were never gone", || {
            // A new client each time.
            let Ok(found) = client(redis.port()).resolve_all(&key()) else { return false };
            let found_nodes = nodes(&found);
            complete = found.completeness().is_complete();
            assert!(found_nodes == NAMES || complete && found_nodes == ["n1", "n2"], "{found:?}");
            let known = nodes(&running.resolve_all(&key()).unwrap());
            assert!(known == NAMES || known == ["n1", "n2"], "{known:?}");
            found_nodes != NAMES && known != NAMES
        });
        assert!(complete);
        eventually("all is well", || running.health() == Health::Ok);
    });
}

struct StopOnDrop([Arc<AtomicBool>; 2]);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(|stopped| stopped.store(true, Ordering::Relaxed));
    }
}

fn set(redis: &Redis, option: &str, value: &str) {
    let () = redis.run(&["CONFIG", "SET", option, value]);
}

#[test]
fn too_few_replicas_take_no_server_away() {
    if installed("too_few_replicas_take_no_server_away") {
        let redis = Redis::start();
        let option = "min-replicas-to-write";
        disturbed(&redis, &settings(redis.port()), true, || set(&redis, option, "1"), || set(&redis, option, "0"));
    }
}

#[test]
fn a_full_memory_takes_no_server_away() {
    if installed("a_full_memory_takes_no_server_away") {
        let redis = Redis::start();
        let full = || set(&redis, "maxmemory", "1");
        disturbed(&redis, &settings(redis.port()), true, full, || set(&redis, "maxmemory", "0"));
    }
}

#[test]
fn brokers_that_may_not_write_any_more_lose_no_server() {
    if !installed("brokers_that_may_not_write_any_more_lose_no_server") {
        return;
    }
    let redis = Redis::start();
    let () = redis.run(&["ACL", "SETUSER", "broker", "on", ">sesame", "~*", "+@all"]);
    let mut config = Config::default();
    (config.redis_host, config.redis_port) = ("127.0.0.1".to_owned(), redis.port());
    config.redis_user = Some("broker".to_owned());
    config.redis_password = Some(Secret::new("sesame"));
    let brokers = RedisSettings::new(&config).unwrap();
    let allow = |rule: &str| {
        let () = redis.run(&["ACL", "SETUSER", "broker", rule]);
    };
    disturbed(&redis, &brokers, true, || allow("-@write"), || allow("+@write"));
}

#[test]
fn a_redis_that_hangs_for_two_leases_takes_no_server_away() {
    if installed("a_redis_that_hangs_for_two_leases_takes_no_server_away") {
        let redis = Redis::start();
        let hang = || redis.signal(Signal::STOP);
        disturbed(&redis, &settings(redis.port()), false, hang, || redis.signal(Signal::CONT));
    }
}

#[test]
fn another_password_for_two_leases_takes_no_server_away() {
    if !installed("another_password_for_two_leases_takes_no_server_away") {
        return;
    }
    let redis = Redis::start();
    let mut operator = redis.connection();
    let operator = std::cell::RefCell::new(&mut operator);
    let run = |words: &[&str]| {
        let () = redis::cmd(words[0]).arg(&words[1..]).query(*operator.borrow_mut()).unwrap();
    };
    let lock = || {
        run(&["CONFIG", "SET", "requirepass", "sesame"]);
        run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    };
    disturbed(&redis, &settings(redis.port()), false, lock, || run(&["CONFIG", "SET", "requirepass", ""]));
}

#[test]
fn a_new_process_asks_a_redis_far_away_in_two_round_trips() {
    if !installed("a_new_process_asks_a_redis_far_away_in_two_round_trips") {
        return;
    }
    let redis = Redis::start_with(&["--requirepass", "sesame"]);
    let far = DelayRelay::start(redis.port(), Duration::from_millis(400));
    let at = |port: u16| {
        let mut config = Config::default();
        (config.redis_host, config.redis_port, config.redis_database) = ("127.0.0.1".to_owned(), port, 3);
        config.redis_password = Some(Secret::new("sesame"));
        RedisDirectory::new(RedisSettings::new(&config).unwrap(), LEASE)
    };
    at(redis.port()).register(&[registration("n1")], LEASE * 20).unwrap();
    let directory = at(far.port());
    let started = now();
    let question = zmqv2_matchmaker::TopicQuery { key: key(), known: None };
    let answer = directory.read(std::slice::from_ref(&question)).unwrap();
    println!("{:?} for {answer:?}", started.elapsed());
    assert_eq!(answer.states[0].as_ref().unwrap().entries.len(), 1);
    assert_eq!(far.waits(), [2], "login, checks and scripts, then the question");
}

#[test]
fn a_check_in_tells_what_a_broker_must_know() {
    if !installed("a_check_in_tells_what_a_broker_must_know") {
        return;
    }
    let mut redis = Redis::start();
    let directory = RedisDirectory::new(settings(redis.port()), LEASE);
    let minute = Duration::from_secs(60);
    let own = registration("n1");
    let [process, stranger] = [BrokerProcess::new("m"), BrokerProcess::new("m")];
    let check_as = |broker: &BrokerProcess, node: &Node, again: bool, sample: Option<&Registration>| {
        directory.check_in(&CheckIn { node, broker, again, sample, lease: minute * 2, renew_every: minute })
    };
    let check = |node: &Node, again: bool, sample| check_as(&process, node, again, sample);
    let first = check(&own.node, false, None).unwrap();
    assert!(first.incomplete.is_some() && first.other_broker.is_none() && !first.sample_is_missing, "{first:?}");
    assert!(check(&own.node, true, Some(&own)).unwrap().sample_is_missing);
    directory.register(std::slice::from_ref(&own), minute).unwrap();
    let second = check(&own.node, true, Some(&own)).unwrap();
    assert!(second.origin == first.origin && !second.sample_is_missing && second.other_broker.is_none());
    // Another deployment has a node of the same name.
    let other = Node::new("n1".parse().unwrap(), "elsewhere:7".parse().unwrap());
    let seen = |checked: CheckedIn| checked.other_broker.map(|other| other.address);
    let stranger_sees = |node: &Node, again: bool| seen(check_as(&stranger, node, again, None).unwrap());
    let sees = |again: bool| seen(check(&own.node, again, None).unwrap());
    assert_eq!(stranger_sees(&other, false), None, "it may be a new run of the same node at a new address");
    assert_eq!(sees(true), Some(other.address.clone()));
    assert_eq!(stranger_sees(&other, true), Some(own.node.address.clone()));
    assert_eq!(sees(false), None);
    assert_eq!(sees(true), None, "the other has not come back");
    // It even has the same address, in another network.
    assert_eq!(stranger_sees(&own.node, true), Some(own.node.address.clone()));
    let met = check(&own.node, true, None).unwrap().other_broker.unwrap();
    assert_eq!(met.address, own.node.address);
    assert_eq!(met.about, format!("machine m, process {}, 127.0.0.1", std::process::id()));
    // Everything that loses data gives another origin.
    let () = redis.run(&["FLUSHALL"]);
    let flushed = check(&own.node, true, Some(&own)).unwrap();
    assert!(flushed.origin != first.origin && flushed.sample_is_missing && flushed.incomplete.is_some());
    redis.kill9();
    assert!(matches!(check(&own.node, true, None), Err(MatchmakerError::Unavailable { .. })));
    redis.restart();
    assert_ne!(check(&own.node, true, None).unwrap().origin, flushed.origin);
    // A wrong type of a key is named.
    let () = redis.run(&["DEL", "zmqv2:epoch"]);
    let () = redis.run(&["RPUSH", "zmqv2:epoch", "x"]);
    let error = check(&own.node, true, None).unwrap_err().to_string();
    assert!(error.contains("another program has written keys that begin with zmqv2:"), "{error}");
}
