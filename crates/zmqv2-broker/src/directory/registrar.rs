//! Keeps the node's servers in the directory, in a thread that may wait for the directory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use zmqv2_matchmaker::{BrokerProcess, CheckIn, CheckedIn, Matchmaker, MatchmakerError, Registration, random_span};
use zmqv2_proto::control::DirectoryStatus;
use zmqv2_proto::{Node, ServerName, TopicKey};

use super::name_conflict::{Change as ConflictChange, NameConflict};
use super::registration_book::{Answer, Counts, RegistrationBook, Task, Times};
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
    process: BrokerProcess,
    state: Arc<Mutex<State>>,
    thread: BackgroundThread<Change>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// When the directory last accepted something.
    confirmed: Option<Instant>,
    /// Why the directory accepts nothing.
    problem: Option<Problem>,
    /// Whether another broker has the name of this node.
    conflict: NameConflict,
    /// Why the directory may not know all servers, and the time when it does.
    incomplete: Option<(Arc<str>, Instant)>,
}

#[derive(Debug)]
struct Problem {
    text: String,
    since: Instant,
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
        let process = BrokerProcess::new(&rustix::system::uname().nodename().to_string_lossy());
        let mut worker = Worker {
            directory: Arc::clone(&directory),
            node: node.clone(),
            process: process.clone(),
            renew_every,
            lease,
            book,
            state: Arc::clone(&state),
        };
        let if_slow = "the directory is slow; this node's registrations there end with their leases";
        let thread = BackgroundThread::start("registrar", if_slow, move |changes| worker.run(changes))?;
        Ok(Self { directory, node, process, state, thread })
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
        let problem = state.problem.as_ref().map(|problem| (problem.text.clone(), problem.since));
        let problem = problem.or_else(|| state.conflict.problem((&self.node, &self.process)));
        status.problem = problem.map(|(text, since)| {
            let seconds = now().saturating_duration_since(since).as_secs();
            format!("{text}, for {seconds} s")
        });
        if status.problem.is_none() {
            let left =
                state.incomplete.as_ref().map(|(reason, until)| (reason, until.saturating_duration_since(now())));
            status.problem = match left.filter(|(_, left)| !left.is_zero()) {
                Some((reason, left)) => Some(format!("may lack servers for {} s: {reason}", left.as_secs())),
                None => self.directory.health().problem().map(str::to_owned),
            };
        }
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
    node: Node,
    process: BrokerProcess,
    renew_every: Duration,
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
                let answer = self.perform(&task);
                self.book.done(task, answer, now());
                if ended {
                    return;
                }
                lock(&self.state).counts = self.book.counts();
            }
            lock(&self.state).counts = self.book.counts();
            if ended {
                return;
            }
        }
    }

    /// Sends a task to the directory.
    fn perform(&self, task: &Task) -> Answer {
        let directory = &self.directory;
        let several = |registrations: &[Registration]| match registrations {
            [Registration { key, server, .. }] => format!("{server} of {key}"),
            several => format!("{} servers", several.len()),
        };
        let accepted = |()| Answer::Accepted;
        let (verb, result) = match task {
            Task::Register(new) => {
                (format!("register {}", several(new)), directory.register_all(new, self.lease).map(accepted))
            }
            Task::Renew(all) => (format!("renew {}", several(all)), directory.renew_all(all, self.lease).map(accepted)),
            Task::Withdraw(gone) => (format!("withdraw {}", several(gone)), directory.withdraw_all(gone).map(accepted)),
            Task::CheckIn { again, sample } => {
                let (lease, renew_every) = (self.lease, self.renew_every);
                let (node, broker, sample) = (&self.node, &self.process, sample.as_ref());
                let check_in = CheckIn { node, broker, again: *again, sample, lease, renew_every };
                let checked = directory.check_in(&check_in);
                ("check in".to_owned(), checked.map(|checked| self.note_checked_in(checked)))
            }
        };
        self.note(&verb, result)
    }

    fn note_checked_in(&self, checked: CheckedIn) -> Answer {
        let (now, name) = (now(), self.directory.name());
        let CheckedIn { origin, sample_is_missing, other_broker, incomplete, .. } = checked;
        let (is_new_doubt, conflict_change, conflict) = {
            // The event loop reads the state, so nothing is logged while it is locked.
            let mut state = lock(&self.state);
            let is_new_doubt = incomplete.is_some() != state.incomplete.is_some();
            state.incomplete = incomplete.clone().map(|(reason, left)| (reason, zmqv2_proto::deadline(now, left)));
            let change = state.conflict.note(other_broker, now);
            let conflict = change.and_then(|_| state.conflict.problem((&self.node, &self.process)));
            (is_new_doubt, change, conflict)
        };
        match &incomplete {
            Some((reason, left)) if is_new_doubt => {
                log::info!("the {name} directory may lack servers for {} s: {reason}", left.as_secs());
            }
            None if is_new_doubt => log::info!("the {name} directory knows all servers"),
            _ => {}
        }
        if let Some((text, _)) = conflict {
            log::warn!("in the {name} directory, {text}");
        }
        if conflict_change == Some(ConflictChange::Ended) {
            log::info!("no other broker has used the name of this node in the {name} directory of late");
        }
        Answer::CheckedIn { origin, sample_is_missing }
    }

    fn note(&self, verb: &str, result: Result<Answer, MatchmakerError>) -> Answer {
        let (name, now) = (self.directory.name(), now());
        match result {
            Ok(answer) => {
                let solved = {
                    let mut state = lock(&self.state);
                    state.confirmed = Some(now);
                    state.problem.take()
                };
                if solved.is_some() {
                    log::info!("the {name} directory accepts this broker's changes again");
                }
                if answer == Answer::Accepted {
                    log::debug!("{verb} in the {name} directory");
                }
                answer
            }
            Err(error) => {
                let text = error.to_string();
                let before = {
                    let mut state = lock(&self.state);
                    let since = state.problem.as_ref().map_or(now, |before| before.since);
                    state.problem.replace(Problem { text: text.clone(), since })
                };
                // Logged once, until it changes or is solved.
                if before.is_none_or(|before| before.text != text) {
                    log::warn!("cannot {verb} in the {name} directory: {text}; trying again");
                }
                Answer::Failed
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
