use std::time::Duration;

use zmqv2_proto::{Reason, Refusal};

use super::*;
use crate::delivery::attempt::{ANSWER_GRACE, LOOKUP_INTERVAL, RETRY_PAUSE};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

type Table = PendingTable<&'static str, &'static str>;

fn table() -> Table {
    PendingTable::new(Limits { messages: 3, bytes: 100, connect_timeout: SECOND, jitter: 0 })
}

fn start() -> Instant {
    crate::clock::now()
}

fn options(now: Instant, candidates: usize) -> DeliveryOptions {
    DeliveryOptions {
        deadline: now + 10 * SECOND,
        expires: now + 20 * SECOND,
        retries: 0,
        wait_for_ready: false,
        monitor: None,
        candidates,
        preliminary: false,
        bytes: 10,
        server_queue: None,
    }
}

fn refusal(reason: Reason) -> Refusal {
    Refusal::new(reason, "")
}

impl Table {
    /// Answers every question for a link: candidate k is reached over link k.
    fn route(&mut self, now: Instant) -> Option<(&'static str, Result<&'static str, Verdict>)> {
        let mut ended = None;
        while let Some(action) = self.poll_action() {
            match action {
                Action::ChooseLink { tag, candidate } => {
                    self.handle(now, Input::LinkChosen { tag, link: Some(candidate) });
                }
                Action::End { message, result, .. } => assert!(ended.replace((message, result)).is_none()),
                Action::LinkUnreachable { .. } | Action::NoAnswer { .. } | Action::Cancel { .. } => {}
                Action::ServerFound { .. } | Action::ServerNotFound { .. } => panic!("a message in no server queue"),
                Action::Inquire { .. } => panic!("a message that is not monitored"),
                Action::RecordAnswer { .. } => panic!("an answer that is not the last one"),
                Action::LookUp { tag } => self.handle(now, Input::LookedUp { tag, plan: SearchPlan::among(0) }),
            }
        }
        ended
    }

    /// Sends the next message of a link.
    fn send(&mut self, now: Instant, link: LinkId) -> Option<Tag> {
        let (tag, ..) = self.nth_to_send(link, 0)?;
        self.handle(now, Input::Sent { tag });
        Some(tag)
    }

    fn pass(&mut self, now: Instant) -> Option<(&'static str, Result<&'static str, Verdict>)> {
        self.expire(now);
        self.route(now)
    }
}

#[test]
fn a_message_goes_out_in_order_and_ends_with_its_answer() {
    let (now, mut table) = (start(), table());
    for name in ["a", "b"] {
        table.admit(now, name, options(now, 1)).unwrap();
        assert_eq!(table.route(now), None);
    }
    let a = table.send(now, 0).unwrap();
    let b = table.send(now, 0).unwrap();
    assert_eq!((table.message(a), table.message(b)), (Some(&"a"), Some(&"b")));
    assert_eq!(table.send(now, 0), None);
    assert!(!table.is_idle(0));
    table.handle(now, Input::Answered { tag: b, answer: "yes", more: false });
    assert_eq!(table.route(now), Some(("b", Ok("yes"))));
    assert_eq!(table.timers.len(), 1, "an ended message leaves no timer behind");
    table.handle(now, Input::Answered { tag: b, answer: "again", more: false });
    assert_eq!(table.route(now), None);
    // The slot is used again, and the old tag does not match.
    table.admit(now, "c", options(now, 1)).unwrap();
    table.route(now);
    let c = table.send(now, 0).unwrap();
    assert_eq!(c.slot(), b.slot());
    table.handle(now, Input::Answered { tag: b, answer: "late", more: false });
    assert_eq!(table.route(now), None);
    table.handle(now, Input::Answered { tag: c, answer: "yes", more: false });
    assert_eq!(table.route(now), Some(("c", Ok("yes"))));
    // The other one gets no answer.
    let end = now + 10 * SECOND + ANSWER_GRACE;
    assert_eq!(table.pass(end - MILLI), None);
    assert_eq!(table.pass(end), Some(("a", Err(Verdict::NoAnswer { candidate: 0 }))));
    assert_eq!((table.open(), table.bytes(), table.next_deadline()), (0, 0, None));
    assert!(table.is_idle(0));
}

#[test]
fn an_answer_to_a_message_that_was_never_sent_is_ignored() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 1)).unwrap();
    table.route(now);
    table.handle(now, Input::Answered { tag: Tag::new(0, 0, 1), answer: "forged", more: false });
    assert_eq!((table.route(now), table.open()), (None, 1));
}

#[test]
fn the_bounds_hold() {
    let (now, mut table) = (start(), table());
    let sized = |bytes| DeliveryOptions { bytes, ..options(now, 1) };
    table.admit(now, "giant", sized(500)).unwrap();
    assert_eq!(table.admit(now, "more", sized(1)), Err("more"));
    table.handle(now, Input::Close);
    assert_eq!(table.route(now), Some(("giant", Err(Verdict::Closed { sent: false }))));
    for name in ["a", "b", "c"] {
        table.admit(now, name, sized(30)).unwrap();
    }
    assert_eq!(table.admit(now, "d", sized(1)), Err("d"));
}

#[test]
fn a_candidate_that_is_not_connected_in_time_is_skipped() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 2)).unwrap();
    table.route(now);
    assert_eq!(table.pass(now + SECOND), None);
    assert_eq!(table.send(now + SECOND, 0), None);
    let tag = table.send(now + SECOND, 1).unwrap();
    table.handle(now, Input::ConnectionLost { link: 0 });
    assert_eq!(table.route(now), None, "it is not there any more");
    table.handle(now, Input::Answered { tag, answer: "yes", more: false });
    assert_eq!(table.route(now), Some(("a", Ok("yes"))));

    table.admit(now, "b", options(now, 2)).unwrap();
    table.route(now);
    assert_eq!(table.pass(now + SECOND), None);
    assert_eq!(table.pass(now + 2 * SECOND), Some(("b", Err(Verdict::Unreachable { candidate: 1 }))));
}

#[test]
fn a_short_message_leaves_time_for_the_last_candidate() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { deadline: now + 400 * MILLI, ..options(now, 2) }).unwrap();
    table.route(now);
    assert_eq!(table.pass(now + 200 * MILLI), None);
    assert!(table.nth_to_send(1, 0).is_some());
}

#[test]
fn a_refused_message_tries_the_next_candidate_and_ends_with_busy() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 2)).unwrap();
    table.route(now);
    for (link, reason) in [(0, Reason::Busy), (1, Reason::NoRoute)] {
        let tag = table.send(now, link).unwrap();
        table.handle(now, Input::Refused { tag, refusal: refusal(reason), node: None });
        if link == 0 {
            assert_eq!(table.route(now), None);
            // A second refusal is late and does not count.
            table.handle(now, Input::Refused { tag, refusal: refusal(Reason::Expired), node: None });
        }
    }
    assert_eq!(table.route(now), Some(("a", Err(Verdict::Refused(refusal(Reason::Busy), None)))));

    for reason in [Reason::Expired, Reason::ServerLost, Reason::TooLarge] {
        table.admit(now, "b", options(now, 2)).unwrap();
        table.route(now);
        let tag = table.send(now, 0).unwrap();
        table.handle(now, Input::Refused { tag, refusal: refusal(reason), node: None });
        assert_eq!(table.route(now), Some(("b", Err(Verdict::Refused(refusal(reason), None)))), "{reason}");
    }
}

#[test]
fn a_lost_connection_ends_it_or_is_retried_with_the_next_candidate() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 2)).unwrap();
    table.admit(now, "b", DeliveryOptions { retries: 1, ..options(now, 2) }).unwrap();
    table.route(now);
    let _ = (table.send(now, 0), table.send(now, 0));
    table.handle(now, Input::ConnectionLost { link: 0 });
    assert_eq!(table.route(now), Some(("a", Err(Verdict::ConnectionLost { candidate: 0 }))));
    let again = table.send(now, 1).unwrap();
    assert_eq!(table.message(again), Some(&"b"));
    table.handle(now, Input::ConnectionLost { link: 1 });
    assert_eq!(table.route(now), Some(("b", Err(Verdict::ConnectionLost { candidate: 1 }))));
}

#[test]
fn an_attempt_has_its_share_of_the_time_and_any_answer_counts() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { retries: 1, ..options(now, 1) }).unwrap();
    table.route(now);
    let first = table.send(now, 0).unwrap();
    assert_eq!(table.pass(now + 5 * SECOND - MILLI), None);
    assert_eq!(table.send(now, 0), None);
    assert_eq!(table.pass(now + 5 * SECOND), None);
    let second = table.send(now + 5 * SECOND, 0).unwrap();
    assert_ne!(first, second);
    // A refusal of the first attempt says nothing about the second. Its acceptance counts.
    table.handle(now, Input::Refused { tag: first, refusal: refusal(Reason::Expired), node: None });
    assert_eq!(table.route(now), None);
    table.handle(now, Input::Answered { tag: first, answer: "yes", more: false });
    assert_eq!(table.route(now), Some(("a", Ok("yes"))));
}

#[test]
fn a_message_that_may_have_run_is_never_reported_as_not_run() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { retries: 1, ..options(now, 1) }).unwrap();
    table.route(now);
    table.send(now, 0).unwrap();
    table.handle(now, Input::ConnectionLost { link: 0 });
    table.route(now);
    let tag = table.send(now, 0).unwrap();
    table.handle(now, Input::Refused { tag, refusal: refusal(Reason::NoRoute), node: None });
    assert_eq!(table.route(now), Some(("a", Err(Verdict::ConnectionLost { candidate: 0 }))));
}

#[test]
fn with_retries_left_a_round_without_a_taker_is_followed_by_a_pause() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { retries: 2, ..options(now, 1) }).unwrap();
    table.route(now);
    let tag = table.send(now, 0).unwrap();
    table.handle(now, Input::Refused { tag, refusal: refusal(Reason::ServerLost), node: None });
    assert_eq!((table.route(now), table.send(now, 0)), (None, None), "it is not sent again at once");
    let now = now + 10 * MILLI;
    assert_eq!(table.pass(now), None);
    let tag = table.send(now, 0).unwrap();
    table.handle(now, Input::Refused { tag, refusal: refusal(Reason::NoRoute), node: None });
    assert_eq!((table.route(now), table.send(now, 0)), (None, None));
    assert_eq!(table.pass(now + RETRY_PAUSE), None);
    let tag = table.send(now, 0).unwrap();
    table.handle(now, Input::Refused { tag, refusal: refusal(Reason::NoRoute), node: None });
    assert_eq!(table.route(now), Some(("a", Err(Verdict::Refused(refusal(Reason::ServerLost), None)))));
}

#[test]
fn without_candidates_it_ends_or_waits_for_some() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 0)).unwrap();
    assert_eq!(table.route(now), Some(("a", Err(Verdict::NoCandidate))));
    table.admit(now, "b", DeliveryOptions { wait_for_ready: true, ..options(now, 0) }).unwrap();
    assert_eq!(table.pass(now + LOOKUP_INTERVAL), None);
    table.expire(now + 2 * LOOKUP_INTERVAL);
    let Some(Action::LookUp { tag }) = table.poll_action() else { panic!() };
    table.handle(now, Input::LookedUp { tag, plan: SearchPlan::among(1) });
    table.route(now);
    assert!(table.nth_to_send(0, 0).is_some());
    // The link never connects: the directory is asked again, until the time is over.
    let mut at = now;
    let ended = loop {
        at += 100 * MILLI;
        if let Some(ended) = table.pass(at) {
            break ended;
        }
    };
    assert_eq!(ended, ("b", Err(Verdict::NeverReady)));
    assert!(at <= now + 10 * SECOND);
}

#[test]
fn messages_queued_on_a_closed_link_choose_another_one() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 1)).unwrap();
    table.route(now);
    table.handle(now, Input::LinkClosed { link: 0 });
    let Some(Action::ChooseLink { tag, candidate: 0 }) = table.poll_action() else { panic!() };
    assert!(table.is_idle(0));
    table.handle(now, Input::LinkChosen { tag, link: Some(7) });
    assert!(table.nth_to_send(0, 0).is_none() && table.nth_to_send(7, 0).is_some());
    table.handle(now, Input::LinkClosed { link: 7 });
    let Some(Action::ChooseLink { tag, .. }) = table.poll_action() else { panic!() };
    table.handle(now, Input::LinkChosen { tag, link: None });
    assert_eq!(table.route(now), Some(("a", Err(Verdict::Unreachable { candidate: 0 }))));
}

#[test]
fn several_answers_are_recorded_and_the_last_one_ends_the_message() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { retries: 1, ..options(now, 1) }).unwrap();
    table.route(now);
    let tag = table.send(now, 0).unwrap();
    let recorded = |table: &mut Table, tag, answer| {
        table.handle(now, Input::Answered { tag, answer, more: true });
        assert!(
            matches!(table.poll_action(), Some(Action::RecordAnswer { tag: at, answer: of }) if at == tag && of == answer)
        );
        assert_eq!(table.route(now), None);
    };
    recorded(&mut table, tag, "one");
    // The missing answers are asked for again. Answers to both sends count until one is complete.
    table.handle(now, Input::ConnectionLost { link: 0 });
    assert_eq!(table.route(now), None);
    let again = table.send(now, 0).unwrap();
    recorded(&mut table, again, "one");
    recorded(&mut table, tag, "late");
    table.handle(now, Input::Answered { tag: again, answer: "last", more: false });
    assert_eq!(table.route(now), Some(("a", Ok("last"))));
    table.handle(now, Input::Answered { tag, answer: "later", more: true });
    assert_eq!((table.route(now), table.open()), (None, 0));
}

#[test]
fn incomplete_answers_end_as_no_answer() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 1)).unwrap();
    table.route(now);
    let tag = table.send(now, 0).unwrap();
    let later = now + 9 * SECOND;
    table.handle(later, Input::Answered { tag, answer: "one", more: true });
    assert!(matches!(table.poll_action(), Some(Action::RecordAnswer { .. })));
    let end = now + 10 * SECOND + ANSWER_GRACE;
    assert_eq!(table.pass(end - MILLI), None, "it buys no time");
    assert_eq!(table.pass(end), Some(("a", Err(Verdict::NoAnswer { candidate: 0 }))));
}

#[test]
fn messages_of_one_group_are_admitted_beyond_the_limit() {
    let (now, mut table) = (start(), table());
    for name in ["a", "b", "c"] {
        table.admit(now, name, options(now, 1)).unwrap();
    }
    assert_eq!(table.admit(now, "d", options(now, 1)), Err("d"));
    table.admit_beyond_limits(now, "e", options(now, 1));
    assert_eq!((table.open(), table.route(now)), (4, None));
}

#[test]
fn the_wire_carries_the_time_to_live_and_not_the_timeout() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", options(now, 1)).unwrap();
    table.route(now);
    let (_, expires, _) = table.nth_to_send(0, 0).unwrap();
    assert_eq!(expires, now + 20 * SECOND);
}

#[test]
fn a_monitored_message_lives_while_its_broker_says_that_it_is_in_flight() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { monitor: Some(2 * SECOND), ..options(now, 1) }).unwrap();
    table.route(now);
    // Before it is sent, no broker could know it.
    table.expire(now + SECOND / 2);
    assert!(table.poll_action().is_none());
    let sent = now + SECOND / 2;
    let tag = table.send(sent, 0).unwrap();
    assert_eq!(table.pass(sent + SECOND - MILLI), None);
    for second in 1..=3 {
        let at = sent + second * SECOND;
        table.expire(at);
        assert!(matches!(table.poll_action(), Some(Action::Inquire { tag: of, link: 0 }) if of == tag));
        assert!(table.poll_action().is_none());
        assert!(!table.is_idle(0));
        table.handle(at, Input::InFlight { tag, silence: Duration::ZERO, node: None });
        assert_eq!(table.pass(at), None);
    }
    let asked = sent + 4 * SECOND;
    table.expire(asked);
    assert!(matches!(table.poll_action(), Some(Action::Inquire { .. })));
    assert_eq!(table.pass(asked + SECOND - MILLI), None);
    assert_eq!(table.pass(asked + SECOND), Some(("a", Err(Verdict::NoAnswer { candidate: 0 }))));
    table.handle(asked + SECOND, Input::InFlight { tag, silence: Duration::ZERO, node: None });
    assert_eq!((table.route(asked + SECOND), table.next_deadline()), (None, None));
}

#[test]
fn a_broker_that_does_not_know_a_monitored_message_lost_it_and_a_retry_is_monitored_again() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { monitor: Some(2 * SECOND), retries: 1, ..options(now, 1) }).unwrap();
    table.route(now);
    let first = table.send(now, 0).unwrap();
    table.expire(now + SECOND);
    assert!(matches!(table.poll_action(), Some(Action::Inquire { .. })));
    let at = now + SECOND;
    table.handle(at, Input::Refused { tag: first, refusal: refusal(Reason::ServerLost), node: None });
    assert_eq!(table.route(at), None);
    let second = table.send(at, 0).unwrap();
    assert_eq!(table.pass(at + SECOND - MILLI), None);
    table.expire(at + SECOND);
    assert!(matches!(table.poll_action(), Some(Action::Inquire { tag, .. }) if tag == second));
    // An answer about the first attempt says nothing about this one.
    table.handle(at + SECOND, Input::InFlight { tag: first, silence: Duration::ZERO, node: None });
    assert_eq!(table.pass(at + 2 * SECOND), Some(("a", Err(Verdict::NoAnswer { candidate: 0 }))));
}

#[test]
fn a_monitored_message_ends_at_its_deadline_even_if_in_flight() {
    let (now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { monitor: Some(30 * SECOND), ..options(now, 1) }).unwrap();
    table.route(now);
    let tag = table.send(now, 0).unwrap();
    table.handle(now + 9 * SECOND, Input::InFlight { tag, silence: Duration::ZERO, node: None });
    assert_eq!(table.pass(now + 10 * SECOND + ANSWER_GRACE), Some(("a", Err(Verdict::NoAnswer { candidate: 0 }))));
}

#[test]
fn a_refusal_is_not_the_end_of_a_retried_message_while_another_candidate_could_not_be_asked() {
    let (mut now, mut table) = (start(), table());
    table.admit(now, "a", DeliveryOptions { retries: 1, ..options(now, 2) }).unwrap();
    table.route(now);
    // The first node is not connected in time, and the second has no such server.
    now += SECOND;
    assert_eq!(table.pass(now), None);
    let tag = table.send(now, 1).unwrap();
    table.handle(now, Input::Refused { tag, refusal: refusal(Reason::NoRoute), node: None });
    assert_eq!(table.route(now), None);
    // The next attempt finds the first node connected.
    now += RETRY_PAUSE;
    assert_eq!(table.pass(now), None);
    let tag = table.send(now, 0).unwrap();
    table.handle(now, Input::Answered { tag, answer: "yes", more: false });
    assert_eq!(table.route(now), Some(("a", Ok("yes"))));
}
