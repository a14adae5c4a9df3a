//! Runs the conformance suite of all directories on a real Redis, and behind real Sentinels.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use zmqv2_matchmaker::conformance::{self, Capabilities, Fixture, LEASE};
use zmqv2_matchmaker::{CachedMatchmaker, Matchmaker, RedisDirectory, Registration, RemoteDirectory};
use zmqv2_proto::Config;
use zmqv2_tests::redis_server::{Redis, Sentinels, installed};
use zmqv2_tests::{now, wait_until};

/// A configuration with these settings and the leases of the suite.
fn config(settings: &[String]) -> Config {
    let mut builder = Config::builder().set("matchmaker_heartbeat_freq", "1");
    builder = builder.set("matchmaker_heartbeat_ttl", LEASE.as_secs().to_string());
    for setting in settings {
        let (option, value) = setting.split_once('=').unwrap();
        builder = builder.set(option, value);
    }
    builder.build().unwrap().config
}

/// The matchmaker under test, and one of another node.
struct InRedis<W> {
    nodes: W,
    matchmaker: Arc<CachedMatchmaker>,
    elsewhere: RedisDirectory,
    interrupt: fn(&mut W, bool),
}

impl<W> InRedis<W> {
    fn new(nodes: W, settings: &[String], interrupt: fn(&mut W, bool)) -> Self {
        let config = config(settings);
        // A question notes the epoch, which is the start of the data.
        let settings = zmqv2_matchmaker::RedisSettings::new(&config).unwrap();
        RedisDirectory::new(settings, config.heartbeat_ttl).check().unwrap();
        // While a directory is younger than a lease, its empty answers are not trusted.
        wait_until(now() + LEASE + Duration::from_secs(1));
        let matchmaker = Arc::new(RedisDirectory::open(&config).unwrap());
        let elsewhere =
            RedisDirectory::new(zmqv2_matchmaker::RedisSettings::new(&config).unwrap(), config.heartbeat_ttl);
        Self { nodes, matchmaker, elsewhere, interrupt }
    }
}

impl<W> Fixture for InRedis<W> {
    fn matchmaker(&self) -> Arc<dyn Matchmaker> {
        Arc::clone(&self.matchmaker) as _
    }

    fn place(&mut self, registration: &Registration) {
        self.elsewhere.register(std::slice::from_ref(registration), LEASE).unwrap();
    }

    fn displace(&mut self, registration: &Registration) {
        self.elsewhere.withdraw(std::slice::from_ref(registration)).unwrap();
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { leases: true, interruptible: true, check_ins: true, ..Capabilities::default() }
    }

    fn let_pass(&mut self, time: Duration) {
        // Redis has only real time.
        wait_until(now() + time);
    }

    fn interrupt(&mut self, down: bool) {
        (self.interrupt)(&mut self.nodes, down);
    }
}

#[test]
fn redis_conforms() {
    if !installed("redis_conforms") {
        return;
    }
    let redis = Redis::start();
    let settings = redis.settings();
    // It comes back empty, which is the worst case.
    let interrupt = |redis: &mut Redis, down| if down { redis.kill9() } else { redis.restart() };
    conformance::run(&mut InRedis::new(redis, &settings, interrupt));
}

#[test]
fn redis_conforms_when_it_hangs_and_in_another_database() {
    if !installed("redis_conforms_when_it_hangs_and_in_another_database") {
        return;
    }
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    let settings = [format!("transport_url=zmqv2+redis://:secret@127.0.0.1:{}/7", redis.port())];
    let interrupt = |redis: &mut Redis, down| redis.signal(if down { Signal::STOP } else { Signal::CONT });
    conformance::run(&mut InRedis::new(redis, &settings, interrupt));
}

#[test]
fn redis_behind_sentinels_conforms() {
    if !installed("redis_behind_sentinels_conforms") {
        return;
    }
    let sentinels = Sentinels::start();
    let settings = sentinels.settings();
    let interrupt =
        |sentinels: &mut Sentinels, down| sentinels.signal_servers(if down { Signal::STOP } else { Signal::CONT });
    conformance::run(&mut InRedis::new(sentinels, &settings, interrupt));
}
