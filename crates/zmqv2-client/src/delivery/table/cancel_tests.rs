//! Which brokers learn that nobody waits for their answers any more.

use std::time::Duration;

use zmqv2_proto::{Reason, Refusal};

use super::*;
use crate::delivery::attempt::ANSWER_GRACE;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    table: PendingTable<(), ()>,
    now: Instant,
    /// The links over which the message was cancelled.
    cancelled: Vec<LinkId>,
    result: Option<Result<(), Verdict>>,
}

impl World {
    /// One message for 10 s, sent to candidate 0.
    fn start(retries: u32, candidates: usize) -> (Self, Tag) {
        let now = crate::clock::now();
        let limits = Limits { messages: 1, bytes: 1, connect_timeout: SECOND, jitter: 0 };
        let mut world = Self { table: PendingTable::new(limits), now, cancelled: Vec::new(), result: None };
        let options = DeliveryOptions { retries, candidates, ..DeliveryOptions::new(now + 10 * SECOND) };
        world.table.admit(now, (), options).unwrap();
        world.perform();
        let tag = world.send(0).unwrap();
        (world, tag)
    }

    /// Candidate k is reached over link k.
    fn perform(&mut self) {
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::ChooseLink { tag, candidate } => {
                    self.table.handle(self.now, Input::LinkChosen { tag, link: Some(candidate) });
                }
                Action::LookUp { tag } => {
                    self.table.handle(self.now, Input::LookedUp { tag, plan: SearchPlan::among(1) });
                }
                Action::Cancel { link, .. } => self.cancelled.push(link),
                Action::End { result, cancel, .. } => {
                    self.cancelled.extend(cancel);
                    self.result = Some(result);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, link: LinkId) -> Option<Tag> {
        let (tag, ..) = self.table.nth_to_send(link, 0)?;
        self.handle(Input::Sent { tag });
        Some(tag)
    }

    fn handle(&mut self, input: Input<()>) {
        self.table.handle(self.now, input);
        self.perform();
    }

    fn advance(&mut self, span: Duration) {
        self.now += span;
        self.table.expire(self.now);
        self.perform();
    }
}

#[test]
fn a_message_without_an_answer_is_cancelled_at_its_end_where_it_was_sent() {
    let (mut world, _) = World::start(0, 1);
    world.advance(10 * SECOND + ANSWER_GRACE);
    assert_eq!((world.result, world.cancelled), (Some(Err(Verdict::NoAnswer { candidate: 0 })), vec![0]));
}

#[test]
fn a_message_that_is_given_up_or_closed_is_cancelled_if_it_was_sent() {
    for close in [false, true] {
        let (mut world, tag) = World::start(0, 1);
        world.handle(if close { Input::Close } else { Input::GivenUp { tag } });
        assert_eq!((world.result, world.cancelled), (Some(Err(Verdict::Closed { sent: true })), vec![0]));
    }
}

#[test]
fn an_answer_a_refusal_and_a_lost_connection_leave_nothing_to_cancel() {
    let (mut world, tag) = World::start(0, 1);
    world.handle(Input::Answered { tag, answer: (), more: false });
    assert_eq!((world.result, world.cancelled), (Some(Ok(())), vec![]));
    let (mut world, tag) = World::start(0, 1);
    world.handle(Input::Refused { tag, refusal: Refusal::new(Reason::Malformed, ""), node: None });
    assert_eq!((world.result.is_some(), world.cancelled), (true, vec![]));
    let (mut world, _) = World::start(0, 1);
    world.handle(Input::ConnectionLost { link: 0 });
    assert_eq!((world.result.is_some(), world.cancelled), (true, vec![]));
}

#[test]
fn a_message_that_goes_to_another_node_is_cancelled_at_the_earlier_one_and_the_answer_there() {
    let (mut world, first) = World::start(1, 2);
    world.advance(5 * SECOND);
    assert_eq!(world.cancelled, [0], "another node is asked");
    world.send(1).unwrap();
    // The late answer of the first node counts, so the second node need not run it.
    world.handle(Input::Answered { tag: first, answer: (), more: false });
    assert_eq!((world.result, world.cancelled), (Some(Ok(())), vec![0, 1]));
}

#[test]
fn a_message_that_goes_to_the_same_node_again_is_cancelled_there_only_at_its_end() {
    let (mut world, _) = World::start(1, 1);
    world.advance(5 * SECOND);
    assert!(world.cancelled.is_empty());
    // It has ended before it was sent again.
    let tag = world.table.find(|()| true).unwrap();
    world.handle(Input::GivenUp { tag });
    assert_eq!(world.cancelled, [0]);
    let (mut world, _) = World::start(1, 1);
    world.advance(5 * SECOND);
    let tag = world.send(0).unwrap();
    world.handle(Input::GivenUp { tag });
    assert_eq!(world.cancelled, [0]);
}
