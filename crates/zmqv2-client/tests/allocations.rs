//! How often a client allocates for a message that it sends without blocking, until the message waits
//! for its connection. The test does not count what libzmq allocates in C++.

mod support;

use std::alloc::System;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{builder, dead_node};
use zmqv2_proto::{Config, RequestContext};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most allocations for one message: its method, body, header, options and handle, and the I/O
/// thread's search for a node.
const MOST: f64 = 10.0;
/// The number of messages over which the test counts.
const MESSAGES: usize = 2_000;

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// The allocations for one message, on average, after as many messages to warm up. The I/O thread has
/// taken the messages when `taken` returns.
fn each<T>(mut send: impl FnMut() -> T, taken: impl Fn()) -> f64 {
    let mut kept = Vec::with_capacity(2 * MESSAGES);
    kept.extend((0..MESSAGES).map(|_| send()));
    taken();
    let before = allocations();
    kept.extend((0..MESSAGES).map(|_| send()));
    taken();
    (allocations() - before) as f64 / MESSAGES as f64
}

// One test, because all tests of a process share the counter.
#[test]
fn a_message_costs_few_allocations() {
    // The node is dead, so that only the way to the I/O thread counts. All messages wait for the
    // connection until the end of the test: the end of a message allocates, too.
    let long = Duration::from_secs(600);
    let mut config = Config::default();
    config.connect_timeout = long;
    let client = builder([dead_node("n1")]).config(config).max_outstanding(100_000).timeout(long).cast_timeout(long);
    let client = client.build().unwrap();
    let (context, text) = (RequestContext::new(), "x".repeat(128));
    // The thread takes messages in order. It takes one that has no time left, too, and ends it.
    let short = client.prepare().timeout(Duration::from_millis(1));
    let taken = || {
        let ended = short.call_async::<String>(&context, "echo", &text).unwrap().wait();
        assert!(ended.is_err(), "{ended:?}");
    };
    let cast = each(|| client.cast(&context, "echo", &text).unwrap(), taken);
    let call = each(|| client.call_async::<String>(&context, "echo", &text).unwrap(), taken);
    println!("{cast:.2} allocations for a cast, {call:.2} for a call");
    assert!(cast <= MOST && call <= MOST, "{cast} for a cast, {call} for a call");
    let _ = client.close(Duration::ZERO);
}
