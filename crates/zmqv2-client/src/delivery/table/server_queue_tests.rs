use std::time::Duration;

use zmqv2_proto::{Reason, Refusal};

use super::server_queue::REFUSAL_WITHIN;
use super::*;
use crate::delivery::attempt::{ANSWER_GRACE, LOOKUP_INTERVAL};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const S: QueueId = 7;

type Ended = Vec<(&'static str, Result<usize, Verdict>)>;

/// A table for one server, which is at one of the candidates. Candidate k is reached over link k.
struct World {
    now: Instant,
    table: PendingTable<&'static str, usize>,
    candidates: usize,
    /// The node that the driver remembers.
    known: Option<usize>,
    /// The node that each message asked last.
    asked: HashMap<&'static str, usize>,
    ended: Ended,
}

fn world(candidates: usize) -> World {
    let limits = Limits { messages: 100, bytes: 10_000, connect_timeout: SECOND, jitter: 0 };
    World {
        now: crate::clock::now(),
        table: PendingTable::new(limits),
        candidates,
        known: None,
        asked: HashMap::new(),
        ended: Vec::new(),
    }
}

impl World {
    fn options(&self) -> DeliveryOptions {
        DeliveryOptions {
            deadline: self.now + 10 * SECOND,
            expires: self.now + 10 * SECOND,
            retries: 0,
            wait_for_ready: false,
            monitor: None,
            candidates: 0,
            preliminary: false,
            bytes: 1,
            server_queue: Some(S),
        }
    }

    fn admit(&mut self, names: &[&'static str]) {
        for name in names {
            self.admit_with(name, self.options());
        }
    }

    fn admit_with(&mut self, name: &'static str, options: DeliveryOptions) {
        self.table.admit(self.now, name, options).unwrap();
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::ChooseLink { tag, candidate } => {
                    let name = *self.table.message(tag).unwrap();
                    // A plan with a known node has one candidate.
                    let link = self.known.filter(|_| candidate == 0).unwrap_or(candidate);
                    self.asked.insert(name, link);
                    self.table.handle(self.now, Input::LinkChosen { tag, link: Some(link) });
                }
                Action::LookUp { tag } => {
                    let plan = match self.known {
                        Some(_) => {
                            SearchPlan { known: true, has_alternatives: self.candidates > 1, ..SearchPlan::among(1) }
                        }
                        None if self.candidates == 1 => SearchPlan { known: true, ..SearchPlan::among(1) },
                        None => SearchPlan::among(self.candidates),
                    };
                    self.table.handle(self.now, Input::LookedUp { tag, plan });
                }
                Action::ServerFound { tag } => {
                    self.known = self.table.message(tag).and_then(|name| self.asked.get(name).copied());
                }
                Action::ServerNotFound { tag } => {
                    let at = self.table.message(tag).and_then(|name| self.asked.get(name).copied());
                    self.known = self.known.filter(|known| Some(*known) != at);
                }
                Action::End { message, result, .. } => {
                    if let Ok(link) = result {
                        self.known = Some(link);
                    }
                    self.ended.push((message, result));
                }
                Action::LinkUnreachable { .. } | Action::NoAnswer { .. } | Action::Cancel { .. } => {}
                Action::Inquire { .. } | Action::RecordAnswer { .. } => panic!("{action:?}"),
            }
        }
    }

    /// Sends all messages of a link. Returns their names and tags.
    fn flush(&mut self, link: LinkId) -> Vec<(&'static str, Tag)> {
        let mut sent = Vec::new();
        while let Some((tag, _, name)) = self.table.nth_to_send(link, 0) {
            sent.push((*name, tag));
            self.table.handle(self.now, Input::Sent { tag });
            self.perform();
        }
        sent
    }

    /// Sends all messages of a link, which are these.
    fn sends(&mut self, link: LinkId, names: &[&str]) -> Vec<Tag> {
        let sent = self.flush(link);
        assert_eq!(sent.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "over link {link}");
        sent.into_iter().map(|(_, tag)| tag).collect()
    }

    fn refuse(&mut self, tag: Tag, reason: Reason) {
        self.table.handle(self.now, Input::Refused { tag, refusal: Refusal::new(reason, ""), node: None });
        self.perform();
    }

    fn accept(&mut self, tag: Tag, link: LinkId) {
        self.table.handle(self.now, Input::Answered { tag, answer: link, more: false });
        self.perform();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.table.expire(self.now);
        self.perform();
    }

    fn ends(&mut self, names: &[&str]) -> Vec<Result<usize, Verdict>> {
        assert_eq!(self.ended.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        self.ended.drain(..).map(|(_, ending)| ending).collect()
    }
}

fn no_route() -> Result<usize, Verdict> {
    Err(Verdict::Refused(Refusal::new(Reason::NoRoute, ""), None))
}

#[test]
fn one_searches_and_the_others_follow_in_their_order() {
    let mut world = world(3);
    world.admit(&["a", "b", "c"]);
    for link in [0, 1] {
        let tags = world.sends(link, &["a"]);
        assert!((0..3).all(|other| world.table.nth_to_send(other, 0).is_none()), "the others wait");
        world.refuse(tags[0], Reason::NoRoute);
    }
    let tags = world.sends(2, &["a"]);
    world.accept(tags[0], 2);
    world.admit(&["d"]);
    let tags = world.sends(2, &["b", "c", "d"]);
    for tag in tags {
        world.accept(tag, 2);
    }
    world.ends(&["a", "b", "c", "d"]);
    assert!(world.table.server_queues.is_empty() && world.table.next_deadline().is_none());
}

#[test]
fn another_queue_is_not_held_up() {
    let mut world = world(2);
    world.admit(&["a", "b"]);
    world.admit_with("of another", DeliveryOptions { server_queue: Some(S + 1), ..world.options() });
    world.admit_with("of none", DeliveryOptions { server_queue: None, candidates: 1, ..world.options() });
    world.sends(0, &["a", "of another", "of none"]);
}

#[test]
fn messages_that_waited_behind_a_failed_search_end_like_it() {
    let mut world = world(2);
    world.admit(&["a", "b"]);
    world.admit_with("patient", DeliveryOptions { wait_for_ready: true, ..world.options() });
    for link in [0, 1] {
        let tags = world.sends(link, &["a"]);
        world.refuse(tags[0], Reason::NoRoute);
    }
    assert_eq!(world.ends(&["b", "a"]), [no_route(), no_route()]);
    // The patient message searches on. A new message waits for the end of its round.
    let tags = world.sends(0, &["patient"]);
    world.refuse(tags[0], Reason::NoRoute);
    let tags = world.sends(1, &["patient"]);
    world.refuse(tags[0], Reason::NoRoute);
    world.admit(&["c"]);
    assert!(world.flush(0).is_empty() && world.ended.is_empty());
    world.pass(LOOKUP_INTERVAL);
    let tags = world.sends(0, &["patient"]);
    world.accept(tags[0], 0);
    world.sends(0, &["c"]);
}

#[test]
fn messages_behind_an_unreachable_server_end_together() {
    let mut world = world(2);
    world.admit(&["a", "b", "c"]);
    world.pass(SECOND);
    world.pass(SECOND);
    let endings = world.ends(&["b", "c", "a"]);
    assert!(endings.iter().all(|ending| *ending == Err(Verdict::Unreachable { candidate: 1 })), "{endings:?}");
}

#[test]
fn when_the_searching_message_ends_the_next_one_searches() {
    let mut world = world(2);
    world.admit_with("short", DeliveryOptions { deadline: world.now + 100 * MILLI, ..world.options() });
    world.admit(&["a", "b"]);
    world.sends(0, &["short"]);
    world.pass(100 * MILLI + ANSWER_GRACE);
    assert_eq!(world.ends(&["short"]), [Err(Verdict::NoAnswer { candidate: 0 })]);
    let tags = world.sends(0, &["a"]);
    world.refuse(tags[0], Reason::Expired);
    world.ends(&["a"]);
    world.sends(0, &["b"]);
    world.table.handle(world.now, Input::Close);
    world.perform();
    assert_eq!(world.ends(&["b"]), [Err(Verdict::Closed { sent: true })]);
}

#[test]
fn a_waiting_message_ends_at_its_deadline() {
    let mut world = world(2);
    world.admit(&["a"]);
    world.admit_with("held", DeliveryOptions { deadline: world.now + 100 * MILLI, ..world.options() });
    world.pass(100 * MILLI);
    assert_eq!(world.ends(&["held"]), [Err(Verdict::Unreachable { candidate: 0 })]);
    assert_eq!(world.table.open(), 1);
}

#[test]
fn a_candidate_that_does_not_refuse_in_time_has_the_server() {
    let mut world = world(2);
    world.admit(&["long call", "b", "c"]);
    let call = world.sends(0, &["long call"])[0];
    world.pass(REFUSAL_WITHIN - MILLI);
    assert!(world.flush(0).is_empty());
    world.pass(MILLI);
    let tags = world.sends(0, &["b", "c"]);
    // It was the wrong node. No message is lost, and the order stays.
    for tag in [call, tags[0], tags[1]] {
        world.refuse(tag, Reason::NoRoute);
    }
    let other = usize::from(world.table.nth_to_send(0, 0).is_none());
    let tags = world.sends(other, &["long call"]);
    world.accept(tags[0], other);
    world.sends(other, &["b", "c"]);
}

#[test]
fn a_later_message_follows_a_call_that_was_not_refused() {
    let mut world = world(2);
    world.admit(&["long call"]);
    let call = world.sends(0, &["long call"])[0];
    world.pass(REFUSAL_WITHIN);
    assert_eq!(world.known, None, "nobody waits, so nothing is assumed");
    world.admit(&["b"]);
    world.sends(0, &["b"]);
    world.accept(call, 0);
    world.ends(&["long call"]);
}

#[test]
fn when_the_server_has_moved_all_messages_follow_in_order() {
    let mut world = world(2);
    world.known = Some(1);
    world.admit(&["a", "b", "c"]);
    let old = world.sends(1, &["a", "b", "c"]);
    world.admit(&["queued"]);
    world.refuse(old[0], Reason::NoRoute);
    assert_eq!(world.known, None);
    world.admit(&["new"]);
    assert!(world.flush(0).is_empty() && world.flush(1).is_empty(), "until all that were sent are back");
    world.refuse(old[1], Reason::NoRoute);
    world.refuse(old[2], Reason::NoRoute);
    let a = world.sends(0, &["a"]);
    world.accept(a[0], 0);
    world.sends(0, &["b", "c", "queued", "new"]);
}

#[test]
fn messages_on_the_old_route_are_waited_for_only_briefly() {
    let mut world = world(2);
    world.known = Some(1);
    world.admit(&["long call", "a"]);
    let old = world.sends(1, &["long call", "a"]);
    world.refuse(old[1], Reason::NoRoute);
    world.pass(REFUSAL_WITHIN - MILLI);
    assert!(world.flush(0).is_empty());
    world.pass(MILLI);
    let a = world.sends(0, &["a"]);
    world.accept(a[0], 0);
    world.accept(old[0], 1);
    world.ends(&["a", "long call"]);
}

#[test]
fn a_server_found_by_a_blocking_call_lets_no_message_overtake() {
    let mut world = world(2);
    world.known = Some(0);
    world.admit(&["a"]);
    let a = world.sends(0, &["a"]);
    world.admit(&["b"]);
    // A blocking call has found it elsewhere.
    world.known = Some(1);
    world.admit(&["c"]);
    assert!(world.flush(0).is_empty() && world.flush(1).is_empty());
    world.refuse(a[0], Reason::NoRoute);
    world.sends(1, &["a", "b", "c"]);
}

#[test]
fn a_busy_server_is_not_looked_for_elsewhere() {
    let mut world = world(3);
    world.known = Some(1);
    world.admit(&["a"]);
    let a = world.sends(1, &["a"]);
    world.refuse(a[0], Reason::Busy);
    assert!(matches!(&world.ends(&["a"])[..], [Err(Verdict::Refused(refusal, _))] if refusal.reason == Reason::Busy));
    assert_eq!(world.known, Some(1));
}

#[test]
fn the_only_node_is_asked_once_and_no_message_waits() {
    let mut world = world(1);
    world.admit(&["a", "b"]);
    for tag in world.sends(0, &["a", "b"]) {
        world.refuse(tag, Reason::NoRoute);
    }
    assert_eq!(world.ends(&["a", "b"]), [no_route(), no_route()]);
}

#[test]
fn retries_after_a_lost_connection_keep_their_order_and_go_first() {
    let mut world = world(2);
    world.known = Some(0);
    for name in ["a", "b"] {
        world.admit_with(name, DeliveryOptions { retries: 1, ..world.options() });
    }
    world.sends(0, &["a", "b"]);
    world.admit(&["c"]);
    world.table.handle(world.now, Input::ConnectionLost { link: 0 });
    world.perform();
    let link = usize::from(world.table.nth_to_send(0, 0).is_none());
    let a = world.sends(link, &["a"]);
    world.accept(a[0], link);
    world.sends(link, &["b", "c"]);
}
