//! Feeds random lists of events with fanouts and notifications to the engine: every copy has one
//! end.
//!
//! A simple model tracks every copy by its tag, the answers to each sender, and the copies of each
//! worker. It checks every action when it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use zmqv2_broker::engine::{Action, Arrival, Engine, Input, Limits, Offer, Pattern, WorkerId};
use zmqv2_proto::control::{ServerRegistration, StatusReport};
use zmqv2_proto::{InstanceId, MessageId, Reason, TopicKey};

const KEYS: [&str; 3] = ["e/n.info", "e/n.warn", "e/t"];
const POOLS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Op {
    Register {
        keys: usize,
        pool: usize,
        workers: u16,
        credit: u16,
    },
    Down(usize),
    Withdraw(usize),
    Send {
        fanout: bool,
        key: usize,
        pool: Option<usize>,
        ttl: u64,
    },
    /// A worker accepts a copy, or refuses it for this reason.
    Answer(usize, Option<Reason>),
    /// A listener has handled a notification, acknowledged or not, or requeues it.
    Handled(usize, bool),
    /// The same a second time, or about a delivery of an earlier run of the broker.
    HandledStrange(u64, bool),
    Stored(usize, bool),
    Wait(u64),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<usize>;
    let reason = prop_oneof![
        8 => Just(None),
        1 => Just(Some(Reason::Malformed)),
        1 => Just(Some(Reason::Expired)),
        1 => Just(Some(Reason::Busy)),
    ];
    prop_oneof![
        5 => (0..4_usize, 0..2_usize, 1..3_u16, 1..3_u16)
            .prop_map(|(keys, pool, workers, credit)| Op::Register { keys, pool, workers, credit }),
        2 => index().prop_map(Op::Down),
        2 => index().prop_map(Op::Withdraw),
        20 => (proptest::bool::weighted(0.4), 0..3_usize, proptest::option::weighted(0.3, 0..2_usize), 1..9000_u64)
            .prop_map(|(fanout, key, pool, ttl)| Op::Send { fanout, key, pool, ttl }),
        16 => (index(), reason).prop_map(|(of, reason)| Op::Answer(of, reason)),
        12 => (index(), proptest::bool::weighted(0.3)).prop_map(|(of, again)| Op::Handled(of, again)),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(tag, again)| Op::HandledStrange(tag, again)),
        8 => (index(), proptest::bool::weighted(0.9)).prop_map(|(of, well)| Op::Stored(of, well)),
        4 => (0..3000_u64).prop_map(Op::Wait),
        1 => prop_oneof![6 => Just(Op::Wait(0)), 1 => Just(Op::Drain)],
    ]
}

/// The answers to a sender, and how many more the last one announced.
#[derive(Debug, Default)]
struct Told {
    answers: u16,
    more: Option<u16>,
}

/// One copy, from its first delivery on.
#[derive(Debug)]
struct Copy {
    message: usize,
    is_note: bool,
    /// The worker that has it, and whether it has acknowledged it.
    at: Option<(WorkerId, bool)>,
    /// Its listener reported it before the acknowledgement.
    early: bool,
}

#[derive(Debug)]
struct Worker {
    run: u32,
    window: u16,
}

struct Model {
    engine: Engine<usize, usize>,
    limits: Limits,
    now: Instant,
    runs: BTreeSet<u32>,
    started: u32,
    workers: BTreeMap<WorkerId, Worker>,
    /// By the tag of their delivery, while a worker has them.
    copies: BTreeMap<u64, Copy>,
    tags: BTreeSet<u64>,
    storing: BTreeMap<u64, (u64, usize)>,
    on_disk: BTreeMap<u64, usize>,
    told: Vec<Told>,
    notes: Vec<bool>,
    /// The number of ended copies of each message: handled, given up or refused.
    ended: Vec<usize>,
    /// Messages that listeners requeued without a delivery by this run.
    strange: BTreeSet<usize>,
    drained: bool,
}

fn instance(run: u32) -> InstanceId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&run.to_be_bytes());
    InstanceId::from_bytes(bytes)
}

fn id(message: usize) -> MessageId {
    MessageId::from_bytes((message as u128).to_be_bytes())
}

fn pick<T: Clone>(of: usize, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[of % from.len()].clone())
}

impl Model {
    fn new(limits: Limits) -> Self {
        #[expect(clippy::disallowed_methods, reason = "one arbitrary instant to count from; no test waits")]
        let now = Instant::now();
        Self {
            engine: Engine::new(limits),
            limits,
            now,
            runs: BTreeSet::new(),
            started: 0,
            workers: BTreeMap::new(),
            copies: BTreeMap::new(),
            tags: BTreeSet::new(),
            storing: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            told: Vec::new(),
            notes: Vec::new(),
            ended: Vec::new(),
            strange: BTreeSet::new(),
            drained: false,
        }
    }

    fn perform(&mut self, op: &Op) -> Option<()> {
        let runs: Vec<u32> = self.runs.iter().copied().collect();
        match *op {
            Op::Register { keys, pool, workers, credit } => {
                let keys = if keys == 3 { &KEYS[..2] } else { &KEYS[keys..=keys] };
                let mut keys = keys.iter().map(|key| TopicKey::parse(key).unwrap());
                self.started += 1;
                let registration = ServerRegistration::new(instance(self.started), workers, credit, 1);
                let offer = Offer::new(
                    keys.next().unwrap(),
                    POOLS[pool].parse().unwrap(),
                    registration.with_topics(keys.collect()),
                );
                self.handle(Input::Register { offer, from: usize::MAX });
                let of_run = |(number, worker): (&WorkerId, &Worker)| (worker.run == self.started).then_some(*number);
                for worker in self.workers.iter().filter_map(of_run).collect::<Vec<_>>() {
                    self.handle(Input::WorkerUp { worker });
                }
            }
            Op::Down(of) => {
                let worker = pick(of, &self.workers.keys().copied().collect::<Vec<_>>())?;
                let run = self.workers[&worker].run;
                // Its notifications are free again. Its other requests are refused.
                for copy in self.copies.values_mut() {
                    if copy.at.is_some_and(|(worker, _)| self.workers[&worker].run == run) {
                        copy.at = None;
                        self.ended[copy.message] += usize::from(std::mem::take(&mut copy.early));
                    }
                }
                self.handle(Input::WorkerDown { worker });
                self.copies.retain(|_, copy| copy.is_note || copy.at.is_some());
            }
            Op::Withdraw(of) => self.handle(Input::Withdraw { instance: instance(pick(of, &runs)?), from: usize::MAX }),
            Op::Send { fanout, key, pool, ttl } => {
                let message = self.told.len();
                self.told.push(Told::default());
                self.notes.push(!fanout);
                self.ended.push(0);
                let deadline = self.now + Duration::from_millis(ttl);
                let arrival = Arrival {
                    pattern: if fanout { Pattern::Fanout } else { Pattern::Notify },
                    server: pool.map_or("", |pool| POOLS[pool]),
                    ..Arrival::new(id(message), KEYS[key], deadline, 10)
                };
                self.handle(Input::Request { arrival, from: message, payload: message });
            }
            Op::Answer(of, refused) => {
                let waiting =
                    |(tag, copy): (&u64, &Copy)| copy.at.filter(|(_, acked)| !acked).map(|(worker, _)| (*tag, worker));
                let (tag, worker) = pick(of, &self.copies.iter().filter_map(waiting).collect::<Vec<_>>())?;
                let copy = self.copies.get_mut(&tag).unwrap();
                let (message, early) = (copy.message, std::mem::take(&mut copy.early));
                self.ended[message] += usize::from(early);
                let refused = refused.filter(|_| !early);
                let credit = u16::from(refused.is_some() || !copy.is_note);
                copy.at = Some((worker, true));
                if early || refused.is_some() || !copy.is_note {
                    // Ended, or to be delivered again.
                    copy.at = None;
                    if !copy.is_note || early {
                        self.copies.remove(&tag);
                    }
                }
                let told = self.told[message].answers;
                self.handle(Input::Reply { worker, tag, credit, refused, payload: message });
                // If its sender was told that it is malformed, this is its end.
                if self.notes[message] && refused.is_some() && self.told[message].answers > told {
                    let ends_here = match refused {
                        Some(Reason::Malformed) => true,
                        // It ends as a dead letter, or is kept.
                        _ => false,
                    };
                    self.ended[message] += usize::from(ends_here);
                    if ends_here {
                        self.copies.remove(&tag);
                    }
                }
            }
            Op::Handled(of, again) => {
                let open =
                    |(tag, copy): (&u64, &Copy)| (copy.is_note && copy.at.is_some() && !copy.early).then_some(*tag);
                let tag = pick(of, &self.copies.iter().filter_map(open).collect::<Vec<_>>())?;
                let copy = self.copies.get_mut(&tag).unwrap();
                let (message, acked) = (copy.message, copy.at.unwrap().1);
                if acked {
                    copy.at = None;
                } else {
                    copy.early = true;
                }
                // An early report counts with the acknowledgement. The model never requeues early.
                let again = again && acked;
                if !again {
                    self.ended[message] += usize::from(acked);
                }
                let arrival = Arrival::new(id(message), KEYS[0], self.now + Duration::from_secs(9), 10);
                self.handle(Input::Handled {
                    tag,
                    id: id(message),
                    credit: 1,
                    requeue: again.then_some((arrival, message)),
                });
                if acked && !again {
                    self.copies.remove(&tag);
                }
            }
            Op::HandledStrange(tag, again) => {
                let message = self.told.len();
                self.told.push(Told::default());
                self.notes.push(true);
                self.ended.push(0);
                self.strange.insert(message);
                let arrival = Arrival {
                    server: POOLS[0],
                    pattern: Pattern::Notify,
                    ..Arrival::new(id(message), KEYS[0], self.now + Duration::from_secs(9), 10)
                };
                self.handle(Input::Handled {
                    tag,
                    id: id(message),
                    credit: 1,
                    requeue: again.then_some((arrival, message)),
                });
            }
            Op::Stored(of, well) => {
                let tag = pick(of, &self.storing.keys().copied().collect::<Vec<_>>())?;
                let (number, message) = self.storing.remove(&tag).unwrap();
                if well {
                    self.on_disk.insert(number, message);
                }
                let result = if well { Ok(()) } else { Err("full".to_owned()) };
                self.handle(Input::StoreResult { tag, result });
            }
            Op::Wait(ms) => self.wait(Duration::from_millis(ms)),
            Op::Drain => self.handle(Input::Drain),
        }
        Some(())
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.expire(self.now);
            self.observe();
        }
        self.now = end;
    }

    fn handle(&mut self, input: Input<'_, usize, usize>) {
        self.engine.handle(self.now, input);
        self.observe();
    }

    fn observe(&mut self) {
        self.copies.retain(|_, copy| copy.at.is_some());
        while let Some(action) = self.engine.poll_action() {
            self.check(action);
        }
        assert_eq!(self.engine.idle_queues(), 0, "a topic or a name in which nothing is left is kept");
        for (number, worker) in &self.workers {
            let has =
                self.copies.values().filter(|copy| !copy.early && copy.at.is_some_and(|(at, _)| at == *number)).count();
            assert!(has <= usize::from(worker.window), "worker {number} has {has}");
        }
    }

    fn answer(&mut self, to: usize, remaining: u16) {
        let told = &mut self.told[to];
        // A copy of a fanout that expires at a worker leaves the group without an answer.
        let silent = if self.notes[to] { 0 } else { u16::MAX - remaining - 1 };
        let possible = |before: u16| (remaining + 1..=remaining + 1 + silent).contains(&before);
        assert!(told.more.is_none_or(possible), "{to}: {remaining} more after {:?}", told.more);
        (told.answers, told.more) = (told.answers + 1, Some(remaining));
    }

    #[expect(clippy::needless_pass_by_value, reason = "its fields are compared as values")]
    fn check(&mut self, action: Action<usize, usize>) {
        match action {
            Action::Deliver { worker, tag, delivery, payload: message, .. } => {
                assert!(self.workers.contains_key(&worker), "delivered to nobody");
                let is_note = self.notes[message];
                assert_eq!(delivery > 0, is_note);
                assert!(delivery <= self.limits.max_deliveries);
                assert!(!self.storing.contains_key(&tag), "delivered before it is stored");
                assert!(self.tags.insert(tag), "tag {tag} again");
                self.copies.insert(tag, Copy { message, is_note, at: Some((worker, false)), early: false });
            }
            Action::Answer { to, payload, remaining } => {
                assert_eq!(to, payload);
                self.answer(to, remaining);
            }
            Action::Refuse { to: usize::MAX, .. } => {}
            Action::Refuse { to, remaining, .. } => {
                self.answer(to, remaining);
                self.ended[to] += usize::from(self.notes[to]);
                // Only copies at workers, and notifications, stay.
                self.copies.retain(|_, copy| copy.message != to || copy.at.is_some() || copy.is_note);
            }
            Action::ConfirmStored { to, remaining, .. } => self.answer(to, remaining),
            Action::Store { tag, number, payload, .. } => {
                assert!(self.limits.durable && !self.on_disk.contains_key(&number));
                self.storing.insert(tag, (number, payload));
            }
            Action::Erase { number } => {
                assert!(self.on_disk.remove(&number).is_some(), "{number} is not on disk");
            }
            Action::DeadLetter { number, payload, deliveries, .. } => {
                assert!(number.is_none() || self.limits.durable);
                assert!(deliveries <= self.limits.max_deliveries);
                self.ended[payload] += 1;
                number.map(|number| self.on_disk.remove(&number).expect("it is on disk"));
            }
            Action::Connect { worker, instance, .. } => {
                let [a, b, c, d, ..] = *instance.as_bytes();
                let run = u32::from_be_bytes([a, b, c, d]);
                self.runs.insert(run);
                self.workers.insert(worker, Worker { run, window: 2 });
            }
            Action::Disconnect { worker } => {
                let run = self.workers.remove(&worker).unwrap().run;
                if !self.workers.values().any(|worker| worker.run == run) {
                    self.runs.remove(&run);
                }
                assert!(
                    !self.copies.values().any(|copy| copy.at.is_some_and(|(at, _)| at == worker)),
                    "{worker} had work"
                );
            }
            Action::Drained => self.drained = true,
            _ => {}
        }
    }
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 300;
    }
    // A failure becomes a scenario with a name.
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_copy_has_one_end(durable: bool, deliveries in 1..4_u16, backlog in 1..20_usize, ops in vec(op(), 1..120)) {
        let mut limits = Limits::default();
        (limits.durable, limits.max_deliveries, limits.topic_backlog) = (durable, deliveries, backlog);
        let mut model = Model::new(limits);
        for op in &ops {
            model.perform(op);
        }
        // At the end every store completes, every server is lost, and time passes.
        while model.perform(&Op::Stored(0, true)).is_some() {}
        while model.perform(&Op::Down(0)).is_some() {}
        model.wait(Duration::from_secs(3600));
        let mut report = StatusReport::default();
        model.engine.report(&mut report);
        prop_assert_eq!((report.notifications, report.in_flight, report.queued, report.held_bytes), (0, 0, 0, 0));
        prop_assert!(report.topics.is_empty(), "{:?}", report.topics);
        prop_assert_eq!(model.engine.unserved_topics(), 0);
        prop_assert!(model.on_disk.is_empty(), "left in the store: {:?}", model.on_disk);
        for (message, told) in model.told.iter().enumerate().filter(|(message, _)| model.notes[*message]) {
            if model.strange.contains(&message) {
                prop_assert_eq!(told.answers, 0);
                prop_assert!(model.ended[message] <= 1);
                continue;
            }
            prop_assert_eq!(told.more, Some(0), "message {} was not answered to the end", message);
            prop_assert_eq!(model.ended[message], usize::from(told.answers), "ends of message {}", message);
        }
    }
}
