//! How often a client allocates for a message that nobody blocks for, until it waits for its connection: counted, and held to a
//! bound. What libzmq allocates by itself, in C++, is not counted.

mod support;

use std::alloc::System;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{builder, dead_node};
use zmqv2_proto::RequestContext;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of one message: the method, the body and its counter, the header, the parcel and what it holds, the promise; and
/// what the I/O thread needs to look for a way.
const MOST: f64 = 10.0;
/// Messages that are sent to count.
const MESSAGES: usize = 5_000;

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Allocations of each of many messages, once there were some.
fn each<T>(mut send: impl FnMut() -> T) -> f64 {
    let mut kept = Vec::with_capacity(2 * MESSAGES);
    kept.extend((0..MESSAGES).map(|_| send()));
    let before = allocations();
    kept.extend((0..MESSAGES).map(|_| send()));
    (allocations() - before) as f64 / MESSAGES as f64
}

// One test, because the counter is the process's.
#[test]
fn a_message_costs_few_allocations() {
    // Nobody answers there, so that nothing but the way to the I/O thread counts.
    let long = Duration::from_secs(600);
    let client = builder([dead_node("n1")]).max_outstanding(100_000).timeout(long).cast_timeout(long).build().unwrap();
    let (context, text) = (RequestContext::new(), "x".repeat(128));
    let cast = each(|| client.cast(&context, "echo", &text).unwrap());
    let call = each(|| client.call_async::<String>(&context, "echo", &text).unwrap());
    println!("{cast:.2} allocations for a cast, {call:.2} for a call");
    assert!(cast <= MOST && call <= MOST, "{cast} for a cast, {call} for a call");
    let _ = client.close(Duration::ZERO);
}
