//! Keeps the node's servers in the directory, in a thread that may wait for the directory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use zmqv2_matchmaker::{Matchmaker, Registration, random_span};
use zmqv2_proto::control::DirectoryStatus;
use zmqv2_proto::{Node, ServerName, TopicKey};

use super::registration_book::{Counts, RegistrationBook, Task, Times};
use crate::threads::{BackgroundThread, now};

enum Change {
    Announce(Registration),
    Withdraw(Registration),
}

/// Sends changes to the thread. Dropping it withdraws everything. If the directory is slow, the
/// leases expire instead.
pub(crate) struct Registrar {
    directory: Arc<dyn Matchmaker>,
    node: Node,
    state: Arc<Mutex<State>>,
    thread: BackgroundThread<Change>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// When the directory last accepted something.
    confirmed: Option<Instant>,
    problem: Option<String>,
}

impl Registrar {
    /// Starts the thread. It renews registrations for `lease`, at least every `renew_every`.
    pub(crate) fn start(
        directory: Arc<dyn Matchmaker>,
        node: Node,
        renew_every: Duration,
        lease: Duration,
    ) -> std::io::Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let book = RegistrationBook::new(Times { renew_every, lease, random: random_span }, now());
        let mut worker = Worker { directory: Arc::clone(&directory), lease, book, state: Arc::clone(&state) };
        let if_slow = "the directory is slow; this node's registrations there end with their leases";
        let thread = BackgroundThread::start("registrar", if_slow, move |changes| worker.run(changes))?;
        Ok(Self { directory, node, state, thread })
    }

    pub(crate) fn announce(&self, key: TopicKey, server: ServerName) {
        log::info!("{server} serves {key}");
        self.submit(Change::Announce(Registration { key, server, node: self.node.clone() }));
    }

    pub(crate) fn withdraw(&self, key: TopicKey, server: ServerName) {
        log::info!("{server} no longer serves {key}");
        self.submit(Change::Withdraw(Registration { key, server, node: self.node.clone() }));
    }

    pub(crate) fn status(&self) -> DirectoryStatus {
        let state = lock(&self.state);
        let mut status = DirectoryStatus::new(self.directory.name());
        let Counts { kept, missing, leaving } = state.counts;
        (status.registrations, status.missing, status.leaving) = (kept as u64, missing as u64, leaving as u64);
        status.confirmed_s = state.confirmed.map(|at| now().saturating_duration_since(at).as_secs_f64());
        status.problem = state.problem.clone().or_else(|| self.directory.health().problem().map(str::to_owned));
        status
    }

    fn submit(&self, change: Change) {
        if !self.thread.submit(change) {
            log::error!("the registrar has ended; this broker no longer updates the directory");
        }
    }
}

struct Worker {
    directory: Arc<dyn Matchmaker>,
    lease: Duration,
    book: RegistrationBook,
    state: Arc<Mutex<State>>,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Change>) {
        loop {
            let change = inbox.recv_deadline(self.book.next());
            let ended = matches!(change, Err(RecvTimeoutError::Disconnected));
            // Takes all waiting changes, so that the directory gets them in one request.
            for change in change.into_iter().chain(inbox.try_iter()) {
                match change {
                    Change::Announce(registration) => self.book.announce(registration),
                    Change::Withdraw(registration) => self.book.withdraw(registration, now()),
                }
            }
            if ended {
                self.book.close(now());
            }
            while let Some(task) = self.book.due(now()) {
                let accepted = self.perform(&task);
                self.book.done(task, accepted, now());
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

    /// Sends a task to the directory. Returns whether the directory accepted it.
    fn perform(&self, task: &Task) -> bool {
        let (verb, registrations, result) = match task {
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
                    log::info!("the {name} directory accepts this broker's changes again");
                }
                log::debug!("{verb} {shown} in the {name} directory");
            }
            Err(error) => {
                let problem = error.to_string();
                // Logged once, until it changes or is solved.
                if state.problem.as_ref() != Some(&problem) {
                    log::warn!("cannot {verb} {shown} in the {name} directory: {problem}; trying again");
                }
                state.problem = Some(problem);
            }
        }
        result.is_ok()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
