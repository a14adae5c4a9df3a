//! Bounds the allocations of a broker for one message.
//!
//! This process is the broker alone. Client and server are processes of the tool, so that the
//! allocator counts only the broker's allocations. Those of libzmq in C++ are not counted, but the
//! descriptor of a frame is.

#![cfg(feature = "tool")]

mod loaded_engine;

use std::alloc::System;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

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
/// The calls to a broker that are counted, and how long they may take.
const CALLS: u64 = 20_000;
const MOST_SECONDS: u32 = 60;

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

impl Tool {
    fn start(dir: &Path, port: u16, words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zmqv2"));
        command.args(words).args(["--host", HOST, "--port", &port.to_string(), "--matchmaker", "local"]);
        command.arg("--ipc-dir").arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().expect("the tool"))
    }

    /// Waits for the line on stderr that begins with `ready`. The end of the program also ends the
    /// wait.
    fn ready(mut self) -> Self {
        let log = BufReader::new(self.0.stderr.take().expect("a pipe"));
        assert!(log.lines().map_while(Result::ok).any(|line| line.starts_with("ready")), "it never was ready");
        self
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
    let _server = Tool::start(dir.path(), port, &["serve", "demo", "--server", "s", "--workers", "4"]).ready();
    let transport = Transport::new(TransportOptions::default());
    let status = || query_status(&transport, dir.path(), Duration::from_secs(10)).expect("a report");
    let answered = || status().counters["answered"];
    // Ends by itself after the second.
    let call_for_a_second = || {
        let callers = ["bench", "call", "demo", "--concurrency", "4", "--duration", "1"];
        let ended = Tool::start(dir.path(), port, &callers).0.wait().expect("a program that ends");
        assert!(ended.success(), "{ended}");
    };
    call_for_a_second();
    // Status reports and new clients allocate as well, but few compared with so many calls.
    let (before, from, mut to) = (allocations(), answered(), 0);
    for _ in 0..MOST_SECONDS {
        call_for_a_second();
        to = answered();
        if to - from >= CALLS {
            break;
        }
    }
    assert!(to - from >= CALLS, "only {} calls in {MOST_SECONDS} s", to - from);
    let counted = allocations() - before;
    let each = counted as f64 / (to - from) as f64;
    println!("broker: {each:.2} allocations for a call, of {} calls", to - from);
    assert!(each <= PER_CALL, "{each} allocations for a call");
    stopper.stop();
    stopper.stop();
    loop_thread.join().expect("a broker that ends");
}
