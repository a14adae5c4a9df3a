//! Bounds the allocations of a broker for one message.
//!
//! This process is the broker alone. Client and server are processes of the tool, so that the
//! allocator counts only the broker's allocations. Those of libzmq in C++ are not counted, but the
//! descriptor of a frame is.

#![cfg(feature = "tool")]

mod loaded_engine;

use std::alloc::System;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loaded_engine::{LoadedEngine, Size};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use zmqv2_broker::{Broker, Settings, query_status};
use zmqv2_matchmaker::LocalMatchmaker;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, Node, TcpAddress};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of a broker for one call: request in and out, answer in and out.
const PER_CALL: f64 = 6.5;
/// Allocations of the engine for one call.
const PER_ROUND_TRIP: f64 = 0.01;

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// A host that no other test chooses a port of, so the free port stays free.
const HOST: &str = "127.202.1.1";

struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool(dir: &Path, port: u16, words: &[&str]) -> Tool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zmqv2"));
    command.args(words).args(["--host", HOST, "--port", &port.to_string(), "--matchmaker", "local"]);
    command.arg("--ipc-dir").arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Tool(command.spawn().expect("the tool"))
}

#[allow(clippy::disallowed_methods, reason = "a bounded poll of another process, which sends no event")]
fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let end_at = Instant::now() + Duration::from_secs(240);
    while !met() {
        assert!(Instant::now() < end_at, "not in time: {what}");
        // Each look asks for a status report, which allocates as well. Few looks do not count.
        std::thread::sleep(Duration::from_millis(500));
    }
}

// One test, because the counter belongs to the process.
#[test]
fn a_broker_in_steady_state_allocates_little() {
    let mut loaded_engine = LoadedEngine::new(Size { topics: 10, ..Size::SMALL });
    (0..10_000).for_each(|_| loaded_engine.round_trip());
    let before = allocations();
    (0..10_000).for_each(|_| loaded_engine.round_trip());
    let each = (allocations() - before) as f64 / 10_000.0;
    println!("engine: {each:.3} allocations for a call");
    assert!(each <= PER_ROUND_TRIP, "{each} allocations for a call");

    let dir = tempfile::tempdir().expect("a directory");
    let port = TcpListener::bind((HOST, 0)).and_then(|socket| socket.local_addr()).expect("a free port").port();
    let mut config = Config::default();
    (config.host, config.port) = (HOST.parse().expect("a name"), port);
    config.bind_address = HOST.to_owned();
    let settings = Settings::new(&config, dir.path().to_owned()).expect("settings");
    let address = TcpAddress::new(HOST, port).expect("an address");
    let node = Node::new(config.host.clone(), address);
    let broker = Broker::open(settings, Arc::new(LocalMatchmaker::new(node))).expect("a broker");
    let stopper = broker.stopper();
    let loop_thread = std::thread::spawn(move || broker.run().expect("a broker that runs"));
    let _server = tool(dir.path(), port, &["serve", "demo", "--server", "s", "--workers", "4"]);
    let transport = Transport::new(TransportOptions::default());
    let status = || query_status(&transport, dir.path(), Duration::from_secs(10)).expect("a report");
    eventually("a server is there", || status().topics.iter().any(|topic| !topic.servers.is_empty()));
    let _callers = tool(dir.path(), port, &["bench", "call", "demo", "--concurrency", "4", "--duration", "300"]);
    let answered = || status().counters["answered"];
    let after = |calls: u64| eventually("calls are answered", || answered() >= calls);
    after(2_000);
    // Status reports allocate as well, but few compared with so many calls.
    let (before, from) = (allocations(), answered());
    after(from + 20_000);
    let (counted, to) = (allocations() - before, answered());
    let each = counted as f64 / (to - from) as f64;
    println!("broker: {each:.2} allocations for a call, of {} calls", to - from);
    assert!(each <= PER_CALL, "{each} allocations for a call");
    stopper.stop();
    stopper.stop();
    loop_thread.join().expect("a broker that ends");
}
