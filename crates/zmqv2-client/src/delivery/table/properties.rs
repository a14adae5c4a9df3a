//! For random events in any order: every message ends once, and is sent again only if that is safe
//! or was asked for.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use zmqv2_proto::{Reason, Refusal};

use super::*;
use crate::delivery::attempt::ANSWER_GRACE;

const LIMITS: Limits = Limits { messages: 8, bytes: 60, connect_timeout: Duration::from_millis(300), jitter: 0 };
const LINKS: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    Admit {
        millis: u64,
        retries: u32,
        wait: bool,
        monitor: Option<u64>,
        candidates: usize,
        bytes: usize,
        server_queue: Option<QueueId>,
    },
    Send {
        link: usize,
    },
    Answer {
        which: usize,
        more: bool,
    },
    Refuse {
        which: usize,
        reason: Reason,
    },
    InFlight {
        which: usize,
    },
    /// Nobody wants the answer to this message any more, wherever it is.
    GiveUp {
        which: usize,
    },
    Lose {
        link: usize,
    },
    Close {
        link: usize,
    },
    Pass {
        millis: u64,
    },
    Directory(SearchPlan),
}

fn event() -> impl Strategy<Value = Event> {
    let link = 0..LINKS;
    prop_oneof![
        4 => (
            (1_u64..3_000, 0_u32..4, any::<bool>(), prop::option::of(100_u64..1_000)),
            (0..=LINKS, 0_usize..40, prop::option::of(0_u64..2)),
        )
            .prop_map(|((millis, retries, wait, monitor), (candidates, bytes, server_queue))| {
                Event::Admit { millis, retries, wait, monitor, candidates, bytes, server_queue }
            }),
        6 => link.clone().prop_map(|link| Event::Send { link }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, more)| Event::Answer { which, more }),
        3 => (any::<usize>(), prop::sample::select(&Reason::ALL[..]))
            .prop_map(|(which, reason)| Event::Refuse { which, reason }),
        2 => any::<usize>().prop_map(|which| Event::InFlight { which }),
        1 => any::<usize>().prop_map(|which| Event::GiveUp { which }),
        1 => link.clone().prop_map(|link| Event::Lose { link }),
        1 => link.prop_map(|link| Event::Close { link }),
        4 => (0_u64..700).prop_map(|millis| Event::Pass { millis }),
        1 => (0..=LINKS, any::<[bool; 3]>()).prop_map(|(candidates, [known, has_alternatives, preliminary])| {
            Event::Directory(SearchPlan { candidates, known, has_alternatives, preliminary })
        }),
    ]
}

/// What the test knows of a message.
#[derive(Debug)]
struct Known {
    retries: u32,
    deadline: Instant,
    /// Whether a send since then may have run.
    maybe_ran: bool,
    repeats: u32,
    ended: usize,
    monitor: Option<Duration>,
    /// When its broker was asked last, without an answer yet.
    asked: Option<Instant>,
}

struct World {
    now: Instant,
    table: PendingTable<usize, ()>,
    messages: Vec<Known>,
    /// Every tag that was sent, with its message.
    tags: Vec<(Tag, usize)>,
    /// The tag of the last send of each message.
    latest: HashMap<usize, Tag>,
    /// The result of the next lookup.
    plan: SearchPlan,
    /// Answers that were not the last one.
    recorded: usize,
    /// Whether the table was just told the time.
    expired: bool,
}

impl World {
    fn step(&mut self, event: &Event) {
        self.expired = matches!(event, Event::Pass { .. });
        match *event {
            Event::Admit { millis, retries, wait, monitor, candidates, bytes, server_queue } => {
                let deadline = self.now + Duration::from_millis(millis);
                let number = self.messages.len();
                let monitor = monitor.map(Duration::from_millis);
                let (expires, wait_for_ready) = (deadline, wait);
                let options = DeliveryOptions {
                    deadline,
                    expires,
                    retries,
                    wait_for_ready,
                    monitor,
                    candidates,
                    preliminary: false,
                    bytes,
                    server_queue,
                };
                let room = self.table.open() < LIMITS.messages
                    && (self.table.open() == 0 || self.table.bytes() + bytes <= LIMITS.bytes);
                assert_eq!(self.table.admit(self.now, number, options).is_ok(), room);
                if room {
                    self.messages.push(Known {
                        retries,
                        deadline,
                        maybe_ran: false,
                        repeats: 0,
                        ended: 0,
                        monitor,
                        asked: None,
                    });
                }
            }
            Event::Send { link } => {
                if let Some((tag, deadline, number)) = self.table.nth_to_send(link, 0) {
                    let number = *number;
                    let known = &mut self.messages[number];
                    assert!(deadline == known.deadline && known.ended == 0);
                    if std::mem::replace(&mut known.maybe_ran, true) {
                        known.repeats += 1;
                        assert!(known.repeats <= known.retries, "sent again without a retry: {known:?}");
                    }
                    self.tags.push((tag, number));
                    self.latest.insert(number, tag);
                    self.table.handle(self.now, Input::Sent { tag });
                }
            }
            Event::Answer { which, more } => {
                if let Some((tag, number)) = self.pick(which) {
                    let (open, recorded) = (self.messages[number].ended == 0, self.recorded);
                    self.table.handle(self.now, Input::Answered { tag, answer: (), more });
                    self.perform();
                    assert_eq!(
                        self.recorded - recorded,
                        usize::from(open && more),
                        "each of several answers is noted once"
                    );
                    assert_eq!(self.messages[number].ended == 0, open && more, "the last answer ends it, and no other");
                }
            }
            Event::Refuse { which, reason } => {
                if let Some((tag, number)) = self.pick(which) {
                    // A message that was sent once and refused like this goes elsewhere without a
                    // retry.
                    let known = &mut self.messages[number];
                    if self.latest[&number] == tag {
                        known.asked = None;
                    }
                    if self.latest[&number] == tag && reason.another_node_may_take_it() && known.repeats == 0 {
                        known.maybe_ran = false;
                    }
                    let refusal = Refusal::new(reason, "");
                    self.table.handle(self.now, Input::Refused { tag, refusal, node: None });
                    if self.messages[number].repeats > 0 && reason.another_node_may_take_it() {
                        // The earlier attempt may still have run, so going elsewhere is no
                        // repetition of this one.
                        self.messages[number].repeats -= u32::from(self.latest[&number] == tag);
                    }
                }
            }
            Event::InFlight { which } => {
                if let Some((tag, number)) = self.pick(which) {
                    self.table.handle(self.now, Input::InFlight { tag, silence: Duration::ZERO, node: None });
                    if self.latest[&number] == tag {
                        self.messages[number].asked = None;
                    }
                }
            }
            Event::GiveUp { which } => {
                let Some(given_up) = which.checked_rem(self.messages.len()) else { return };
                for tag in self.table.in_order(|entry| entry.message == given_up) {
                    self.table.handle(self.now, Input::GivenUp { tag });
                }
                self.perform();
                assert_eq!(self.messages[given_up].ended, 1, "given up, and did not end");
            }
            Event::Lose { link } => self.table.handle(self.now, Input::ConnectionLost { link }),
            Event::Close { link } => self.table.handle(self.now, Input::LinkClosed { link }),
            Event::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                self.table.expire(self.now);
            }
            Event::Directory(plan) => self.plan = plan,
        }
        self.perform();
        self.check();
    }

    fn pick(&self, which: usize) -> Option<(Tag, usize)> {
        self.tags.get(which.checked_rem(self.tags.len())?).copied()
    }

    fn perform(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.table.poll_action() {
            actions += 1;
            assert!(actions < 10_000, "it never comes to rest");
            match action {
                Action::ChooseLink { tag, candidate } => {
                    let number = *self.table.message(tag).unwrap();
                    self.messages[number].asked = None;
                    self.table.handle(self.now, Input::LinkChosen { tag, link: Some(candidate) });
                }
                Action::LookUp { tag } => {
                    self.table.handle(self.now, Input::LookedUp { tag, plan: self.plan });
                }
                // Like a driver: a wrong node is not known any more.
                Action::ServerNotFound { tag } => {
                    (self.plan.known, self.plan.has_alternatives) = (false, false);
                    if let Some(number) = self.table.message(tag) {
                        self.messages[*number].asked = None;
                    }
                }
                Action::LinkUnreachable { .. } | Action::NoAnswer { .. } | Action::ServerFound { .. } => {}
                Action::Cancel { tag, .. } => assert!(self.table.message(tag).is_some(), "cancelled after its end"),
                Action::Inquire { tag, link } => {
                    let number = *self.table.message(tag).unwrap();
                    assert!(self.messages[number].monitor.is_some() && self.latest[&number] == tag);
                    assert!(!self.table.is_idle(link), "asked over a link that has nothing");
                    assert_eq!(self.messages[number].asked.replace(self.now), None, "asked again without an answer");
                }
                Action::RecordAnswer { tag, .. } => {
                    assert!(self.table.message(tag).is_some(), "noted after its end");
                    self.recorded += 1;
                }
                Action::End { message, .. } => {
                    self.messages[message].ended += 1;
                    assert_eq!(self.messages[message].ended, 1, "ended twice");
                }
            }
        }
    }

    fn check(&self) {
        let open = self.messages.iter().filter(|known| known.ended == 0);
        for known in open.clone() {
            if let (Some(monitor), Some(asked)) = (known.monitor, known.asked) {
                assert!(
                    !self.expired || self.now < asked + monitor,
                    "asked for in vain, and still waited for: {known:?}"
                );
            }
        }
        assert_eq!(self.table.open(), open.clone().count());
        assert!(self.table.open() <= LIMITS.messages);
        let waiting = (0..LINKS).filter(|link| self.table.links.get(*link).is_some_and(|link| link.queued > 0));
        assert_eq!(self.table.waiting_links(), waiting.count());
        assert!(self.table.bytes() <= LIMITS.bytes || self.table.open() == 1);
        if open.clone().count() > 0 {
            assert!(self.table.next_deadline().is_some(), "something waits for nothing");
        }
    }
}

proptest! {
    #[test]
    fn every_message_ends_once_in_time_and_is_repeated_only_on_request(
        events in prop::collection::vec(event(), 1..200),
    ) {
        let table = PendingTable::new(LIMITS);
        let now = crate::clock::now();
        let mut world = World {
            now,
            table,
            messages: Vec::new(),
            tags: Vec::new(),
            latest: HashMap::new(),
            plan: SearchPlan::among(0),
            recorded: 0,
            expired: false,
        };
        for event in &events {
            world.step(event);
            for known in &world.messages {
                prop_assert!(
                    known.ended == 1 || !matches!(event, Event::Pass { .. }) || world.now < known.deadline + ANSWER_GRACE,
                    "outlived its deadline: {known:?}"
                );
            }
        }
        world.step(&Event::Pass { millis: 4_000 });
        prop_assert!(world.messages.iter().all(|known| known.ended == 1));
        prop_assert_eq!((world.table.open(), world.table.bytes(), world.table.next_deadline()), (0, 0, None));
        prop_assert!((0..LINKS).all(|link| world.table.is_idle(link)));
        prop_assert!(world.table.server_queues.is_empty());
    }
}
