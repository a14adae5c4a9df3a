//! A call ends in the same way whether it is alone (the loop over a REQ socket) or beside others
//! (the table of pending messages): both run in the same simulated world.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_matchmaker::{Candidates, PlacedNode, Placement};
use zmqv2_proto::{Node, Reason, Refusal, TopicKey};

use super::attempts::{self, World};
use crate::delivery::attempt::{AskError, Attempt, SearchPlan, Verdict};
use crate::delivery::table::{Action, DeliveryOptions, Input, Limits, PendingTable, Tag};
use crate::routing::route::LOOKUP_VALID_FOR;
use crate::routing::server_locations::ServerLocations;
use crate::routing::server_search::ServerSearch;

/// What a node does when it is asked.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    /// It cannot be connected to at all.
    NoAddress,
    /// It never takes the connection.
    Dead,
    /// It takes the connection and the request after `connect` ms, and then does this.
    Takes { connect: u64, then: Then },
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Accept {
        after: u64,
    },
    Refuse {
        after: u64,
        reason: Reason,
    },
    Lose {
        after: u64,
    },
    #[cfg_attr(not(feature = "proptest"), expect(dead_code, reason = "only the property test makes it"))]
    NoAnswer,
}

/// A call and its world.
#[derive(Debug, Clone)]
struct Case {
    timeout: u64,
    retries: u32,
    jitter: u8,
    wait_for_ready: bool,
    connect_timeout: u64,
    /// Whether it is for one server, and the node where that was last.
    server: Option<Option<usize>>,
    turn: usize,
    /// For each node what it does first, second, ...; the last one again and again.
    nodes: Vec<Vec<Behaviour>>,
    /// The nodes that the directory names, from this time (ms) on; `None`: it fails.
    directory: Vec<(u64, Option<Vec<usize>>)>,
}

/// How a call ended, when, and whom it asked before, and when.
#[derive(Debug, PartialEq, Eq)]
struct End {
    result: Result<usize, Verdict>,
    after: Duration,
    asked: Vec<(Duration, usize)>,
}

/// What both ways share: the nodes and the directory.
struct Surroundings<'a> {
    case: &'a Case,
    start: Instant,
    now: Instant,
    found: Vec<usize>,
    search: Option<ServerSearch>,
    looked_up: Instant,
    asked: Vec<(Duration, usize)>,
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn node(number: usize) -> Node {
    let name = format!("n{number}");
    Node::new(name.parse().unwrap(), name.parse().unwrap())
}

fn candidates(nodes: &[usize]) -> Candidates {
    let nodes = nodes.iter().map(|number| PlacedNode::unlisted(node(*number))).collect();
    Arc::new(Placement::new(nodes)).candidates(None)
}

impl<'a> Surroundings<'a> {
    fn new(case: &'a Case) -> Self {
        let start = crate::clock::now();
        let found = case.directory[0].1.clone().unwrap_or_default();
        let search = case.server.map(|last_seen| {
            let location =
                ServerLocations::default().location_of(TopicKey::parse("x/t").unwrap(), &"s".parse().unwrap());
            if let Some(last_seen) = last_seen {
                location.found(&node(last_seen), 0);
            }
            ServerSearch::new(location, candidates(&found))
        });
        Self { case, start, now: start, found, search, looked_up: start, asked: Vec::new() }
    }

    fn deadline(&self) -> Instant {
        self.start + millis(self.case.timeout)
    }

    fn plan(&mut self) -> SearchPlan {
        match &mut self.search {
            Some(search) => search.plan(|| self.case.turn, None),
            None => SearchPlan::among(self.found.len()),
        }
    }

    /// As [`Route::look_up`](crate::routing::route::Route::look_up) does it.
    fn look_up(&mut self) -> SearchPlan {
        let age = self.now - self.start;
        let (_, found) = self.case.directory.iter().rfind(|(from, _)| millis(*from) <= age).unwrap();
        match (&mut self.search, found) {
            (Some(search), Some(found)) if self.now >= self.looked_up + LOOKUP_VALID_FOR => {
                search.renew(candidates(found));
                self.looked_up = self.now;
            }
            (Some(_), _) => {}
            (None, found) => self.found = found.clone().unwrap_or_default(),
        }
        self.plan()
    }

    fn ask(&mut self, candidate: usize) -> (usize, Behaviour) {
        let node = match &mut self.search {
            Some(search) => {
                search.ask(candidate);
                search.node(candidate).unwrap().name.as_str()[1..].parse().unwrap()
            }
            None => self.found[candidate],
        };
        let before = self.asked.iter().filter(|(_, asked)| *asked == node).count();
        self.asked.push((self.now - self.start, node));
        assert!(self.asked.len() < 10_000, "it asks without end");
        let script = &self.case.nodes[node];
        (node, script[before.min(script.len() - 1)])
    }

    fn end(self, result: Result<usize, Verdict>) -> End {
        End { result, after: self.now - self.start, asked: self.asked }
    }
}

fn refused(reason: Reason) -> AskError {
    AskError::Refused(Refusal::new(reason, ""), None)
}

/// The call alone: the loop of a blocking call.
impl World for Surroundings<'_> {
    type Answer = usize;

    fn now(&self) -> Instant {
        self.now
    }

    fn ask(&mut self, now: Instant, candidate: usize, attempt: &Attempt) -> Result<usize, AskError> {
        let connect_by = attempt.connect_by(now, millis(self.case.connect_timeout));
        let (node, behaviour) = Surroundings::ask(self, candidate);
        let (connect, then) = match behaviour {
            Behaviour::NoAddress => return Err(AskError::NotReached),
            Behaviour::Takes { connect, then } if now + millis(connect) < connect_by => (connect, then),
            Behaviour::Dead | Behaviour::Takes { .. } => {
                self.now = connect_by;
                return Err(AskError::NotReached);
            }
        };
        let (after, result) = match then {
            Then::Accept { after } => (after, Ok(node)),
            Then::Refuse { after, reason } => (after, Err(refused(reason))),
            Then::Lose { after } => (after, Err(AskError::ConnectionLost)),
            Then::NoAnswer => (u64::MAX / 1_000, Err(AskError::NoAnswer)),
        };
        let answer_at = now + millis(connect) + millis(after);
        self.now = answer_at.min(attempt.answer_by());
        if answer_at < attempt.answer_by() { result } else { Err(AskError::NoAnswer) }
    }

    fn look_up(&mut self, _: Instant) -> SearchPlan {
        Surroundings::look_up(self)
    }

    fn note_server(&mut self, is_there: bool) {
        self.search.iter().for_each(|search| search.note_server(is_there));
    }

    fn pause(&mut self, until: Instant) {
        self.now = self.now.max(until);
    }
}

fn alone(case: &Case) -> End {
    let mut world = Surroundings::new(case);
    let mut attempt = Attempt::new(
        world.start,
        world.deadline(),
        case.retries,
        case.jitter,
        case.wait_for_ready,
        case.server.is_some(),
    );
    let found = world.plan();
    let result = attempts::run(&mut world, &mut attempt, found);
    world.end(result)
}

/// The call beside others: the table, and a driver of it.
struct TableRun<'a> {
    world: Surroundings<'a>,
    table: PendingTable<(), usize>,
    /// The ask that is not over, and what happens next in it, and when.
    open: Option<(usize, Instant, Event)>,
    looked_up: bool,
    result: Option<Result<usize, Verdict>>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Connected(Then),
    Answers(Tag, Then),
}

impl TableRun<'_> {
    fn perform(&mut self) {
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::ChooseLink { tag, candidate } => {
                    let (node, behaviour) = self.world.ask(candidate);
                    let link = (!matches!(behaviour, Behaviour::NoAddress)).then_some(node);
                    self.open = match behaviour {
                        Behaviour::Takes { connect, then } => {
                            Some((node, self.world.now + millis(connect), Event::Connected(then)))
                        }
                        Behaviour::NoAddress | Behaviour::Dead => None,
                    };
                    self.table.handle(self.world.now, Input::LinkChosen { tag, link });
                }
                Action::LookUp { tag } => {
                    // The sender has made the first lookup.
                    let first = !std::mem::replace(&mut self.looked_up, true);
                    let plan = if first { self.world.plan() } else { self.world.look_up() };
                    self.table.handle(self.world.now, Input::LookedUp { tag, plan });
                }
                Action::ServerFound { .. } => self.world.note_server(true),
                Action::ServerNotFound { .. } => self.world.note_server(false),
                Action::LinkUnreachable { .. } | Action::NoAnswer { .. } => self.open = None,
                Action::Cancel { .. } => {}
                Action::Inquire { .. } | Action::RecordAnswer { .. } => panic!("{action:?}"),
                Action::End { result, .. } => assert!(self.result.replace(result).is_none()),
            }
        }
    }

    fn happen(&mut self, node: usize, event: Event) {
        let now = self.world.now;
        match event {
            Event::Connected(then) => {
                let (tag, ..) = self.table.nth_to_send(node, 0).unwrap();
                self.table.handle(now, Input::Sent { tag });
                let after = match then {
                    Then::Accept { after } | Then::Refuse { after, .. } | Then::Lose { after } => after,
                    Then::NoAnswer => return,
                };
                self.open = Some((node, now + millis(after), Event::Answers(tag, then)));
            }
            Event::Answers(tag, then) => self.table.handle(
                now,
                match then {
                    Then::Accept { .. } => Input::Answered { tag, answer: node, more: false },
                    Then::Refuse { reason, .. } => {
                        Input::Refused { tag, refusal: Refusal::new(reason, ""), node: None }
                    }
                    Then::Lose { .. } | Then::NoAnswer => Input::ConnectionLost { link: node },
                },
            ),
        }
    }
}

fn beside_others(case: &Case) -> End {
    let mut world = Surroundings::new(case);
    let limits = Limits { messages: 1, bytes: 1, connect_timeout: millis(case.connect_timeout), jitter: case.jitter };
    let options = DeliveryOptions {
        deadline: world.deadline(),
        expires: world.deadline(),
        retries: case.retries,
        wait_for_ready: case.wait_for_ready,
        monitor: None,
        candidates: if case.server.is_some() { 0 } else { world.plan().candidates },
        preliminary: false,
        bytes: 1,
        server_queue: case.server.map(|_| 1),
    };
    let looked_up = case.server.is_none();
    let mut run = TableRun { world, table: PendingTable::new(limits), open: None, looked_up, result: None };
    run.table.admit(run.world.now, (), options).unwrap();
    run.perform();
    while run.result.is_none() {
        let timer = run.table.next_deadline().expect("it waits for something");
        match run.open.take_if(|(_, at, _)| *at < timer) {
            Some((node, at, event)) => {
                run.world.now = at;
                run.happen(node, event);
            }
            None => {
                run.world.now = run.world.now.max(timer);
                run.table.expire(run.world.now);
            }
        }
        run.perform();
    }
    let TableRun { world, result, .. } = run;
    world.end(result.unwrap())
}

/// The end of a call, which is the same both ways.
fn ends(case: &Case) -> End {
    let end = alone(case);
    assert_eq!(end, beside_others(case));
    end
}

fn case(nodes: Vec<Vec<Behaviour>>) -> Case {
    let directory = vec![(0, Some((0..nodes.len()).collect()))];
    Case {
        timeout: 6_000,
        retries: 0,
        jitter: 0,
        wait_for_ready: false,
        connect_timeout: 1_000,
        server: None,
        turn: 0,
        nodes,
        directory,
    }
}

fn refuses(reason: Reason) -> Vec<Behaviour> {
    vec![Behaviour::Takes { connect: 1, then: Then::Refuse { after: 1, reason } }]
}

fn asked(end: &End) -> Vec<usize> {
    end.asked.iter().map(|(_, node)| *node).collect()
}

#[test]
fn with_retries_a_dead_node_is_tried_until_the_deadline() {
    let end = ends(&Case { retries: 3, ..case(vec![vec![Behaviour::Dead]]) });
    assert_eq!((end.result, end.after), (Err(Verdict::Unreachable { candidate: 0 }), millis(6_000)));
    assert_eq!(end.asked.len(), 4);
    let end = ends(&case(vec![vec![Behaviour::Dead]]));
    assert_eq!((end.asked.len(), end.after), (1, millis(1_000)));
}

#[test]
fn all_nodes_that_refuse_are_asked_once() {
    let end = ends(&case(vec![refuses(Reason::NoRoute); 10]));
    assert_eq!(asked(&end), (0..10).collect::<Vec<_>>());
}

#[test]
fn the_refusal_with_the_highest_rank_is_reported() {
    let reported = |reasons: &[Reason]| {
        let end = ends(&case(reasons.iter().map(|reason| refuses(*reason)).collect()));
        let Err(Verdict::Refused(refusal, None)) = end.result else { panic!("{end:?}") };
        refusal.reason
    };
    assert_eq!(reported(&[Reason::ShuttingDown, Reason::NoRoute]), Reason::ShuttingDown);
    assert_eq!(reported(&[Reason::NoRoute, Reason::ShuttingDown]), Reason::ShuttingDown);
    assert_eq!(reported(&[Reason::NoRoute, Reason::Busy, Reason::ShuttingDown]), Reason::Busy);
    let end = ends(&case(vec![vec![Behaviour::NoAddress], refuses(Reason::NoRoute), vec![Behaviour::NoAddress]]));
    assert!(matches!(end.result, Err(Verdict::Refused(..))), "a refusal says more than a dead node: {end:?}");
}

#[test]
fn what_may_have_run_is_reported_rather_than_a_later_refusal() {
    let lost = Behaviour::Takes { connect: 0, then: Then::Lose { after: 0 } };
    let refused = |reason| Behaviour::Takes { connect: 0, then: Then::Refuse { after: 0, reason } };
    for (reason, lost_is_reported) in
        [(Reason::NoRoute, true), (Reason::Expired, true), (Reason::TooLarge, false), (Reason::ServerLost, false)]
    {
        let end = ends(&Case { retries: 1, ..case(vec![vec![lost, refused(reason)]]) });
        assert_eq!(matches!(end.result, Err(Verdict::ConnectionLost { .. })), lost_is_reported, "{end:?}");
    }
}

#[test]
fn a_server_that_has_moved_is_searched_for_on_all_nodes() {
    let accepts = vec![Behaviour::Takes { connect: 1, then: Then::Accept { after: 1 } }];
    let nodes = vec![refuses(Reason::NoRoute), refuses(Reason::NoRoute), accepts];
    let end = ends(&Case { server: Some(Some(0)), ..case(nodes) });
    assert_eq!((asked(&end), end.result), (vec![0, 1, 2], Ok(2)));
}

#[test]
fn a_call_that_waits_for_a_server_asks_each_node_once_in_a_round() {
    for server in [None, Some(None), Some(Some(0))] {
        let waits = Case { wait_for_ready: true, timeout: 500, server, ..case(vec![refuses(Reason::NoRoute)]) };
        let end = ends(&waits);
        assert_eq!((end.result, end.after), (Err(Verdict::NeverReady), millis(500)));
        assert_eq!(end.asked.len(), 3);
    }
}

#[test]
fn a_late_refusal_does_not_begin_the_search_again() {
    let late = vec![Behaviour::Takes { connect: 1, then: Then::Refuse { after: 300, reason: Reason::NoRoute } }];
    let end = ends(&Case { server: Some(None), ..case(vec![late; 3]) });
    assert_eq!(asked(&end), [0, 1, 2]);
}

#[test]
fn many_retries_leave_each_attempt_enough_time() {
    // Without retries this call succeeds, so it succeeds with any number of them.
    let slow = Behaviour::Takes { connect: 20, then: Then::Accept { after: 25 } };
    for (timeout, retries) in [(1_000, 10_000), (1_000, u32::MAX), (60, 10_000), (60_000, 1_000_000)] {
        for jitter in [0, u8::MAX] {
            let end = ends(&Case { timeout, retries, jitter, ..case(vec![vec![slow]]) });
            assert!(end.result.is_ok(), "{timeout} ms, {retries} retries, jitter {jitter}: {end:?}");
            assert!(end.asked.len() <= 2, "{end:?}");
        }
    }
    let dead = ends(&Case { timeout: 60_000, retries: u32::MAX, ..case(vec![vec![Behaviour::Dead]]) });
    assert!(dead.asked.len() <= 70, "{dead:?}");
}

#[test]
fn retries_of_a_request_that_is_lost_at_once_grow_apart() {
    let lost = |then| vec![Behaviour::Takes { connect: 0, then }];
    let server_lost = lost(Then::Refuse { after: 0, reason: Reason::ServerLost });
    for server in [None, Some(Some(0))] {
        for node in [server_lost.clone(), lost(Then::Lose { after: 0 })] {
            let end = ends(&Case { timeout: 1_000, retries: 10_000, server, ..case(vec![node; 2]) });
            assert!((6..30).contains(&end.asked.len()), "{end:?}");
            let distances: Vec<_> = end.asked.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
            assert!(distances.iter().skip(2).take(4).all(|distance| *distance >= millis(10)), "{end:?}");
        }
    }
    // Clients with other jitters ask at other times.
    let with = |jitter| ends(&Case { timeout: 1_000, retries: 5, jitter, ..case(vec![server_lost.clone()]) }).asked;
    assert_ne!(with(0)[1], with(255)[1]);
    assert!(with(255)[1].0 >= millis(5));
}

#[cfg(feature = "proptest")]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::attempt::ANSWER_GRACE;

    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0_u64..20, 2 => 0_u64..600, 1 => 0_u64..9_000]
    }

    fn behaviour() -> impl Strategy<Value = Behaviour> {
        let then = prop_oneof![
            1 => delay().prop_map(|after| Then::Accept { after }),
            6 => (delay(), prop::sample::select(&Reason::ALL[..]))
                .prop_map(|(after, reason)| Then::Refuse { after, reason }),
            1 => delay().prop_map(|after| Then::Lose { after }),
            1 => Just(Then::NoAnswer),
        ];
        prop_oneof![
            1 => Just(Behaviour::NoAddress),
            1 => Just(Behaviour::Dead),
            8 => (delay(), then).prop_map(|(connect, then)| Behaviour::Takes { connect, then }),
        ]
    }

    fn any_case() -> impl Strategy<Value = Case> {
        (1_usize..6).prop_flat_map(|count| {
            let some = prop::sample::subsequence((0..count).collect::<Vec<_>>(), 0..=count).prop_shuffle();
            let all = Just((0..count).collect::<Vec<_>>());
            let found = prop_oneof![3 => all.clone().prop_map(Some), 2 => some.prop_map(Some), 1 => Just(None)];
            let changes = prop::collection::vec((1_u64..5_000, found.clone()), 0..4);
            (
                (1_u64..9_000, prop_oneof![9 => 0_u32..5, 1 => any::<u32>()], any::<u8>(), any::<bool>(), 1_u64..2_500),
                (prop::option::of(prop::option::of(0..count)), 0_usize..8),
                prop::collection::vec(prop::collection::vec(behaviour(), 1..5), count),
                (found, changes),
            )
                .prop_map(|(options, (server, turn), nodes, (mut first, mut directory))| {
                    let (timeout, retries, jitter, wait_for_ready, connect_timeout) = options;
                    directory.sort_by_key(|(from, _)| *from);
                    // A failed lookup is reported at once, unless the call waits.
                    if !wait_for_ready {
                        first.get_or_insert_default();
                    }
                    directory.insert(0, (0, first));
                    Case { timeout, retries, jitter, wait_for_ready, connect_timeout, server, turn, nodes, directory }
                })
        })
    }

    proptest! {
        #[test]
        fn a_call_ends_in_the_same_way_alone_and_beside_others(case in any_case()) {
            let (alone, beside_others) = (alone(&case), beside_others(&case));
            prop_assert!(alone.after <= millis(case.timeout) + ANSWER_GRACE);
            prop_assert_eq!(alone, beside_others);
        }
    }
}
