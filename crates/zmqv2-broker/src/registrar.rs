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

/// After the first failure to register, until the next try; then twice as long each time, up to the renewals' interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A broker that ends waits for the directory for this long; a lease that is not withdrawn ends by itself.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// Hands orders to the thread; dropping it withdraws everything and waits for that, but not for ever.
pub(crate) struct Registrar {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended; nothing is ever sent.
    ended: Receiver<()>,
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
        let (running, ended) = crossbeam_channel::bounded(0);
        let (kept, missing) = Default::default();
        let keeper = Keeper { directory, lease, renew_every, kept, missing, retry: None };
        let thread = std::thread::Builder::new().name("registrar".to_owned()).spawn(move || {
            let _running: Sender<()> = running;
            keeper.run(&inbox);
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread), ended })
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
            if self.ended.recv_timeout(LAST_ORDERS) == Err(RecvTimeoutError::Timeout) {
                return log::warn!("the directory is slow; what is registered there ends with its lease");
            }
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

struct Keeper {
    directory: Arc<dyn Matchmaker>,
    lease: Duration,
    renew_every: Duration,
    kept: HashSet<Registration>,
    /// Those of them that the directory did not take when it was last told.
    missing: HashSet<Registration>,
    /// When to try those again, and the interval after that.
    retry: Option<(Instant, Duration)>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut renew_at = now() + self.renew_every;
        loop {
            let wake_at = self.retry.map_or(renew_at, |(at, _)| at.min(renew_at));
            match inbox.recv_deadline(wake_at) {
                Ok(Order::Announce(registration)) => {
                    self.kept.insert(registration.clone());
                    self.register(registration);
                }
                Ok(Order::Withdraw(registration)) => {
                    self.kept.remove(&registration);
                    self.missing.remove(&registration);
                    self.say("withdraw", &registration, &self.directory.withdraw(&registration));
                }
                Err(RecvTimeoutError::Timeout) if now() >= renew_at => {
                    for registration in self.kept.clone() {
                        let result = self.directory.renew(&registration, self.lease);
                        let taken = self.say("renew", &registration, &result);
                        self.note(registration, taken);
                    }
                    renew_at = now() + self.renew_every;
                }
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for registration in &self.kept {
            self.say("withdraw", registration, &self.directory.withdraw(registration));
        }
    }

    /// Whether the directory took it.
    fn register(&mut self, registration: Registration) -> bool {
        let taken = self.say("register", &registration, &self.directory.register(&registration, self.lease));
        self.note(registration, taken);
        taken
    }

    fn note(&mut self, registration: Registration, taken: bool) {
        if taken {
            self.missing.remove(&registration);
        } else {
            self.missing.insert(registration);
            let first = FIRST_RETRY.min(self.renew_every);
            self.retry.get_or_insert_with(|| (now() + first, first * 2));
        }
    }

    fn retry(&mut self) {
        let missing: Vec<_> = self.missing.iter().cloned().collect();
        for registration in missing {
            // A directory that does not take one takes none: orders shall not wait for a timeout of each.
            if !self.register(registration) {
                break;
            }
        }
        self.retry = self.retry.filter(|_| !self.missing.is_empty()).map(|(_, interval)| {
            let interval = interval.min(self.renew_every);
            (now() + interval, interval * 2)
        });
    }

    /// Logs a result; whether it was a success. A failure is not final: registering is tried again, and a lease that is not
    /// withdrawn ends by itself.
    fn say<E: std::fmt::Display>(&self, what: &str, registration: &Registration, result: &Result<(), E>) -> bool {
        let Registration { key, server, .. } = registration;
        match result {
            Ok(()) => log::debug!("{what} {server} of {key} in the {} directory", self.directory.name()),
            Err(error) => {
                log::warn!("cannot {what} {server} of {key} in the {} directory: {error}", self.directory.name());
            }
        }
        result.is_ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "the registrar's thread is a driver: it owns its renewals' clock")]
fn now() -> Instant {
    Instant::now()
}
