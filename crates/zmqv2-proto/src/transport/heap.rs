//! The heap of the C library, which this program and libzmq share.

/// Gives free pages of the heap back to the system, also those between blocks that are in use.
/// Returns whether there were any. Other threads wait meanwhile when they allocate: a few
/// milliseconds for each 100 MB. Without glibc, nothing happens.
pub fn give_back_free_heap() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: takes no pointer, and may be called on any thread.
        unsafe { malloc_trim(0) == 1 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
