//! Answers that may lack servers, and what `health` says about them.

use super::*;

impl World {
    /// Why the shown answer may lack nodes, or `all`.
    fn mark(&self) -> String {
        let Some(placement) = self.cache.look(&key("t"), EMPTY_FOR, self.now) else { return "?".into() };
        placement.completeness().reason().unwrap_or("all").to_owned()
    }
}

fn stopped() -> Renewals {
    Renewals::Stopped { reason: "renewals are refused: x".into() }
}

#[test]
fn leases_that_end_while_nobody_can_renew_say_nothing_about_the_servers() {
    let mut world = World::new();
    world.renewals = Renewals::Work;
    world.ask("a/s b/s").unwrap();
    assert_eq!(world.mark(), "all");
    world.renewals = stopped();
    assert!(world.learn("a/s"), "the mark is a change");
    assert_eq!((world.shown(), world.mark()), ("a/s b/s".into(), "renewals are refused: x".into()));
    assert!(matches!(world.cache.health(world.now), Health::RefusingWrites { since, .. } if since == world.now));
    world.pass(SETTINGS.lease * 10);
    world.learn("-a/s");
    assert_eq!(world.shown(), "b/s");
    world.learn("");
    assert_eq!(world.shown(), "b/s", "however long it lasts");
    // A new topic that nobody offers may have servers.
    assert!(world.first("other", state(0, "")).is_err());
    assert!(world.cache.doubts().contains("refused"));
    let left = SETTINGS.lease / 2;
    world.renewals = Renewals::Interrupted { left, reason: "they were".into() };
    world.learn("");
    assert_eq!((world.shown(), world.mark()), ("b/s".into(), "they were".into()));
    let since = world.cache.health(world.now).since();
    assert!(
        matches!(world.cache.health(world.now), Health::Refilling { within, .. } if within == left) && since.is_some()
    );
    world.pass(left);
    world.renewals = Renewals::Work;
    assert!(world.learn("c/s"));
    assert_eq!((world.shown(), world.mark()), ("c/s".into(), "all".into()));
    assert_eq!(world.cache.health(world.now), Health::Ok);
}

#[test]
fn when_brokers_could_renew_an_outage_of_this_process_alone_costs_no_doubt() {
    let mut world = World::new();
    world.renewals = Renewals::Work;
    world.ask("a/s b/s").unwrap();
    world.fail();
    assert_eq!((world.shown(), world.mark()), ("a/s b/s".into(), "the directory cannot be read".into()));
    world.pass(SETTINGS.lease * 2);
    assert!(world.learn("a/s"));
    assert_eq!((world.shown(), world.mark()), ("a/s".into(), "all".into()));
    // Nobody waits for a lease: an empty answer is believed.
    assert_eq!(world.first("other", state(0, "")), Ok(Arc::default()));
}

#[test]
fn every_cause_of_doubt_marks_answers_incomplete_until_it_is_over() {
    let marked = |cause: fn(&mut World), words: &str| {
        let mut world = World::new();
        world.ask("a/s b/s").unwrap();
        let before = world.cache.look(&key("t"), EMPTY_FOR, world.now).unwrap();
        let generation = world.cache.generation();
        cause(&mut world);
        assert!(world.mark().contains(words), "{}", world.mark());
        let marked = world.cache.look(&key("t"), EMPTY_FOR, world.now).unwrap();
        assert!(std::ptr::eq(before.nodes(), marked.nodes()) && world.cache.generation() > generation);
        world.read(None, false);
        assert!(Arc::ptr_eq(&marked, &world.cache.look(&key("t"), EMPTY_FOR, world.now).unwrap()), "{words}: one mark");
        world.pass(SETTINGS.lease);
        assert!(world.read(None, false), "{words}");
        assert_eq!(world.mark(), "all", "{words}");
    };
    marked(
        |world| {
            world.epoch = "e2";
            world.read(None, false);
        },
        "lost its data",
    );
    marked(
        |world| {
            world.instance = "i2";
            world.read(None, false);
        },
        "failover",
    );
    marked(
        |world| {
            world.ahead = SETTINGS.lease;
            world.read(None, false);
        },
        "put forward",
    );
    marked(
        |world| {
            world.read(Some(state(900, "a/s b/s")), false);
        },
        "older data",
    );
    marked(
        |world| {
            world.read(None, true);
        },
        "could not be read",
    );
    marked(
        |world| {
            world.fail();
            world.read(None, false);
        },
        "could not be read",
    );
}

#[test]
fn the_first_answer_of_a_young_directory_is_marked() {
    let mut world = World::new();
    world.age = SECOND;
    let first = world.ask("a/s").unwrap();
    assert_eq!(first.completeness().reason(), Some("the directory is younger than a lease"));
    assert_eq!(world.mark(), "the directory is younger than a lease");
    assert!(world.first("empty", state(0, "")).is_err());
}

#[test]
fn a_mistake_that_can_be_corrected_stays_one_while_the_directory_is_not_asked() {
    let mut world = World::new();
    let [directory, problem, remedy] = ["d", "it wants a password", "correct password"].map(str::to_owned);
    world.cache.failed(&MatchmakerError::Misconfigured { directory, problem, remedy }, world.now);
    let error = world.cache.failure().unwrap().error("d".into());
    assert!(matches!(error, MatchmakerError::Misconfigured { .. }) && !error.may_pass());
    world.fail();
    assert!(world.cache.failure().unwrap().error("d".into()).may_pass());
}
