//! A node's registrations, and the changes that the directory has not accepted yet. Pure.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use zmqv2_matchmaker::Registration;
use zmqv2_proto::deadline;

/// The pause after the first failure. It doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause. A directory that works again gets the changes within this time.
const MAX_RETRY: Duration = Duration::from_secs(5);

/// The interval of renewals, the lease of each, and a random span between two others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) renew_every: Duration,
    pub(super) lease: Duration,
    pub(super) random: fn(Duration, Duration) -> Duration,
}

#[derive(Debug)]
pub(super) struct RegistrationBook {
    times: Times,
    kept: HashSet<Registration>,
    /// Kept registrations that the directory has not accepted yet.
    missing: HashSet<Registration>,
    /// Registrations to be withdrawn, with the end of their leases.
    leaving: HashMap<Registration, Instant>,
    renew_at: Instant,
    /// After a failure: when to try again, and the pause after that.
    retry: Option<(Instant, Duration)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Register(Vec<Registration>),
    /// Renew all leases. This also restores registrations that the directory has lost.
    Renew(Vec<Registration>),
    Withdraw(Vec<Registration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) kept: usize,
    pub(super) missing: usize,
    pub(super) leaving: usize,
}

impl RegistrationBook {
    pub(super) fn new(times: Times, now: Instant) -> Self {
        let renew_at = deadline(now, times.next_renewal());
        let (kept, missing, leaving) = Default::default();
        Self { times, kept, missing, leaving, renew_at, retry: None }
    }

    pub(super) fn announce(&mut self, registration: Registration) {
        self.leaving.remove(&registration);
        self.missing.insert(registration.clone());
        self.kept.insert(registration);
    }

    pub(super) fn withdraw(&mut self, registration: Registration, now: Instant) {
        self.kept.remove(&registration);
        self.missing.remove(&registration);
        self.leaving.insert(registration, deadline(now, self.times.lease));
    }

    /// Withdraws everything, because the broker ends.
    pub(super) fn close(&mut self, now: Instant) {
        for registration in self.kept.clone() {
            self.withdraw(registration, now);
        }
        self.retry = None;
    }

    /// The next task. After a failure there is none until the pause has ended. Then all
    /// registrations are renewed.
    pub(super) fn due(&mut self, now: Instant) -> Option<Task> {
        self.leaving.retain(|_, ends| *ends > now);
        if self.retry.is_some_and(|(at, _)| at > now) {
            return None;
        }
        if !self.leaving.is_empty() {
            return Some(Task::Withdraw(self.leaving.keys().cloned().collect()));
        }
        let again = self.retry.is_some() || self.renew_at <= now;
        if again && !self.kept.is_empty() {
            return Some(Task::Renew(self.kept.iter().cloned().collect()));
        }
        if again {
            (self.retry, self.renew_at) = (None, deadline(now, self.times.next_renewal()));
        }
        (!self.missing.is_empty()).then(|| Task::Register(self.missing.iter().cloned().collect()))
    }

    pub(super) fn done(&mut self, task: Task, accepted: bool, now: Instant) {
        if !accepted {
            let interval = self.retry.map_or(FIRST_RETRY.min(self.times.renew_every), |(_, interval)| interval);
            let next = (interval * 2).min(MAX_RETRY).min(self.times.renew_every).max(interval);
            self.retry = Some((deadline(now, (self.times.random)(interval / 2, interval)), next));
            if let Task::Renew(registrations) = task {
                self.missing.extend(registrations.into_iter().filter(|registration| self.kept.contains(registration)));
            }
            return;
        }
        match task {
            Task::Register(registrations) => {
                for registration in registrations {
                    self.missing.remove(&registration);
                }
            }
            Task::Renew(_) => {
                self.missing.clear();
                (self.retry, self.renew_at) = (None, deadline(now, self.times.next_renewal()));
            }
            Task::Withdraw(registrations) => {
                for registration in registrations {
                    self.leaving.remove(&registration);
                }
            }
        }
    }

    /// When the next task is due, if no change comes before.
    pub(super) fn next(&self) -> Instant {
        self.retry.map_or(self.renew_at, |(at, _)| at)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { kept: self.kept.len(), missing: self.missing.len(), leaving: self.leaving.len() }
    }
}

impl Times {
    /// Random, so that nodes that started together do not renew together.
    fn next_renewal(&self) -> Duration {
        (self.random)(self.renew_every * 4 / 5, self.renew_every)
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::{Node, TopicKey};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Times =
        Times { renew_every: Duration::from_secs(10), lease: Duration::from_secs(25), random: |_, most| most };

    fn server(name: &str) -> Registration {
        let node = Node::new("n".parse().unwrap(), "n".parse().unwrap());
        Registration { key: TopicKey::parse("x/t").unwrap(), server: name.parse().unwrap(), node }
    }

    fn book() -> (RegistrationBook, Instant) {
        let now = crate::threads::now();
        (RegistrationBook::new(TIMES, now), now)
    }

    fn work(book: &mut RegistrationBook, now: Instant, taken: bool) -> Vec<&'static str> {
        let mut done = Vec::new();
        while let Some(task) = book.due(now) {
            done.push(match &task {
                Task::Register(_) => "register",
                Task::Renew(_) => "renew",
                Task::Withdraw(_) => "withdraw",
            });
            book.done(task, taken, now);
        }
        done
    }

    #[test]
    fn changes_that_come_together_make_one_request() {
        let (mut book, now) = book();
        ["a", "b", "c"].iter().for_each(|name| book.announce(server(name)));
        book.withdraw(server("c"), now);
        let Some(Task::Withdraw(gone)) = book.due(now) else { panic!("{book:?}") };
        assert_eq!(gone, [server("c")]);
        book.done(Task::Withdraw(gone), true, now);
        let Some(Task::Register(new)) = book.due(now) else { panic!("{book:?}") };
        assert_eq!(new.len(), 2);
        book.done(Task::Register(new), true, now);
        assert_eq!((book.due(now), book.counts().kept), (None, 2));
        assert_eq!(book.next(), now + TIMES.renew_every);
        assert_eq!(work(&mut book, now + TIMES.renew_every, true), ["renew"]);
        assert_eq!(book.next(), now + TIMES.renew_every * 2);
    }

    #[test]
    fn renewals_and_retries_are_spread_by_random_spans() {
        // The shortest random spans; the other tests use the longest.
        let now = crate::threads::now();
        let mut book = RegistrationBook::new(Times { random: |least, _| least, ..TIMES }, now);
        book.announce(server("a"));
        assert_eq!(work(&mut book, now, true), ["register"]);
        let mut at = now;
        for _ in 0..3 {
            assert_eq!(book.next(), at + TIMES.renew_every * 4 / 5);
            at = book.next();
            assert_eq!(work(&mut book, at, true), ["renew"]);
        }
        at = book.next();
        assert_eq!(work(&mut book, at, false), ["renew"]);
        assert_eq!(book.next(), at + FIRST_RETRY / 2);
    }

    #[test]
    fn after_a_failure_everything_is_renewed_in_one_request() {
        let (mut book, now) = book();
        book.announce(server("a"));
        assert_eq!(work(&mut book, now, true), ["register"]);
        book.announce(server("b"));
        assert_eq!(work(&mut book, now, false), ["register"]);
        book.announce(server("c"));
        assert_eq!((work(&mut book, now, false), book.counts().missing), (vec![], 2));
        let mut at = now;
        for wait in [1, 2, 4, 5, 5] {
            assert_eq!(book.next(), at + SECOND * wait);
            at = book.next();
            assert_eq!(work(&mut book, at, false), ["renew"]);
        }
        assert_eq!(book.counts().missing, 3, "after a failed renewal the directory may have lost everything");
        at = book.next();
        assert_eq!(work(&mut book, at, true), ["renew"]);
        assert_eq!(book.counts(), Counts { kept: 3, missing: 0, leaving: 0 });
        assert_eq!(book.next(), at + TIMES.renew_every);
    }

    #[test]
    fn a_failed_withdrawal_is_tried_until_the_lease_has_ended() {
        let (mut book, now) = book();
        ["a", "b"].iter().for_each(|name| book.announce(server(name)));
        assert_eq!(work(&mut book, now, true), ["register"]);
        ["a", "b"].iter().for_each(|name| book.withdraw(server(name), now));
        assert_eq!(work(&mut book, now, false), ["withdraw"]);
        book.announce(server("b"));
        assert_eq!(book.counts().leaving, 1, "a server that is back is not withdrawn");
        let again = book.next();
        assert_eq!(work(&mut book, again, true), ["withdraw", "renew"]);
        book.withdraw(server("b"), now);
        assert_eq!(work(&mut book, now + SECOND, false), ["withdraw"]);
        assert_eq!(work(&mut book, now + TIMES.lease, true), Vec::<&str>::new());
        assert_eq!(book.counts(), Counts::default());
    }

    #[test]
    fn close_withdraws_everything_even_after_a_failure() {
        let (mut book, now) = book();
        ["a", "b"].iter().for_each(|name| book.announce(server(name)));
        assert_eq!(work(&mut book, now, false), ["register"]);
        book.close(now);
        let Some(Task::Withdraw(gone)) = book.due(now) else { panic!("{book:?}") };
        assert_eq!(gone.len(), 2);
    }
}
