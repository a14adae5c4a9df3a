//! How much freed memory the programs keep.

use std::hint::black_box;

/// Enough for 64 bodies of 64 KiB in transit, with the buffers of libzmq that they hold.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Makes glibc keep freed memory for the next messages: up to 16 MiB in each of its arenas.
///
/// By default glibc keeps 128 KiB, and returns the rest to the system whenever a large body is
/// freed. When a block of several megabytes is freed, glibc keeps twice its size from then on
/// ("dynamic mmap threshold" in `mallopt(3)`). The block here is never touched, so it costs little.
/// With other allocators, or if the environment sets a threshold (`MALLOC_TRIM_THRESHOLD_` and
/// others), this has no effect.
///
/// Only a program calls this. A library must not decide how much memory its process keeps.
pub fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}
