//! The rules, one function each.

use std::sync::{Arc, LazyLock};

use zmqv2_proto::{Node, Target, TopicKey};

use super::{Fixture, LEASE};
use crate::{BrokerProcess, Candidates, CheckIn, Health, Matchmaker, Placement, Refreshed, Registration, Rotation};

/// RG11: a directory of one node answers everything with that node.
pub(super) fn one_node_hosts_everything(fixture: &mut dyn Fixture) {
    let directory = fixture.matchmaker();
    let node = nodes(&*directory, &target("single")).pop().expect("a single node hosts every topic");
    let server = registration("single", "s1", "n9");
    directory.register(&server, LEASE).expect("registering works");
    for asked in [target("single"), at("single", "s1"), target("single.other"), at("single", "nobody")] {
        assert_eq!(nodes(&*directory, &asked), std::slice::from_ref(&node), "{asked} is at the single node");
        assert_eq!(next(&*directory, &asked, &Rotation::new()), Some(node.clone()));
    }
    directory.withdraw(&server).expect("withdrawing works");
}

/// A topic that nobody offers, or an unknown server of it, has no node, and asking is no error.
pub(super) fn unknown_topics_are_empty(fixture: &mut dyn Fixture) {
    let directory = fixture.matchmaker();
    for asked in [target("nobody"), at("nobody", "s1")] {
        assert!(nodes(&*directory, &asked).is_empty(), "nobody offers {asked}");
        assert_eq!(next(&*directory, &asked, &Rotation::new()), None);
    }
}

/// RG03, RG11, RG45: a bare topic is on all nodes that have a server of it.
pub(super) fn a_bare_topic_is_on_all_its_nodes(fixture: &mut dyn Fixture) {
    for (server, node) in [("s1", "n1"), ("s2", "n1"), ("host@backend", "n2"), ("n1", "n3.x-y_z")] {
        place(fixture, &registration("bare", server, node));
    }
    assert_eq!(names(fixture, &target("bare")), ["n1", "n2", "n3.x-y_z"]);
    assert_eq!(names(fixture, &at("bare", "host@backend")), ["n2"]);
}

/// RG01, RG02: a server is only at its own nodes. No other node is tried for it.
pub(super) fn a_server_is_only_where_it_is(fixture: &mut dyn Fixture) {
    for (server, node) in [("s1", "n1"), ("s2", "n2"), ("twin", "n1"), ("twin", "n2")] {
        place(fixture, &registration("server", server, node));
    }
    let turns = Rotation::new();
    for _ in 0..4 {
        let found = next(&*fixture.matchmaker(), &at("server", "s2"), &turns);
        assert_eq!(found, Some(node("n2")), "s2 runs at n2 only (RG01)");
    }
    assert_eq!(names(fixture, &at("server", "s1")), ["n1"], "s1 runs at n1 only (RG01)");
    assert_eq!(names(fixture, &at("server", "twin")), ["n1", "n2"]);
    for unknown in ["s9", "n1", "s"] {
        let found = names(fixture, &at("server", unknown));
        assert!(found.is_empty(), "{unknown} is no server of this topic, but resolves to {found:?} (RG02)");
    }
}

/// The same topic in two exchanges is two topics.
pub(super) fn exchanges_never_mix(fixture: &mut dyn Fixture) {
    let mine = registration("exchange", "s1", "n1");
    let foreign = target("exchange").with_exchange("conformance-2").expect("a valid exchange");
    let theirs = Registration { key: foreign.key(), ..registration("exchange", "s2", "n2") };
    place(fixture, &mine);
    assert!(names(fixture, &foreign).is_empty(), "{foreign} has no server yet");
    place(fixture, &theirs);
    assert_eq!((names(fixture, &target("exchange")), names(fixture, &foreign)), (vec!["n1".into()], vec!["n2".into()]));
    displace(fixture, &mine);
    assert_eq!(names(fixture, &foreign), ["n2"], "withdrawing in one exchange leaves the other alone");
    assert!(names(fixture, &target("exchange")).is_empty());
}

/// Nodes take turns strictly while nothing changes.
pub(super) fn nodes_take_turns(fixture: &mut dyn Fixture) {
    for node in ["n1", "n2", "n3"] {
        place(fixture, &registration("turns", "s1", node));
    }
    let (directory, turns) = (fixture.matchmaker(), Rotation::new());
    let order: Vec<Node> = std::iter::repeat_with(|| next(&*directory, &target("turns"), &turns))
        .take(9)
        .map(|found| found.expect("three nodes host it"))
        .collect();
    for three in order.windows(3) {
        let distinct = three[0] != three[1] && three[1] != three[2] && three[0] != three[2];
        assert!(distinct, "three in a row reach three nodes, not {three:?}");
    }
}

/// Placing twice adds nothing and changes no snapshot.
pub(super) fn placing_twice_is_placing_once(fixture: &mut dyn Fixture) {
    let server = registration("twice", "s1", "n1");
    place(fixture, &server);
    let before = all(&*fixture.matchmaker(), &server.key);
    place(fixture, &server);
    let after = all(&*fixture.matchmaker(), &server.key);
    assert_eq!(before, after);
    assert_eq!(after.nodes().len(), 1, "one server is one node");
    assert_eq!(after.nodes()[0].servers.len(), 1, "one server is listed once");
    displace(fixture, &server);
    assert!(names(fixture, &target("twice")).is_empty(), "displacing once is enough");
}

/// RG31: a node that restarts on another port is found there, and only there.
pub(super) fn a_node_that_moved_is_at_its_new_address(fixture: &mut dyn Fixture) {
    let mut server = registration("moved", "s1", "n1");
    place(fixture, &server);
    server.node.address = "n1:9777".parse().expect("a valid address");
    place(fixture, &server);
    assert_eq!(nodes(&*fixture.matchmaker(), &target("moved")), [server.node]);
}

/// RG17: a stopped server is not visible any more; its node stays while it has others.
pub(super) fn a_withdrawn_server_disappears(fixture: &mut dyn Fixture) {
    let [first, second] = ["s1", "s2"].map(|server| registration("gone", server, "n1"));
    place(fixture, &first);
    place(fixture, &second);
    displace(fixture, &first);
    assert!(names(fixture, &at("gone", "s1")).is_empty(), "s1 was withdrawn (RG17)");
    assert_eq!(names(fixture, &at("gone", "s2")), ["n1"]);
    assert_eq!(names(fixture, &target("gone")), ["n1"], "n1 still has s2");
    displace(fixture, &second);
    assert!(names(fixture, &target("gone")).is_empty(), "the last server of n1 was withdrawn (RG17)");
    displace(fixture, &second);
}

/// RG18: a node that comes later is found without a restart, and `generation` changes.
pub(super) fn a_new_node_is_found(fixture: &mut dyn Fixture) {
    let directory = fixture.matchmaker();
    assert!(nodes(&*directory, &target("new")).is_empty());
    for (count, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
        let before = directory.generation();
        place(fixture, &registration("new", "s1", name));
        assert_eq!(nodes(&*directory, &target("new")).len(), count + 1, "{name} is new (RG18)");
        assert_ne!(directory.generation(), before, "the generation changes with {name}");
    }
}

/// A directory that does not take registrations accepts them and stays as it is.
pub(super) fn registrations_are_ignored(fixture: &mut dyn Fixture) {
    let (directory, placed) = (fixture.matchmaker(), registration("ignored", "s1", "n1"));
    place(fixture, &placed);
    let before = all(&*directory, &placed.key);
    let other = registration("ignored", "s2", "n2");
    directory.register(&other, LEASE).expect("registering works");
    directory.renew(&other, LEASE).expect("renewing works");
    directory.withdraw(&placed).expect("withdrawing works");
    assert!(Arc::ptr_eq(&before, &all(&*directory, &placed.key)), "a read-only directory does not change");
}

/// A caller sees its own registration at once. Every verb may be repeated.
pub(super) fn own_registrations_count_at_once(fixture: &mut dyn Fixture) {
    let (directory, server) = (fixture.matchmaker(), registration("own", "s1", "n1"));
    assert!(nodes(&*directory, &target("own")).is_empty());
    directory.withdraw(&server).expect("withdrawing a missing registration works");
    directory.register(&server, LEASE).expect("registering works");
    directory.register(&server, LEASE).expect("registering again works");
    assert_eq!(nodes(&*directory, &at("own", "s1")), [node("n1")]);
    assert_eq!(all(&*directory, &server.key).nodes()[0].servers.len(), 1, "registered twice is registered once");
    directory.withdraw(&server).expect("withdrawing works");
    assert!(nodes(&*directory, &target("own")).is_empty(), "one withdrawal is enough (RG17)");
    directory.renew(&server, LEASE).expect("renewing a missing registration works");
    assert_eq!(nodes(&*directory, &target("own")), [node("n1")], "a renewal restores a lost registration (RG13)");
}

/// RG15: a registration lives for its lease, and as long as it is renewed.
pub(super) fn leases_end_and_are_renewed(fixture: &mut dyn Fixture) {
    let directory = fixture.matchmaker();
    let (renewed, silent) = (registration("lease", "s1", "n1"), registration("lease", "s2", "n2"));
    directory.register(&renewed, LEASE).expect("registering works");
    directory.register(&silent, LEASE).expect("registering works");
    for _ in 0..2 {
        fixture.let_pass(LEASE * 2 / 3);
        directory.renew(&renewed, LEASE).expect("renewing works");
    }
    refresh(fixture);
    assert_eq!(names(fixture, &target("lease")), ["n1"], "n2 was silent for longer than its lease (RG15)");
    assert!(names(fixture, &at("lease", "s2")).is_empty());
    fixture.let_pass(LEASE * 2);
    refresh(fixture);
    assert!(names(fixture, &target("lease")).is_empty(), "n1 is silent, too");
}

/// RG12: while the directory cannot be read, known answers stay and `health` is stale. Changes
/// resume afterwards.
pub(super) fn answers_outlive_an_interruption(fixture: &mut dyn Fixture) {
    let (directory, server) = (fixture.matchmaker(), registration("interrupted", "s1", "n1"));
    place(fixture, &server);
    let before = all(&*directory, &server.key);
    assert_eq!(directory.health(), Health::Ok);
    fixture.interrupt(true);
    let mut stays = None;
    for _ in 0..3 {
        assert!(directory.refresh().is_err(), "a refresh fails while the directory cannot be read");
        let now = all(&*directory, &server.key);
        assert!(std::ptr::eq(before.nodes(), now.nodes()), "known answers stay (RG12)");
        assert!(!now.completeness().is_complete(), "but they may lack nodes (P8)");
        let first = stays.get_or_insert_with(|| Arc::clone(&now));
        assert!(Arc::ptr_eq(first, &now), "they are marked once");
    }
    assert!(matches!(directory.health(), Health::Stale { .. }), "{:?}", directory.health());
    fixture.interrupt(false);
    // Its lease may have ended in the meantime.
    place(fixture, &server);
    place(fixture, &registration("interrupted", "s2", "n2"));
    assert_eq!(names(fixture, &target("interrupted")), ["n1", "n2"], "changes resume");
    assert!(!matches!(directory.health(), Health::Stale { .. }), "{:?}", directory.health());
}

/// P8: leases that end while no broker can check in say nothing about the servers. Once brokers can
/// renew again, a server that is not renewed for a lease is gone.
pub(super) fn leases_that_end_while_nobody_can_renew_end_nothing(fixture: &mut dyn Fixture) {
    let directory = fixture.matchmaker();
    let (alive, dead) = (registration("quiet", "s1", "n1"), registration("quiet", "s2", "n2"));
    let mark = |directory: &dyn Matchmaker| all(directory, &alive.key).completeness().reason().map(str::to_owned);
    for server in [&alive, &dead] {
        directory.register(server, LEASE).expect("registering works");
    }
    check_in(&*directory, false);
    assert_eq!(names(fixture, &target("quiet")), ["n1", "n2"]);
    fixture.let_pass(LEASE * 2);
    refresh(fixture);
    assert_eq!(names(fixture, &target("quiet")), ["n1", "n2"], "nobody could renew");
    assert!(mark(&*directory).is_some(), "the list may lack servers");
    assert!(!matches!(directory.health(), Health::Ok | Health::Stale { .. }), "{:?}", directory.health());
    check_in(&*directory, true);
    refresh(fixture);
    assert_eq!(names(fixture, &target("quiet")), ["n1", "n2"], "brokers have had no time to renew");
    let mut rounds = 0;
    while mark(&*directory).is_some() {
        rounds += 1;
        assert!(rounds < 100, "the list is never complete: {:?}", mark(&*directory));
        directory.renew(&alive, LEASE).expect("renewing works");
        check_in(&*directory, true);
        fixture.let_pass(LEASE / 12);
        refresh(fixture);
    }
    assert_eq!(names(fixture, &target("quiet")), ["n1"], "others could renew, and n2 did not (RG15)");
    assert_eq!(mark(&*directory), None, "the list is complete");
    assert_eq!(directory.health(), Health::Ok);
}

fn check_in(directory: &dyn Matchmaker, again: bool) {
    let broker = node("n1");
    static OWN: LazyLock<BrokerProcess> = LazyLock::new(|| BrokerProcess::new("m"));
    let (node, broker) = (&broker, &*OWN);
    let check_in = CheckIn { node, broker, again, sample: None, lease: LEASE, renew_every: LEASE / 3 };
    let checked = directory.check_in(&check_in).expect("checking in works");
    assert!(!checked.origin.is_empty() && checked.other_broker.is_none(), "{checked:?}");
}

/// One snapshot serves all callers until something changes. `known` agrees with `resolve_all`.
pub(super) fn answers_are_shared(fixture: &mut dyn Fixture) {
    let server = registration("shared", "s1", "n1");
    place(fixture, &server);
    let directory = fixture.matchmaker();
    assert!(!directory.name().is_empty());
    assert_eq!(directory.health(), Health::Ok);
    let first = all(&*directory, &server.key);
    let generation = directory.generation();
    assert_eq!(directory.refresh().expect("refreshing works"), Refreshed::Unchanged);
    assert!(Arc::ptr_eq(&first, &all(&*directory, &server.key)), "an unchanged answer is the same allocation");
    assert_eq!(directory.generation(), generation, "nothing changed");
    let known = directory.known(&server.key).expect("a topic that was just asked for is known");
    assert!(Arc::ptr_eq(&first, &known), "`known` gives the same allocation");
}

/// Threads that share a matchmaker and a rotation get whole answers and fair turns, also during
/// changes.
pub(super) fn asking_from_many_threads(fixture: &mut dyn Fixture) {
    const THREADS: usize = 6;
    const ASKED: usize = 100;
    for node in ["n1", "n2", "n3"] {
        place(fixture, &registration("threads", "s1", node));
    }
    let (directory, turns) = (fixture.matchmaker(), Rotation::new());
    let nodes_before = nodes(&*directory, &target("threads"));
    let ask = || {
        let one = |_| next(&*directory, &target("threads"), &turns).expect("nodes host it");
        (0..ASKED).map(one).collect::<Vec<Node>>()
    };
    let answers: Vec<Node> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().flat_map(|asker| asker.join().expect("no thread panics")).collect()
    });
    for node in &nodes_before {
        let count = answers.iter().filter(|answer| *answer == node).count();
        assert_eq!(count, THREADS * ASKED / nodes_before.len(), "{node} gets its share");
    }

    let late = registration("threads", "s1", "n4");
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        for _ in 0..3 {
            place(fixture, &late);
            displace(fixture, &late);
        }
        for asker in askers {
            for answer in asker.join().expect("no thread panics") {
                assert!(answer == late.node || nodes_before.contains(&answer), "{answer} was never placed");
            }
        }
    });
    assert_eq!(nodes(&*directory, &target("threads")), nodes_before);
}

fn target(topic: &str) -> Target {
    Target::topic(format!("conformance.{topic}")).expect("a valid topic")
}

fn at(topic: &str, server: &str) -> Target {
    target(topic).with_server(server).expect("a valid server name")
}

fn node(name: &str) -> Node {
    Node::new(name.parse().expect("a valid node name"), name.parse().expect("a valid address"))
}

fn registration(topic: &str, server: &str, at: &str) -> Registration {
    Registration { key: target(topic).key(), server: server.parse().expect("a valid server name"), node: node(at) }
}

fn place(fixture: &mut dyn Fixture, registration: &Registration) {
    fixture.place(registration);
    refresh(fixture);
}

fn displace(fixture: &mut dyn Fixture, registration: &Registration) {
    fixture.displace(registration);
    refresh(fixture);
}

fn refresh(fixture: &dyn Fixture) {
    let _ = fixture.matchmaker().refresh().expect("refreshing works");
}

fn all(directory: &dyn Matchmaker, key: &TopicKey) -> Arc<Placement> {
    directory.resolve_all(key).expect("it answers")
}

fn candidates(directory: &dyn Matchmaker, target: &Target) -> Candidates {
    all(directory, &target.key()).candidates(target.server.as_ref())
}

/// The node whose turn it is.
fn next(directory: &dyn Matchmaker, target: &Target, turns: &Rotation) -> Option<Node> {
    turns.order(&target.key(), &candidates(directory, target)).next().cloned()
}

fn nodes(directory: &dyn Matchmaker, target: &Target) -> Vec<Node> {
    candidates(directory, target).iter().cloned().collect()
}

fn names(fixture: &dyn Fixture, target: &Target) -> Vec<String> {
    // The order is the directory's choice.
    let mut names: Vec<_> = nodes(&*fixture.matchmaker(), target).iter().map(|node| node.name.to_string()).collect();
    names.sort();
    names
}
