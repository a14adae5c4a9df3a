//! Keeps the node's servers in the directory, from a thread of its own: a slow directory never stops the broker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use zmqv2_matchmaker::{Health, Matchmaker, MatchmakerError, Registration, random_span};
use zmqv2_proto::control::DirectoryStatus;

use super::registration_book::{Counts, RegistrationBook, Task, Times};

enum Order {
    Announce(Registration),
    Withdraw(Registration),
}

/// A broker that ends waits for the directory for this long; a lease that is not withdrawn ends by itself.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// Hands orders to the thread; dropping it withdraws everything and waits for that, but not for ever.
pub(crate) struct Registrar {
    directory: Arc<dyn Matchmaker>,
    state: Arc<Mutex<State>>,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended; nothing is ever sent.
    ended: Receiver<()>,
}

/// What the thread lets others know.
#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// When the directory took something last.
    confirmed: Option<Instant>,
    problem: Option<String>,
}

impl Registrar {
    /// Starts the thread; it renews every `renew_every` at the latest, for `lease` each time.
    pub(crate) fn start(
        directory: Arc<dyn Matchmaker>,
        renew_every: Duration,
        lease: Duration,
    ) -> std::io::Result<Self> {
        // Unbounded, but a server that comes or goes is one small order, and their number is bounded by file descriptors.
        let (orders, inbox) = crossbeam_channel::unbounded();
        let (running, ended) = crossbeam_channel::bounded(0);
        let state = Arc::<Mutex<State>>::default();
        let book = RegistrationBook::new(Times { renew_every, lease, spread: random_span }, now());
        let mut keeper = Keeper { directory: Arc::clone(&directory), lease, book, state: Arc::clone(&state) };
        let thread = std::thread::Builder::new().name("registrar".to_owned()).spawn(move || {
            let _running: Sender<()> = running;
            keeper.run(&inbox);
        })?;
        Ok(Self { directory, state, orders: Some(orders), thread: Some(thread), ended })
    }

    pub(crate) fn announce(&self, registration: Registration) {
        self.order(Order::Announce(registration));
    }

    pub(crate) fn withdraw(&self, registration: Registration) {
        self.order(Order::Withdraw(registration));
    }

    /// How well the directory follows this broker.
    pub(crate) fn status(&self) -> DirectoryStatus {
        let state = lock(&self.state);
        let mut status = DirectoryStatus::new(self.directory.name());
        let Counts { kept, missing, leaving } = state.counts;
        (status.registrations, status.missing, status.leaving) = (kept as u64, missing as u64, leaving as u64);
        status.confirmed_s = state.confirmed.map(|at| now().saturating_duration_since(at).as_secs_f64());
        status.problem = state.problem.clone().or_else(|| match self.directory.health() {
            Health::Stale { reason } => Some(reason),
            _ => None,
        });
        status
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
    book: RegistrationBook,
    state: Arc<Mutex<State>>,
}

impl Keeper {
    fn run(&mut self, inbox: &Receiver<Order>) {
        loop {
            let order = inbox.recv_deadline(self.book.next());
            let ended = matches!(order, Err(RecvTimeoutError::Disconnected));
            // All that has come, so that it is told in one go.
            for order in order.into_iter().chain(inbox.try_iter()) {
                match order {
                    Order::Announce(registration) => self.book.announce(registration),
                    Order::Withdraw(registration) => self.book.withdraw(registration, now()),
                }
            }
            if ended {
                self.book.close(now());
            }
            while let Some(task) = self.book.due(now()) {
                let taken = self.tell(&task);
                self.book.done(task, taken, now());
                if ended {
                    return;
                }
            }
            lock(&self.state).counts = self.book.counts();
            if ended {
                return;
            }
        }
    }

    /// Tells the directory; whether it took it. A failure is not final: it is tried again, and a lease that is not withdrawn
    /// ends by itself.
    fn tell(&self, task: &Task) -> bool {
        let (what, registrations, result) = match task {
            Task::Register(new) => ("register", new, self.directory.register_all(new, self.lease)),
            Task::Renew(all) => ("renew", all, self.directory.renew_all(all, self.lease)),
            Task::Withdraw(gone) => ("withdraw", gone, self.directory.withdraw_all(gone)),
        };
        let name = self.directory.name();
        let shown = match &registrations[..] {
            [Registration { key, server, .. }] => format!("{server} of {key}"),
            several => format!("{} servers", several.len()),
        };
        let mut state = lock(&self.state);
        match &result {
            Ok(()) => {
                state.confirmed = Some(now());
                if state.problem.take().is_some() {
                    log::info!("the {name} directory follows this broker again");
                }
                log::debug!("{what} {shown} in the {name} directory");
            }
            Err(error) => self.complain(&mut state, &format!("cannot {what} {shown}"), error),
        }
        result.is_ok()
    }

    /// Logs a problem once, until it is another one or has gone.
    fn complain(&self, state: &mut State, what: &str, error: &MatchmakerError) {
        let problem = error.to_string();
        if state.problem.as_ref() != Some(&problem) {
            log::warn!("{what} in the {} directory: {problem}; trying again", self.directory.name());
        }
        state.problem = Some(problem);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "the registrar's thread is a driver: it owns its renewals' clock")]
fn now() -> Instant {
    Instant::now()
}
