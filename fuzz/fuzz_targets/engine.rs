//! Any list of events for the broker's routing engine, held against the model that its property tests use.

#![no_main]

#[allow(dead_code, reason = "the property tests use more of it")]
#[path = "../../crates/zmqv2-broker/tests/properties/model.rs"]
mod model;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use model::Model;
use zmqv2_broker::engine::Limits;

/// The bytes that say what happens; an end of zeros.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first)
    }

    fn millis(&mut self) -> Duration {
        Duration::from_millis(16 * self.byte() as u64)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = self.byte();
        (!from.is_empty()).then(|| from[at % from.len()])
    }
}

/// Lets the next event happen; `None` when there is nothing that it could happen to.
fn step(model: &mut Model, script: &mut Script<'_>) -> Option<()> {
    let workers = model.workers_that(|_| true);
    match script.byte() % 12 {
        0 => {
            let (key, name, workers) = (script.byte() % 3, script.byte() % 3, script.byte() % 3 + 1);
            let (credit, wider) = (script.byte() % 4 + 1, script.byte() % 4);
            model.register(key, name, workers as u16, credit as u16, wider as u16);
        }
        1 => model.workers_that(|worker| !worker.up).into_iter().for_each(|worker| model.up(worker)),
        2 => model.down(script.pick(&workers)?),
        3 => model.withdraw(script.pick(&model.runs())?),
        4 | 5 => {
            let (key, name) = (script.byte() % 4, script.byte());
            let name = (name < 100).then_some(name % 4);
            let (ttl, bytes) = (script.millis(), script.byte() % 40);
            model.request(key, name, ttl, bytes, script.byte() < 50);
        }
        6 | 7 => {
            let (tag, worker) = script.pick(&model.deliveries())?;
            model.reply(worker, tag, (script.byte() % 3) as u16);
        }
        8 => {
            let (tag, worker) = script.pick(&model.deliveries())?;
            model.hand_back(worker, tag);
        }
        9 => {
            let worker = script.pick(&workers)?;
            model.credit(worker, (script.byte() % 4) as u16);
        }
        10 => model.wait(script.millis()),
        _ => {
            let worker = script.pick(&workers)?;
            model.quick(worker, (script.byte() % 4) as u16);
        }
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script(bytes);
    let mut limits = Limits::default();
    (limits.topic_backlog, limits.backlog_bytes) = (script.byte() % 40, script.byte() * 8);
    let mut model = Model::new(limits);
    while !script.0.is_empty() {
        step(&mut model, &mut script);
    }
    model.wait(Duration::from_secs(3600));
    for (tag, worker) in model.deliveries() {
        model.reply(worker, tag, 1);
    }
    model.runs().into_iter().for_each(|run| model.withdraw(run));
    model.assert_nothing_is_held();
});
