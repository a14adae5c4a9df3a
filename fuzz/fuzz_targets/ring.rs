//! Any bytes as the ring file.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use zmqv2_matchmaker::{Matchmaker, RingMatchmaker};
use zmqv2_proto::Target;

thread_local! {
    static DIR: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    DIR.with(|dir| {
        let path = dir.get_or_init(|| tempfile::tempdir().expect("a directory")).path().join("ring.json");
        std::fs::write(&path, bytes).expect("a file");
        match RingMatchmaker::open(&path, 9501) {
            Ok(ring) => {
                ring.resolve_all(&Target::topic("demo").expect("a topic").key()).expect("an answer");
                ring.list().expect("a list");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
});
