//! Feeds random lists of events to the engine, and checks that the promises hold.
//!
//! `properties/model.rs` is an independent, simple and slow model of the engine. It checks every
//! action when it comes, and the whole state after every event. `PROPTEST_CASES=100000 cargo test
//! --workspace --release --test properties` searches for longer.

#[path = "properties/model.rs"]
mod model;

use std::time::Duration;

use model::{CLIENTS, Model};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use zmqv2_broker::engine::Limits;

/// An event. An [`Index`] picks one of the existing things. If there is none, nothing happens.
#[derive(Debug, Clone)]
enum Op {
    Register {
        key: usize,
        name: usize,
        workers: u16,
        credit: u16,
        /// The additional window of a single worker whose requests are quick.
        wider: u16,
    },
    RegisterAgain(Index),
    Up(Index),
    AllUp,
    Down(Index),
    DownOfNobody(usize),
    Withdraw(Index),
    WithdrawOfNobody,
    Request {
        key: usize,
        name: Option<usize>,
        ttl: u64,
        bytes: usize,
        patient: bool,
    },
    Credit {
        of: Index,
        credit: u16,
    },
    /// A worker reports that its requests are quick.
    Quick {
        of: Index,
        credit: u16,
    },
    HandBack(Index),
    /// A client gives up this request, or one that has not come yet.
    Cancel {
        client: usize,
        number: Index,
    },
    ClientGone(usize),
    Reply {
        of: Index,
        credit: u16,
    },
    ReplyAgain {
        of: Index,
        worker: Index,
    },
    ReplyOfAnotherWorker {
        of: Index,
        worker: Index,
    },
    ReplyToNothing {
        worker: Index,
        tag: u64,
    },
    Wait {
        ms: u64,
    },
    /// Time passes, but the driver does nothing.
    Lag {
        ms: u64,
    },
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    let name = proptest::option::weighted(0.4, 0..4_usize);
    prop_oneof![
        6 => (0..3_usize, 0..3_usize, 1..4_u16, 1..4_u16, 0..3_u16)
            .prop_map(|(key, name, workers, credit, wider)| Op::Register { key, name, workers, credit, wider }),
        1 => index().prop_map(Op::RegisterAgain),
        4 => index().prop_map(Op::Up),
        4 => Just(Op::AllUp),
        2 => index().prop_map(Op::Down),
        1 => (0..40_usize).prop_map(Op::DownOfNobody),
        2 => index().prop_map(Op::Withdraw),
        1 => Just(Op::WithdrawOfNobody),
        30 => (0..4_usize, name, 0..9000_u64, 0..40_usize, proptest::bool::weighted(0.2))
            .prop_map(|(key, name, ttl, bytes, patient)| Op::Request { key, name, ttl, bytes, patient }),
        4 => (index(), 0..3_u16).prop_map(|(of, credit)| Op::Credit { of, credit }),
        4 => (index(), 0..3_u16).prop_map(|(of, credit)| Op::Quick { of, credit }),
        5 => index().prop_map(Op::HandBack),
        4 => (0..CLIENTS, index()).prop_map(|(client, number)| Op::Cancel { client, number }),
        1 => (0..CLIENTS).prop_map(Op::ClientGone),
        16 => (index(), prop_oneof![6 => Just(1), 3 => Just(0), 1 => 0..5_u16]).prop_map(|(of, credit)| Op::Reply { of, credit }),
        1 => (index(), index()).prop_map(|(of, worker)| Op::ReplyAgain { of, worker }),
        1 => (index(), index()).prop_map(|(of, worker)| Op::ReplyOfAnotherWorker { of, worker }),
        1 => (index(), any::<u64>()).prop_map(|(worker, tag)| Op::ReplyToNothing { worker, tag }),
        5 => (0..4000_u64).prop_map(|ms| Op::Wait { ms }),
        2 => (0..4000_u64).prop_map(|ms| Op::Lag { ms }),
        1 => prop_oneof![4 => Just(Op::Wait { ms: 0 }), 1 => Just(Op::Drain)],
    ]
}

fn pick<T: Copy>(of: Index, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[of.index(from.len())])
}

/// Performs an event. `None` if there is nothing to pick.
fn perform(model: &mut Model, op: &Op) -> Option<()> {
    let workers = model.workers_that(|_| true);
    let down = model.workers_that(|worker| !worker.up);
    match *op {
        Op::Register { key, name, workers, credit, wider } => model.register(key, name, workers, credit, wider),
        Op::RegisterAgain(of) => model.register_again(pick(of, &model.runs())?),
        Op::Up(of) => model.up(pick(of, &down)?),
        Op::AllUp => down.into_iter().for_each(|worker| model.up(worker)),
        Op::Down(of) => model.down(pick(of, &workers)?),
        Op::DownOfNobody(worker) => (!workers.contains(&worker)).then(|| model.down(worker))?,
        Op::Withdraw(of) => model.withdraw(pick(of, &model.runs())?),
        Op::WithdrawOfNobody => model.withdraw(u32::MAX),
        Op::Request { key, name, ttl, bytes, patient } => {
            model.request(key, name, Duration::from_millis(ttl), bytes, patient);
        }
        Op::Credit { of, credit } => model.credit(pick(of, &workers)?, credit),
        Op::Quick { of, credit } => model.quick(pick(of, &workers)?, credit),
        Op::HandBack(of) => {
            let (tag, worker) = pick(of, &model.deliveries())?;
            model.hand_back(worker, tag);
        }
        Op::Cancel { client, number } => model.cancel(client, number.index(model.requests() + 1)),
        Op::ClientGone(client) => model.client_gone(client),
        Op::Reply { of, credit } => {
            let (tag, worker) = pick(of, &model.deliveries())?;
            model.reply(worker, tag, credit);
        }
        Op::ReplyAgain { of, worker } => model.reply(pick(worker, &workers)?, pick(of, &model.settled_tags())?, 1),
        Op::ReplyOfAnotherWorker { of, worker } => {
            let (tag, right) = pick(of, &model.deliveries())?;
            let worker = pick(worker, &workers).filter(|worker| *worker != right)?;
            model.reply(worker, tag, 1);
        }
        Op::ReplyToNothing { worker, tag } => model.reply(pick(worker, &workers)?, tag, 1),
        Op::Wait { ms } => model.wait(Duration::from_millis(ms)),
        Op::Lag { ms } => model.lag(Duration::from_millis(ms)),
        Op::Drain => model.drain(),
    }
    Some(())
}

fn after(limits: Limits, ops: &[Op]) -> Model {
    let mut model = Model::new(limits);
    for op in ops {
        perform(&mut model, op);
    }
    model
}

fn limits() -> impl Strategy<Value = Limits> {
    (prop_oneof![3 => 1..6_usize, 1 => 0..40_usize], prop_oneof![1 => 0..200_usize, 1 => Just(100_000)]).prop_map(
        |(topic_backlog, backlog_bytes)| {
            let mut limits = Limits::default();
            (limits.topic_backlog, limits.backlog_bytes) = (topic_backlog, backlog_bytes);
            limits
        },
    )
}

/// As many cases as `PROPTEST_CASES` says, or few.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 300;
    }
    // A failure becomes a scenario with a name.
    config.failure_persistence = None;
    config
}

/// Inputs on which a property has failed before.
mod failed_before {
    use super::*;

    /// The second server of key 2 has the request, and hands it back when it has withdrawn. The
    /// first one keeps the order, so the request is refused. The name for which the request could
    /// have waited was kept for ever.
    #[test]
    fn a_name_is_forgotten_when_the_request_that_added_it_is_refused() {
        let mut model = Model::new(Limits::default());
        model.register(2, 1, 1, 1, 0);
        model.register(0, 0, 1, 1, 0);
        model.request(2, Some(0), Duration::from_secs(5), 0, true);
        model.register(2, 0, 1, 1, 0);
        model.workers_that(|_| true).into_iter().for_each(|worker| model.up(worker));
        model.withdraw(3);
        let (tag, worker) = model.deliveries()[0];
        model.hand_back(worker, tag);
        lose_all_servers(&mut model);
        model.assert_nothing_is_held();
    }
}

/// Also lets time pass, because requests that wait for servers must expire first.
fn lose_all_servers(model: &mut Model) {
    while let Some(worker) = model.workers_that(|_| true).first() {
        model.down(*worker);
    }
    model.wait(Duration::from_secs(3600));
}

proptest! {
    #![proptest_config(config())]

    /// At the end everything has expired, and every late answer has come. Nothing may be left.
    #[test]
    fn every_request_has_one_outcome_when_all_has_expired(limits in limits(), ops in vec(op(), 1..150)) {
        let mut model = after(limits, &ops);
        model.wait(Duration::from_secs(3600));
        for (tag, worker) in model.deliveries() {
            model.reply(worker, tag, 1);
        }
        model.runs().into_iter().for_each(|run| model.withdraw(run));
        model.assert_nothing_is_held();
    }

    /// At the end every server is lost. Nothing may be left.
    #[test]
    fn every_request_has_one_outcome_when_all_servers_are_lost(limits in limits(), ops in vec(op(), 1..150)) {
        let mut model = after(limits, &ops);
        lose_all_servers(&mut model);
        model.assert_nothing_is_held();
    }

    /// At the end the broker stops, and every request in flight is answered.
    #[test]
    fn every_request_has_one_outcome_when_the_broker_drains(limits in limits(), ops in vec(op(), 1..150)) {
        let mut model = after(limits, &ops);
        model.drain();
        for (tag, worker) in model.deliveries() {
            model.reply(worker, tag, 1);
        }
        model.assert_drained();
        model.runs().into_iter().for_each(|run| model.withdraw(run));
        model.assert_nothing_is_held();
    }
}
