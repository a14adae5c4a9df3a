//! Keeps the node's servers in the directory, from a thread of its own: a slow directory never stops the broker.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use zmqv2_matchmaker::{Matchmaker, Registration};

enum Order {
    Announce(Registration),
    Withdraw(Registration),
}

/// Hands orders to the thread; dropping it withdraws everything and waits for that.
pub(crate) struct Registrar {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Registrar {
    /// Starts the thread; it renews every `renew_every`, for `lease` each time.
    pub(crate) fn start(
        directory: Arc<dyn Matchmaker>,
        renew_every: Duration,
        lease: Duration,
    ) -> std::io::Result<Self> {
        // Unbounded, but a server that comes or goes is one small order, and their number is bounded by file descriptors.
        let (orders, inbox) = crossbeam_channel::unbounded();
        let keeper = Keeper { directory, lease, kept: HashSet::new() };
        let thread =
            std::thread::Builder::new().name("registrar".to_owned()).spawn(move || keeper.run(&inbox, renew_every))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    pub(crate) fn announce(&self, registration: Registration) {
        self.order(Order::Announce(registration));
    }

    pub(crate) fn withdraw(&self, registration: Registration) {
        self.order(Order::Withdraw(registration));
    }

    fn order(&self, order: Order) {
        if self.orders.as_ref().is_some_and(|orders| orders.send(order).is_err()) {
            log::error!("the registrar has ended; the directory no longer follows this broker");
        }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

struct Keeper {
    directory: Arc<dyn Matchmaker>,
    lease: Duration,
    kept: HashSet<Registration>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Order>, renew_every: Duration) {
        let mut renew_at = now() + renew_every;
        loop {
            match inbox.recv_deadline(renew_at) {
                Ok(Order::Announce(registration)) => {
                    self.say("register", &registration, self.directory.register(&registration, self.lease));
                    self.kept.insert(registration);
                }
                Ok(Order::Withdraw(registration)) => {
                    self.kept.remove(&registration);
                    self.say("withdraw", &registration, self.directory.withdraw(&registration));
                }
                Err(RecvTimeoutError::Timeout) => {
                    for registration in &self.kept {
                        self.say("renew", registration, self.directory.renew(registration, self.lease));
                    }
                    renew_at = now() + renew_every;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for registration in &self.kept {
            self.say("withdraw", registration, self.directory.withdraw(registration));
        }
    }

    /// A failure is not final: the next renewal tries again, and a lease that is not withdrawn ends by itself.
    fn say<E: std::fmt::Display>(&self, what: &str, registration: &Registration, result: Result<(), E>) {
        let Registration { key, server, .. } = registration;
        match result {
            Ok(()) => log::debug!("{what} {server} of {key} in the {} directory", self.directory.name()),
            Err(error) => {
                log::warn!("cannot {what} {server} of {key} in the {} directory: {error}", self.directory.name());
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the registrar's thread is a driver: it owns its renewals' clock")]
fn now() -> Instant {
    Instant::now()
}
