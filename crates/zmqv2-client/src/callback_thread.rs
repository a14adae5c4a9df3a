//! Whether this thread runs the callbacks of a client: observers and wakers.

use std::cell::Cell;

thread_local! {
    static IS_CALLBACK_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as the I/O thread of a client, which runs its callbacks.
pub(crate) fn enter() {
    IS_CALLBACK_THREAD.set(true);
}

/// Whether this is the I/O thread of some client. It must not wait: for a message of its own client
/// it would wait for ever, and two clients could wait for each other.
pub(crate) fn is_current() -> bool {
    IS_CALLBACK_THREAD.get()
}
