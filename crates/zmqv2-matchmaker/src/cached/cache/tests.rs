//! The rules by which new answers replace remembered ones.

mod marks;

use zmqv2_proto::Node;

use super::*;
use crate::api::PlacedNode;
use crate::cached::remote::ServerEntry;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: CacheSettings = CacheSettings {
    refresh: Duration::from_secs(5),
    max_stale: Duration::from_secs(100),
    lease: Duration::from_secs(10),
    renew_every: Duration::from_secs(4),
};

/// A memory, and the time of the world.
struct World {
    cache: TopicCache,
    now: Instant,
    epoch: &'static str,
    instance: &'static str,
    /// How far the directory's clock is ahead.
    ahead: Duration,
    age: Duration,
    renewals: Renewals,
    started: Instant,
    revision: u64,
}

fn key(name: &str) -> TopicKey {
    TopicKey::parse(&format!("x/{name}")).unwrap()
}

/// `n/s` is a server, `-n/s` one that was withdrawn, `!n/s` one that has ended, `n:port/s` one at
/// another port.
fn state(revision: u64, text: &str) -> TopicState {
    let entry = |word: &str| {
        let (address, server) = word.trim_start_matches(['-', '!']).split_once('/').unwrap();
        let name = address.split(':').next().unwrap();
        let node = Node::new(name.parse().unwrap(), address.parse().unwrap());
        let presence = match word.chars().next() {
            Some('-') => Presence::Withdrawn,
            Some('!') => Presence::Ended,
            _ => Presence::At(node.clone()),
        };
        ServerEntry { node: node.name, server: server.parse().unwrap(), presence }
    };
    let entries = text.split_whitespace().map(entry).collect();
    TopicState { revision: Revision(revision, 0), changes_only: false, entries }
}

impl World {
    fn new() -> Self {
        let now = crate::cached::now();
        let (age, ahead) = (SETTINGS.lease, Duration::ZERO);
        let cache = TopicCache::new(SETTINGS, now);
        Self {
            cache,
            now,
            epoch: "e1",
            instance: "i1",
            ahead,
            age,
            renewals: Renewals::Unknown,
            started: now,
            revision: 1_000,
        }
    }

    fn reading(&self, states: Vec<Option<TopicState>>) -> DirectoryAnswer {
        DirectoryAnswer {
            epoch: self.epoch.into(),
            instance: self.instance.into(),
            clock: self.now - self.started + self.ahead,
            age: self.age,
            renewals: self.renewals.clone(),
            states,
        }
    }

    /// A first question about another topic.
    fn first(&mut self, name: &str, state: TopicState) -> Result<Arc<Placement>, Duration> {
        let reading = self.reading(vec![Some(state)]);
        self.cache.first(&key(name), reading, false, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The first question about `t`.
    fn ask(&mut self, text: &str) -> Result<Arc<Placement>, Duration> {
        self.revision += 1;
        self.first("t", state(self.revision, text))
    }

    fn read(&mut self, state: Option<TopicState>, late: bool) -> bool {
        let queries = self.cache.queries();
        let reading = self.reading(vec![state]);
        let taken = self.cache.update(&queries, reading, late, self.now);
        let settled = self.cache.settle(self.now);
        [taken, settled].contains(&Refreshed::Changed)
    }

    /// What was read about `t` again.
    fn learn(&mut self, text: &str) -> bool {
        self.revision += 1;
        self.read(Some(state(self.revision, text)), false)
    }

    fn fail(&mut self) {
        let gone = MatchmakerError::Unavailable { directory: "d".into(), source: "gone".into() };
        self.cache.failed(&gone, self.now);
    }

    /// What is answered; `?` for a question that goes to the directory.
    fn shown(&self) -> String {
        let Some(placement) = self.cache.look(&key("t"), EMPTY_FOR, self.now) else { return "?".into() };
        let servers = |placed: &PlacedNode| {
            let port = placed.node.address.port();
            let name = if port == 9501 { placed.node.name.to_string() } else { format!("{}:{port}", placed.node.name) };
            placed.servers.iter().map(|server| format!("{name}/{server}")).collect::<Vec<_>>().join(" ")
        };
        placement.nodes().iter().map(servers).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_change_is_shown_and_an_unchanged_answer_is_the_same_allocation() {
    let mut world = World::new();
    assert!(world.ask("b/s a/s2 a/s1").is_ok());
    assert_eq!(world.shown(), "a/s1 a/s2 b/s");
    let (before, generation) = (world.cache.look(&key("t"), EMPTY_FOR, world.now), world.cache.generation());
    assert!(!world.read(None, false));
    assert!(!world.learn("a/s1 a/s2 b/s"), "renewed in another order");
    let after = world.cache.look(&key("t"), EMPTY_FOR, world.now);
    assert!(Arc::ptr_eq(&before.unwrap(), &after.unwrap()) && world.cache.generation() == generation);
    assert!(world.learn("a/s1"));
    assert_eq!(world.shown(), "a/s1", "without an outage, what has ended is gone");
    assert!(world.cache.generation() > generation);
}

#[test]
fn of_two_addresses_of_a_node_the_newer_one_counts_rg31() {
    let mut world = World::new();
    world.ask("a:1/old a:2/new").unwrap();
    assert_eq!(world.shown(), "a:2/new a:2/old");
}

#[test]
fn changes_give_the_same_answer_as_a_whole_state() {
    let mut world = World::new();
    world.ask("a/s1 a/s2 b/s").unwrap();
    let change = |world: &mut World, text: &str| {
        world.revision += 1;
        world.read(Some(TopicState { changes_only: true, ..state(world.revision, text) }), false)
    };
    assert!(change(&mut world, "c/s -a/s1"));
    assert_eq!(world.shown(), "a/s2 b/s c/s");
    assert!(change(&mut world, "!b/s a:7/s1"));
    assert_eq!(world.shown(), "a:7/s1 a:7/s2 c/s", "b has ended, and a has moved");
    assert!(change(&mut world, "-a/s1 !a/s2"));
    assert_eq!(world.shown(), "c/s");
    assert!(!change(&mut world, "!a/s1"), "it was gone already");
    // In doubt, what has ended stays, and what was withdrawn goes.
    assert!(change(&mut world, "d/s e/s"));
    world.fail();
    assert!(change(&mut world, "!c/s -d/s"));
    assert_eq!(world.shown(), "c/s e/s");
    world.pass(SETTINGS.lease);
    assert!(world.read(None, false));
    assert_eq!(world.shown(), "e/s");
    // Of another state than the one at hand, they say nothing.
    let queries = vec![TopicQuery { key: key("t"), known: Some(Revision(1, 0)) }];
    let reading = world.reading(vec![Some(TopicState { changes_only: true, ..state(9_000, "z/s") })]);
    let _ = world.cache.update(&queries, reading, false, world.now);
    assert_eq!(world.shown(), "e/s");
    assert_eq!(world.cache.queries()[0].known, Some(Revision::NONE), "everything is asked for");
}

#[test]
fn an_empty_answer_is_used_for_a_moment() {
    let mut world = World::new();
    assert_eq!(world.ask(""), Ok(Arc::default()));
    world.pass(EMPTY_FOR);
    assert_eq!(world.shown(), "");
    world.pass(SECOND);
    assert_eq!(world.shown(), "?");
    world.learn("a/s");
    assert_eq!(world.shown(), "a/s");
}

#[test]
fn known_answers_outlive_an_outage_up_to_a_bound_rg12() {
    let mut world = World::new();
    world.ask("a/s").unwrap();
    world.pass(SETTINGS.max_stale * 2);
    assert_eq!(world.shown(), "a/s", "nothing says that it is stale");
    world.read(None, false);
    world.fail();
    world.pass(SETTINGS.max_stale);
    assert_eq!(world.shown(), "a/s");
    world.pass(SECOND);
    assert_eq!(world.shown(), "?");
    world.read(None, false);
    assert_eq!(world.shown(), "a/s", "it was right after all");
}

#[test]
fn after_an_outage_missing_servers_stay_for_a_lease_and_new_ones_count() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    world.fail();
    world.pass(SETTINGS.lease * 2);
    world.learn("");
    assert_eq!(world.shown(), "a/s b/s", "an empty answer after an outage is not believed");
    world.pass(SECOND);
    assert!(world.learn("c/s b:7/s"));
    assert_eq!(world.shown(), "a/s b:7/s c/s");
    world.pass(SETTINGS.lease - SECOND - SECOND);
    world.read(None, false);
    assert_eq!(world.shown(), "a/s b:7/s c/s", "the lease is not over");
    world.pass(SECOND);
    assert!(world.read(None, false));
    assert_eq!(world.shown(), "b:7/s c/s", "now it is");
}

#[test]
fn a_withdrawn_server_is_gone_also_after_an_outage() {
    let mut world = World::new();
    world.ask("a/s a/s2 b/s").unwrap();
    world.fail();
    world.pass(SECOND);
    world.learn("-a/s -b/s");
    assert_eq!(world.shown(), "a/s2");
}

#[test]
fn a_late_answer_counts_as_an_outage() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    world.pass(SECOND);
    world.revision += 1;
    world.read(Some(state(world.revision, "a/s")), true);
    assert_eq!(world.shown(), "a/s b/s");
}

#[test]
fn data_that_was_lost_is_noticed_without_an_outage_rg13() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    world.epoch = "e2";
    world.revision = 0;
    world.read(Some(state(0, "")), false);
    assert_eq!(world.shown(), "a/s b/s");
    world.revision = 2_000;
    world.learn("b/s");
    assert_eq!(world.shown(), "a/s b/s");
    // What was not known before cannot be told from what nobody offers.
    assert_eq!(world.first("other", state(0, "-n/s")), Err(SETTINGS.lease));
    assert!(world.first("there", state(3_000, "n/s")).is_ok());
    world.pass(SETTINGS.lease);
    let _ = world.cache.settle(world.now);
    assert_eq!(world.shown(), "b/s");
    assert_eq!(world.first("other", state(0, "-n/s")), Ok(Arc::default()));
}

#[test]
fn after_an_outage_empty_answers_are_unconfirmed_for_every_topic() {
    let mut world = World::new();
    world.ask("").unwrap();
    world.fail();
    assert_eq!(world.first("other", state(0, "")), Err(SETTINGS.lease));
    assert_eq!(world.shown(), "?", "an empty answer from before the outage is not used");
    assert_eq!(world.ask(""), Err(SETTINGS.lease));
    // Remembered for a moment, so that the directory is not asked for each message.
    let within = |world: &World| world.cache.unconfirmed_for(&key("other"), world.now);
    assert_eq!(within(&world), Some(SETTINGS.lease));
    world.pass(EMPTY_FOR + SECOND);
    assert_eq!(within(&world), None);
    assert_eq!(world.first("other", state(0, "")), Err(SETTINGS.lease - EMPTY_FOR - SECOND));
    // The time alone ends the uncertainty, also without a call of `settle`.
    world.pass(SETTINGS.lease);
    assert_eq!(within(&world), None);
    assert_eq!(world.first("other", state(0, "")), Ok(Arc::default()));
    assert_eq!(world.ask(""), Ok(Arc::default()));
    for n in 0..MAX_TOPICS + 10 {
        world.fail();
        world.first(&format!("n{n}"), state(0, "")).unwrap_err();
    }
    assert_eq!(world.cache.unconfirmed.len(), MAX_TOPICS);
}

#[test]
fn empty_answers_of_a_directory_younger_than_a_lease_are_unconfirmed() {
    let mut world = World::new();
    world.age = SECOND;
    assert_eq!(world.ask(""), Err(SETTINGS.lease - SECOND));
    assert!(world.first("there", state(1, "n/s")).is_ok());
    world.pass(SETTINGS.lease - SECOND);
    assert_eq!(world.ask(""), Ok(Arc::default()));
}

#[test]
fn another_process_of_the_directory_counts_as_an_outage() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    world.instance = "i2";
    // Another process has another clock, so the difference means nothing.
    world.ahead = SETTINGS.lease * 100;
    world.learn("a/s");
    assert_eq!(world.shown(), "a/s b/s");
    assert_eq!(world.first("other", state(0, "")), Err(SETTINGS.lease));
    world.pass(SETTINGS.lease);
    world.read(None, false);
    assert_eq!(world.shown(), "a/s");
}

#[test]
fn a_clock_that_was_put_forward_counts_as_an_outage() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    world.pass(SECOND);
    world.ahead = SECOND * 7;
    world.learn("a/s");
    assert_eq!(world.shown(), "a/s b/s");
    world.pass(SETTINGS.lease);
    world.learn("a/s");
    assert_eq!(world.shown(), "a/s");
    // A little is what answers are late by, and back ends no lease.
    world.learn("a/s b/s");
    world.ahead += SECOND;
    world.learn("b/s");
    assert_eq!(world.shown(), "b/s");
    world.ahead = Duration::ZERO;
    world.learn("");
    assert_eq!(world.shown(), "");
}

#[test]
fn a_state_older_than_the_known_one_counts_as_an_outage() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    // The replica that became the primary had not got b.
    world.read(Some(state(900, "a/s")), false);
    assert_eq!(world.shown(), "a/s b/s");
    // But a topic whose last lease has ended has no state at all, and that is no loss.
    let mut world = World::new();
    world.ask("a/s").unwrap();
    world.read(Some(state(0, "")), false);
    assert_eq!(world.shown(), "");
}

#[test]
fn every_outage_starts_a_new_lease_of_waiting() {
    let mut world = World::new();
    world.ask("a/s b/s").unwrap();
    world.fail();
    world.learn("a/s");
    world.pass(SETTINGS.lease - SECOND);
    world.fail();
    world.pass(SECOND * 2);
    let _ = world.cache.settle(world.now);
    assert_eq!(world.shown(), "a/s b/s", "nothing ends while the directory cannot be read");
    world.read(None, false);
    world.pass(SETTINGS.lease - SECOND);
    world.read(None, false);
    assert_eq!(world.shown(), "a/s b/s");
    world.pass(SECOND);
    world.read(None, false);
    assert_eq!(world.shown(), "a/s");
}

#[test]
fn remembered_topics_are_bounded_by_number_and_by_time() {
    let mut world = World::new();
    for n in 0..MAX_TOPICS + 10 {
        if n % 100 == 0 {
            world.pass(SECOND);
            let _ = world.cache.look(&key("n0"), EMPTY_FOR, world.now);
        }
        world.first(&format!("n{n}"), state(1, "a/s")).unwrap();
    }
    assert_eq!(world.cache.len(), MAX_TOPICS);
    assert!(world.cache.look(&key("n0"), EMPTY_FOR, world.now).is_some(), "somebody asks for it");
    world.pass(FORGET_AFTER / 2);
    let _ = world.cache.look(&key("n0"), EMPTY_FOR, world.now);
    world.pass(FORGET_AFTER / 2 + SECOND);
    let _ = world.cache.settle(world.now);
    assert_eq!(world.cache.len(), 1);
}
