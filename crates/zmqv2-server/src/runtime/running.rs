//! The handlers that run now, and the server of the present thread.

use std::cell::Cell;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zmqv2_proto::{MessageId, MethodName};

thread_local! {
    /// The server whose worker this thread is: the address of its signals, or null.
    static SERVER: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
}

/// Makes this thread a worker of the server at this address.
pub(crate) fn enter_server(address: *const ()) {
    SERVER.set(address);
}

/// Makes this thread a worker of the server at this address, for a while. Returns what
/// [`leave_server`] needs.
pub(crate) fn enter_for_a_while(address: *const ()) -> *const () {
    SERVER.replace(address)
}

/// This thread is what it was before.
pub(crate) fn leave_server(before: *const ()) {
    SERVER.set(before);
}

/// Whether this thread is a worker of the server at this address.
pub(crate) fn is_in_server(address: *const ()) -> bool {
    SERVER.get() == address
}

/// What each worker of a server runs.
#[derive(Debug)]
pub(crate) struct RunningHandlers(Box<[Mutex<Option<Running>>]>);

/// What a worker runs.
#[derive(Debug, Clone)]
pub(crate) enum Running {
    Method(MethodName),
    /// So many notifications. The type of the first.
    Notifications(String, usize),
    /// A request that the program has taken.
    Request(MessageId),
}

/// A handler runs until this is dropped.
pub(crate) struct RunningGuard<'a>(Option<&'a Mutex<Option<Running>>>);

impl RunningHandlers {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::default()).collect())
    }

    /// A worker begins to run a handler.
    pub(crate) fn enter(&self, worker: u16, running: Running) -> RunningGuard<'_> {
        let slot = self.0.get(usize::from(worker));
        if let Some(slot) = slot {
            *lock(slot) = Some(running);
        }
        RunningGuard(slot)
    }

    /// What this place runs from now on.
    pub(crate) fn set(&self, place: u16, running: Option<Running>) {
        if let Some(slot) = self.0.get(usize::from(place)) {
            *lock(slot) = running;
        }
    }

    /// What runs now, in the order of the workers.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().filter_map(|slot| lock(slot).as_ref().map(ToString::to_string)).collect()
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => f.write_str(method.as_str()),
            Self::Request(id) => write!(f, "request {id}"),
            Self::Notifications(event_type, 1) => write!(f, "notification {event_type}"),
            Self::Notifications(event_type, count) => write!(f, "{count} notifications, first {event_type}"),
        }
    }
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            *lock(slot) = None;
        }
    }
}

fn lock(slot: &Mutex<Option<Running>>) -> MutexGuard<'_, Option<Running>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_named_while_they_run() {
        let handlers = RunningHandlers::new(2);
        let one = handlers.enter(1, Running::Method("add".parse().unwrap()));
        let two = handlers.enter(0, Running::Notifications("disk.full".to_owned(), 3));
        assert_eq!(handlers.names(), ["3 notifications, first disk.full", "add"]);
        drop((one, handlers.enter(9, Running::Method("unknown".parse().unwrap()))));
        assert_eq!(handlers.names(), ["3 notifications, first disk.full"]);
        drop(two);
        assert!(handlers.names().is_empty());
    }
}
