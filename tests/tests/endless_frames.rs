//! libzmq keeps the frames of a message until its last one, and has no bound for them. A limit of the
//! system bounds the process, and everybody comes back after its end (`docs/operations.md`).

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use zmqv2_client::{RequestContext, RpcClient};
use zmqv2_proto::Target;
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, echo, eventually};

/// What the system lets the broker have, and what is counted elsewhere: its program and libraries.
const LIMIT_MIB: u64 = 300;
const BESIDE_MIB: u64 = 64;
/// Enough to take gigabytes: an empty frame has 2 bytes on the wire, and 64 in libzmq.
const FLOOD_BYTES: usize = 100 << 20;
/// A frame that is not the last one of its message.
const EMPTY_FRAME: [u8; 2] = [1, 0];

fn patient_client(node: &Node) -> RpcClient {
    let client = node.client_with(Target::topic("t").unwrap(), |config| config.response_timeout = PATIENCE);
    client.prepare().retry(100)
}

/// The most memory that a process has had so far. `None` once it has ended.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

fn is_served(client: &RpcClient) -> bool {
    echo(client, "x").is_ok_and(|server| server == "s")
}

#[test]
fn a_limit_of_the_system_bounds_a_broker_that_gets_endless_frames_and_all_come_back() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let mut broker = node.broker();
    let _server = node.serve("t", "s", &["--workers", "2"]);
    let client = patient_client(node);
    assert!(is_served(&client));
    // As `ulimit -d` does.
    let pid = Pid::from_raw(broker.id().cast_signed());
    let bytes = Some(LIMIT_MIB << 20);
    prlimit(pid, Resource::Data, Rlimit { current: bytes, maximum: bytes }).unwrap();
    let mut peer = Zmtp::tcp(format!("{}:9501", node.host), "DEALER").unwrap();
    let frames = EMPTY_FRAME.repeat(32 << 10);
    let mut peak = peak_kib(broker.id()).expect("a living process");
    let ended = (0..FLOOD_BYTES / frames.len()).find_map(|_| {
        let sent = peer.send_raw(&frames);
        peak = peak_kib(broker.id()).unwrap_or(peak);
        sent.err()
    });
    assert!(ended.is_some(), "the broker took {FLOOD_BYTES} bytes");
    println!("{} MiB at most", peak / 1024);
    assert!(peak / 1024 < LIMIT_MIB + BESIDE_MIB, "{} MiB", peak / 1024);
    // The system, or a supervisor, starts it again.
    let status = broker.wait_end(PATIENCE);
    assert!(!status.success(), "{status}");
    let _broker = node.broker();
    eventually("the same client reaches the same server", || is_served(&client));
    let cast = client.cast(&RequestContext::new(), "echo", &"x").unwrap();
    assert!(cast.wait(PATIENCE + Duration::from_secs(1)).unwrap().is_acked());
}
