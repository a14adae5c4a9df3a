//! Processes, nodes and peers that tests start, watch and stop.

pub mod binaries;
pub mod clock;
pub mod cluster;
pub mod delay_relay;
pub mod fork;
pub mod gate;
pub mod kernel;
pub mod namespaces;
pub mod notifications;
pub mod private_network;
pub mod process;
pub mod redis;
pub mod relay;
pub mod terminal;
pub mod zmtp;

/// Prints that a test was skipped. With `ZMQV2_REQUIRE_ALL=1` a skip is a failure.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("ZMQV2_REQUIRE_ALL").is_none_or(|value| value != "1"), "{test} was skipped: {why}");
    eprintln!("SKIPPED {test}: {why}");
}
