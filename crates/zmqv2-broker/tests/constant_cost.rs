//! The cost of one request in the engine does not grow with the number of other things.

mod loaded_engine;

use std::time::{Duration, Instant};

use loaded_engine::{LoadedEngine, Size};

/// So many that a cost which grows with the number would be hundreds of times as high.
const MANY: usize = 40_000;
/// Cold caches make a large table slower than a small one, by less than this factor.
const AT_MOST: f64 = 8.0;
/// So few that a measurement fits into the time that a busy machine gives to a thread at once.
const ROUND_TRIPS: u32 = 25;
const MEASUREMENTS: usize = 300;

#[allow(clippy::disallowed_methods, reason = "the time that code takes is what is measured")]
fn cost(engine: &mut LoadedEngine) -> Duration {
    let began = Instant::now();
    for _ in 0..ROUND_TRIPS {
        engine.round_trip();
    }
    began.elapsed() / ROUND_TRIPS
}

/// Compares the least of several measurements, taken in turn: other load of the machine only adds
/// to one.
fn compare(name: &str, small: Size, large: Size) -> f64 {
    let mut engines = [LoadedEngine::new(small), LoadedEngine::new(large)];
    let mut least = [Duration::MAX; 2];
    for _ in 0..MEASUREMENTS {
        for (engine, least) in engines.iter_mut().zip(&mut least) {
            *least = cost(engine).min(*least);
        }
    }
    let ratio = least[1].as_secs_f64() / least[0].as_secs_f64();
    println!("{name}: {:?} against {:?}, ratio {ratio:.2}", least[1], least[0]);
    ratio
}

#[test]
fn a_request_costs_the_same_among_many_topics() {
    let ratio = compare("topics", Size::SMALL, Size { topics: MANY, ..Size::SMALL });
    assert!(ratio < AT_MOST, "{ratio}");
}

#[test]
fn a_request_costs_the_same_among_many_workers() {
    let ratio = compare("workers", Size::SMALL, Size { workers: MANY as u16, ..Size::SMALL });
    assert!(ratio < AT_MOST, "{ratio}");
}

#[test]
fn a_request_costs_the_same_beside_many_in_flight() {
    let idle = Size { workers: MANY as u16 + 10, ..Size::SMALL };
    let ratio = compare("in flight", idle, Size { in_flight: MANY, ..idle });
    assert!(ratio < AT_MOST, "{ratio}");
}

#[test]
fn a_request_costs_the_same_beside_many_that_wait() {
    let ratio = compare("waiting", Size::SMALL, Size { waiting: MANY, ..Size::SMALL });
    assert!(ratio < AT_MOST, "{ratio}");
}

/// The check detects a cost that grows: a walk over all things.
#[test]
fn a_growing_cost_is_detected() {
    let walk = |count: usize| {
        let things: Vec<u64> = (0..count as u64).collect();
        move || std::hint::black_box(&things).iter().filter(|thing| std::hint::black_box(**thing) % 7 == 3).count()
    };
    #[allow(clippy::disallowed_methods, reason = "the time that code takes is what is measured")]
    let least = |walk: &dyn Fn() -> usize| {
        (0..15)
            .map(|_| {
                let began = Instant::now();
                for _ in 0..ROUND_TRIPS {
                    std::hint::black_box(walk());
                }
                began.elapsed()
            })
            .min()
            .expect("measured")
    };
    // A walk would add to the cost of a whole round trip.
    let mut engine = LoadedEngine::new(Size::SMALL);
    let base = (0..MEASUREMENTS).map(|_| cost(&mut engine)).min().expect("measured") * ROUND_TRIPS;
    let [few, many] = [2, MANY].map(|count| base + least(&walk(count)));
    assert!(many.as_secs_f64() / few.as_secs_f64() > AT_MOST, "{many:?} against {few:?}");
}
