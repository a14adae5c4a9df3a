//! Freed memory is kept for the next message. In a process of its own: the counter is the process's, and so is what it keeps.

#![cfg(all(feature = "daemon", target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;

use zmqv2_broker::cli::keep_freed_memory;

/// Bytes of a page, at least.
const PAGE: u64 = 4096;
/// Bodies that are on their way at once, how large they are, and how often.
const BODIES: u64 = 32;
const SIZE: u64 = 65_536;
const ROUNDS: u64 = 50;

/// The pages that this process was given so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    fields.split_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a number")
}

fn come_and_go() -> u64 {
    let before = faults();
    for _ in 0..ROUNDS {
        let bodies: Vec<_> = (0..BODIES).map(|_| vec![1_u8; SIZE as usize]).collect();
        drop(black_box(bodies));
    }
    faults() - before
}

#[test]
fn memory_of_bodies_is_not_given_back_and_taken_again() {
    let given_back = come_and_go();
    keep_freed_memory();
    come_and_go();
    let kept = come_and_go();
    let all = BODIES * SIZE * ROUNDS / PAGE;
    println!("{given_back} pages of {all} by itself, {kept} when freed memory is kept");
    assert!(kept < all / 20, "{kept} pages of {all}");
}
