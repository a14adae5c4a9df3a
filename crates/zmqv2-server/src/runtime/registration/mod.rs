//! Keeps a server registered at its node's broker: at the start, after the broker restarts, and
//! every few seconds as a sign of life. Withdraws it when the server stops.

mod link;
mod refused_log;
mod state;
mod thread;

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

pub(crate) use link::BrokerLink;
pub(crate) use state::SIGN_INTERVAL;
pub(crate) use thread::RegistrationThread;

/// Whether the broker has accepted the registration. Other threads can wait for it.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    ready: Mutex<bool>,
    changed: Condvar,
}

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
        self.changed.notify_all();
    }

    pub(crate) fn get(&self) -> bool {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most `timeout` until it is ready. Returns whether it is.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ready, timeout, |ready| !*ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
