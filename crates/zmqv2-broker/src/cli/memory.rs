//! How much freed memory our programs keep.

use std::hint::black_box;

/// What 64 bodies of 64 KiB on their way take, with the buffers of libzmq that they hold.
const COMES_AND_GOES: usize = 8 * 1024 * 1024;

/// Keeps freed memory for the next messages: up to 16 MiB in each of glibc's arenas.
///
/// By itself, glibc keeps 128 KiB, gives back what is more with each large body that is freed, and gets it again page by page for the next one.
/// A block of megabytes that is freed tells it that such blocks come and go, and it then keeps twice as much ("dynamic mmap threshold" in
/// `mallopt(3)`). This block is never touched, and costs nothing. Without effect where the environment (`MALLOC_TRIM_THRESHOLD_` and its
/// like) says what to keep, and with other allocators.
///
/// To be called once, by a program: how much a process keeps is not for a library to say.
pub fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(COMES_AND_GOES)));
}
