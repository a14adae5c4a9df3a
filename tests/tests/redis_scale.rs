//! Measures many nodes in one Redis: in small size with every build, and in full size for
//! `docs/matchmaker.md`:
//!
//! `cargo test --release -p zmqv2-tests --test redis_scale -- --ignored --nocapture`

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use zmqv2_matchmaker::{
    CacheSettings, CachedMatchmaker, Matchmaker, RedisDirectory, RedisSettings, Registration, RemoteDirectory,
    TopicQuery, random_span,
};
use zmqv2_proto::{Config, Node, TopicKey};
use zmqv2_tests::redis_server::{Redis, installed};
use zmqv2_tests::{now, wait_until};

const TOPICS: usize = 5;
/// Processes that send to all topics.
const CLIENTS: usize = 20;
const RENEWERS: usize = 8;

/// The size and the duration of a measurement.
struct Scale {
    nodes: usize,
    renew_every: Duration,
    watch_for: Duration,
    readings: usize,
}

/// The results.
struct Measured {
    register: Duration,
    bytes_per_registration: f64,
    reading: [Duration; 4],
    /// The time to read a topic after one registration has changed.
    change: [Duration; 4],
    change_bytes: f64,
    /// The time of a command that does nothing.
    ping: [Duration; 4],
    reading_bytes: f64,
    /// The processor time of a refresh when nothing has changed.
    comparing: Duration,
    renewals_per_second: f64,
    polls_per_second: f64,
    waits_per_second: f64,
    busy: f64,
}

fn settings(redis: &Redis) -> RedisSettings {
    let mut config = Config::default();
    (config.redis_host, config.redis_port) = ("127.0.0.1".to_owned(), redis.port());
    RedisSettings::new(&config).unwrap()
}

fn topic(n: usize) -> TopicKey {
    TopicKey::parse(&format!("openstack/service-{n}")).unwrap()
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median, p99, max] = self.reading;
        writeln!(
            f,
            "registering a node: {:?}; {:.0} bytes a registration",
            self.register, self.bytes_per_registration
        )?;
        writeln!(
            f,
            "reading a topic: min {min:?}, median {median:?}, p99 {p99:?}, max {max:?}; {:.0} bytes",
            self.reading_bytes
        )?;
        let [min, median, p99, max] = self.change;
        writeln!(
            f,
            "reading a change: min {min:?}, median {median:?}, p99 {p99:?}, max {max:?}; {:.0} bytes with the answers to two changes",
            self.change_bytes
        )?;
        writeln!(f, "comparing all topics: {:?} of the processor", self.comparing)?;
        let [min, median, p99, max] = self.ping;
        writeln!(f, "PING: min {min:?}, median {median:?}, p99 {p99:?}, max {max:?}")?;
        write!(
            f,
            "a second: {:.1} renewals, {:.1} polls, {:.1} waits; {:.2} % of a processor",
            self.renewals_per_second,
            self.polls_per_second,
            self.waits_per_second,
            self.busy * 100.0
        )
    }
}

/// A node with one server of each topic, and its connection.
struct SimulatedNode {
    directory: RedisDirectory,
    registrations: Vec<Registration>,
}

impl SimulatedNode {
    fn new(redis: &Redis, lease: Duration, n: usize) -> Self {
        let name = format!("node-{n:05}.example.org");
        let node = Node::new(name.parse().unwrap(), format!("{name}:9501").parse().unwrap());
        let registration = |n| Registration { key: topic(n), server: name.parse().unwrap(), node: node.clone() };
        let registrations = (0..TOPICS).map(registration).collect();
        Self { directory: RedisDirectory::new(settings(redis), lease), registrations }
    }
}

/// Seconds of processor time that Redis has used.
fn processor(redis: &Redis) -> f64 {
    let stats: String = redis.run(&["INFO", "cpu"]);
    let number = |name: &str| -> f64 {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().parse().unwrap()
    };
    number("used_cpu_user") + number("used_cpu_sys")
}

fn measure(scale: &Scale) -> Measured {
    let redis = Redis::start_with(&["--maxclients", "10000"]);
    let lease = scale.renew_every * 6;
    let empty = redis.info("used_memory");
    let nodes: Vec<_> = (0..scale.nodes).map(|n| SimulatedNode::new(&redis, lease, n)).collect();
    nodes.iter().for_each(|node| node.directory.check().unwrap());
    let connected = redis.info("used_memory");
    let started = now();
    for node in &nodes {
        node.directory.register(&node.registrations, lease).unwrap();
    }
    let register = started.elapsed() / u32::try_from(scale.nodes).unwrap();
    let registered = redis.info("used_memory");
    let bytes_per_registration = (registered - connected) as f64 / (scale.nodes * TOPICS) as f64;
    println!("{} bytes a connection", (connected - empty) / scale.nodes as u64);

    let reader = RedisDirectory::new(settings(&redis), lease);
    let sent = redis.info("total_net_output_bytes");
    let mut took: Vec<_> = (0..scale.readings)
        .map(|n| {
            let started = now();
            let reading = reader.read(&[TopicQuery { key: topic(n % TOPICS), known: None }]).unwrap();
            let took = started.elapsed();
            assert_eq!(reading.states[0].as_ref().unwrap().entries.len(), scale.nodes, "one round trip reads all");
            took
        })
        .collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let reading = [at(0.0), at(0.5), at(0.99), at(1.0)];
    let reading_bytes = (redis.info("total_net_output_bytes") - sent) as f64 / scale.readings as f64;
    // The refresh of a client when nothing has changed.
    let first: Vec<_> = (0..TOPICS).map(|n| TopicQuery { key: topic(n), known: None }).collect();
    let states = reader.read(&first).unwrap().states;
    let known = states.iter().map(|state| Some(state.as_ref().unwrap().revision));
    let mut again: Vec<_> = first.into_iter().zip(known).map(|(first, known)| TopicQuery { known, ..first }).collect();
    let used = processor(&redis);
    for _ in 0..scale.readings {
        assert!(reader.read(&again).unwrap().states.iter().all(Option::is_none), "nothing has changed");
    }
    let comparing = Duration::from_secs_f64((processor(&redis) - used) / scale.readings as f64);
    // The cost of one change for a client that knows the rest.
    let sent = redis.info("total_net_output_bytes");
    let mut took: Vec<_> = (0..scale.readings)
        .map(|n| {
            let one = &nodes[n % scale.nodes];
            let known = again[0].clone();
            one.directory.withdraw(&one.registrations[..1]).unwrap();
            one.directory.register(&one.registrations[..1], lease).unwrap();
            let written = now();
            let reading = reader.read(std::slice::from_ref(&known)).unwrap();
            let state = reading.states[0].as_ref().unwrap();
            again[0].known = Some(state.revision);
            assert!(state.changes_only && state.entries.len() == 1, "{state:?}");
            written.elapsed()
        })
        .collect();
    took.sort_unstable();
    let change = [took[0], took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]];
    let change_bytes = (redis.info("total_net_output_bytes") - sent) as f64 / scale.readings as f64;
    let mut connection = redis.connection();
    let mut took: Vec<_> = (0..scale.readings)
        .map(|_| {
            let started = now();
            let () = redis::cmd("PING").exec(&mut connection).unwrap();
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    let ping = [took[0], took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]];

    let settings_of_caches = CacheSettings {
        refresh: Duration::from_secs(10),
        max_stale: Duration::from_secs(3_600),
        lease,
        renew_every: scale.renew_every,
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| CachedMatchmaker::new(Box::new(RedisDirectory::new(settings(&redis), lease)), settings_of_caches))
        .collect();
    for client in &clients {
        (0..TOPICS).for_each(|n| assert_eq!(client.resolve_all(&topic(n)).unwrap().nodes().len(), scale.nodes));
    }

    let (stop, renewed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut before, mut after) = ([0.0; 3], [0.0; 3]);
    let counts = || [redis.calls("evalsha") as f64, redis.calls("xread") as f64, processor(&redis)];
    let watched = std::thread::scope(|scope| {
        for some in nodes.chunks(scale.nodes.div_ceil(RENEWERS)) {
            let (stop, renewed) = (&stop, &renewed);
            scope.spawn(move || {
                // Each at its own time, as with jitter.
                let mut due: Vec<_> =
                    some.iter().map(|_| now() + random_span(Duration::ZERO, scale.renew_every)).collect();
                while !stop.load(Ordering::Relaxed) {
                    for (node, due) in some.iter().zip(&mut due).filter(|(_, due)| **due <= now()) {
                        // On a busy machine an answer may be late. The next renewal is early
                        // enough.
                        if let Err(error) = node.directory.register(&node.registrations, lease) {
                            println!("a renewal failed: {error}");
                        }
                        renewed.fetch_add(1, Ordering::Relaxed);
                        *due += random_span(scale.renew_every * 4 / 5, scale.renew_every);
                    }
                    wait_until(now() + Duration::from_millis(2));
                }
            });
        }
        // Waits until all nodes work.
        wait_until(now() + scale.renew_every / 2);
        before = counts();
        renewed.store(0, Ordering::Relaxed);
        let started = now();
        // Counts over this time.
        wait_until(started + scale.watch_for);
        after = counts();
        let watched = started.elapsed().as_secs_f64();
        for client in &clients {
            assert_eq!(client.resolve_all(&topic(0)).unwrap().nodes().len(), scale.nodes, "nobody was lost");
        }
        stop.store(true, Ordering::Relaxed);
        watched
    });
    let renewals_per_second = renewed.load(Ordering::Relaxed) as f64 / watched;
    Measured {
        register,
        bytes_per_registration,
        reading,
        change,
        change_bytes,
        ping,
        reading_bytes,
        comparing,
        renewals_per_second,
        polls_per_second: (after[0] - before[0]) / watched - renewals_per_second,
        waits_per_second: (after[1] - before[1]) / watched,
        busy: (after[2] - before[2]) / watched,
    }
}

#[test]
fn a_hundred_nodes_with_five_topics() {
    if !installed("a_hundred_nodes_with_five_topics") {
        return;
    }
    let second = Duration::from_secs(1);
    let measured = measure(&Scale { nodes: 100, renew_every: second * 2, watch_for: second * 4, readings: 100 });
    println!("{measured}");
    // Each node sends one command for each renewal, at most a fifth early. Each client sends two
    // for each refresh.
    assert!((10.0..100.0 / 1.6 * 1.1).contains(&measured.renewals_per_second), "{}", measured.renewals_per_second);
    assert!(measured.bytes_per_registration < 1_000.0);
    let refreshes = measured.polls_per_second.max(measured.waits_per_second) / CLIENTS as f64;
    assert!(refreshes < 4.0, "{refreshes} refreshes of each client a second");
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_nodes_with_five_topics() {
    if !installed("a_thousand_nodes_with_five_topics") {
        return;
    }
    let second = Duration::from_secs(1);
    for round in 0..5 {
        let measured =
            measure(&Scale { nodes: 1_000, renew_every: second * 10, watch_for: second * 20, readings: 1_000 });
        println!("round {round}\n{measured}");
    }
}
