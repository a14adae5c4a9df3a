//! Freed memory is kept for the next message. This test has its own process, because both the
//! counter and the kept memory belong to the process.

#![cfg(all(feature = "daemon", target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;

use zmqv2_broker::cli::keep_freed_memory;

/// The smallest size of a page in bytes.
const PAGE: u64 = 4096;
/// Bodies at the same time, their size, and the number of rounds.
const BODIES: u64 = 32;
const SIZE: u64 = 65_536;
const ROUNDS: u64 = 50;

/// The pages that this process has received so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    fields.split_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a number")
}

fn faults_of_bodies() -> u64 {
    let before = faults();
    for _ in 0..ROUNDS {
        let bodies: Vec<_> = (0..BODIES).map(|_| vec![1_u8; SIZE as usize]).collect();
        drop(black_box(bodies));
    }
    faults() - before
}

#[test]
fn memory_of_bodies_is_not_returned_to_the_system() {
    let given_back = faults_of_bodies();
    keep_freed_memory();
    faults_of_bodies();
    let kept = faults_of_bodies();
    let all = BODIES * SIZE * ROUNDS / PAGE;
    println!("{given_back} of {all} pages by default, {kept} when freed memory is kept");
    assert!(kept < all / 20, "{kept} pages of {all}");
}
