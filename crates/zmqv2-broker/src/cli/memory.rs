//! How much freed memory the programs keep.

use std::hint::black_box;

/// Enough for 64 bodies of 64 KiB in transit, with the buffers of libzmq that they hold.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Makes glibc keep freed memory for the next messages: up to 16 MiB in each of its arenas.
///
/// By default glibc keeps 128 KiB. It returns the rest to the system whenever a large body is
/// freed, and gets it again page by page for the next one. When a block of several megabytes is
/// freed, glibc expects more of them, and keeps twice its size ("dynamic mmap threshold" in
/// `mallopt(3)`). The block here is never touched, so it costs nothing. This has no effect with
/// other allocators, or if the environment sets the threshold (`MALLOC_TRIM_THRESHOLD_` and
/// others).
///
/// A program calls this once. A library must not decide how much memory its process keeps.
pub fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}
