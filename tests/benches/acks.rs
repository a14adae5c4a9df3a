//! The table of outstanding messages alone: one message from its sender to its answer, beside more and more that are open.

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use zmqv2_client::bench_support::AckTable;

#[allow(clippy::disallowed_methods, reason = "one arbitrary instant to count from")]
fn now() -> Instant {
    Instant::now()
}

fn acks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ack table");
    for open in [0, 10, 100, 1_000, 10_000, 100_000] {
        group.bench_function(BenchmarkId::new("open", open), |bencher| {
            let mut table = AckTable::new(now(), open);
            bencher.iter(|| assert!(table.round_trip()));
        });
    }
}

criterion_group!(benches, acks);
criterion_main!(benches);
