//! The engine alone: one request from its arrival to its answer, with growing load.

#[path = "../../crates/zmqv2-broker/tests/loaded_engine/mod.rs"]
mod loaded_engine;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loaded_engine::{LoadedEngine, Size};

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing");
    // A request and its answer.
    group.throughput(Throughput::Elements(2));
    let mut bench = |name: &str, count: usize, size: Size| {
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            let mut loaded_engine = LoadedEngine::new(size);
            bencher.iter(|| loaded_engine.round_trip());
        });
    };
    for count in [1, 10, 100, 1_000, 10_000] {
        bench("topics", count, Size { topics: count, ..Size::SMALL });
    }
    for count in [2, 16, 128, 1_024, 4_096] {
        bench("workers", usize::from(count), Size { workers: count, ..Size::SMALL });
    }
    for count in [0, 10, 100, 1_000, 4_000] {
        bench("in flight", count, Size { workers: 4_096, in_flight: count, ..Size::SMALL });
    }
    for count in [0, 10, 100, 1_000, 10_000] {
        bench("waiting", count, Size { waiting: count, ..Size::SMALL });
    }
}

criterion_group!(benches, routing);
criterion_main!(benches);
