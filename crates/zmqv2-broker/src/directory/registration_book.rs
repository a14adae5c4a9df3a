//! A node's registrations, the changes that the directory has not accepted yet, and the check-ins by
//! which a broker notices that the directory has lost something. Pure.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use zmqv2_matchmaker::Registration;
use zmqv2_proto::deadline;

/// The longest time between two check-ins.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The pause after the first failure. It doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause, and the time over which brokers spread their renewals when the directory has
/// come back. Together they stay well below 10 s.
const MAX_RETRY: Duration = Duration::from_secs(4);
/// All these times are shorter with short leases, but not shorter than this.
const SHORTEST: Duration = Duration::from_millis(100);

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
    /// Kept registrations that the directory has not accepted yet, or may have lost.
    missing: HashSet<Registration>,
    /// Registrations to be withdrawn, with the end of their leases.
    leaving: HashMap<Registration, Instant>,
    renew_at: Instant,
    /// The next renewal comes earlier than usual, and restores everything.
    restoring: bool,
    /// `None`: the directory needs no check-ins.
    check_at: Option<Instant>,
    /// What the directory answered to the last check-in.
    origin: Option<String>,
    /// Counts the check-ins, so that each shows another sample.
    checks: usize,
    failing: Option<Failing>,
}

/// The directory does not answer, or refuses changes.
#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    /// When to check in again.
    retry_at: Instant,
    /// The pause after that.
    pause: Duration,
    /// A change has failed too, and it is unknown what the directory has recorded of it.
    changes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Register(Vec<Registration>),
    /// Renew all leases. This also restores registrations that the directory has lost.
    Renew(Vec<Registration>),
    Withdraw(Vec<Registration>),
    /// Show that the broker lives, and ask whether the directory still has the sample.
    CheckIn {
        again: bool,
        sample: Option<Registration>,
    },
}

/// The directory's answer to a [task](Task).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Failed,
    Accepted,
    /// To a check-in.
    CheckedIn {
        origin: String,
        sample_is_missing: bool,
    },
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
        let (kept, missing, leaving, restoring, origin, checks, failing) = Default::default();
        Self { times, kept, missing, leaving, renew_at, restoring, check_at: Some(now), origin, checks, failing }
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

    /// Withdraws everything, because the broker ends. The next task is this withdrawal.
    pub(super) fn close(&mut self, now: Instant) {
        for registration in self.kept.clone() {
            self.withdraw(registration, now);
        }
        (self.failing, self.check_at) = (None, None);
    }

    /// The next task. After a failure, only check-ins are due until one succeeds.
    pub(super) fn due(&mut self, now: Instant) -> Option<Task> {
        self.leaving.retain(|_, ends| *ends > now);
        let check_at = self.failing.map_or(self.check_at, |failing| Some(failing.retry_at));
        if check_at.is_some_and(|at| at <= now) {
            return Some(self.check_in());
        }
        if self.failing.is_some() {
            return None;
        }
        if !self.leaving.is_empty() {
            return Some(Task::Withdraw(self.leaving.keys().cloned().collect()));
        }
        if self.renew_at <= now {
            if !self.kept.is_empty() {
                return Some(Task::Renew(self.kept.iter().cloned().collect()));
            }
            (self.renew_at, self.restoring) = (deadline(now, self.times.next_renewal()), false);
        }
        if self.restoring {
            return None;
        }
        (!self.missing.is_empty()).then(|| Task::Register(self.missing.iter().cloned().collect()))
    }

    fn check_in(&mut self) -> Task {
        self.checks = self.checks.wrapping_add(1);
        let accepted = || self.kept.iter().filter(|registration| !self.missing.contains(registration));
        let nth = self.checks % self.kept.len().max(1);
        let sample = accepted().nth(nth).or_else(|| accepted().next()).cloned();
        Task::CheckIn { again: self.origin.is_some(), sample }
    }

    pub(super) fn done(&mut self, task: Task, answer: Answer, now: Instant) {
        if answer == Answer::Failed {
            return self.failed(task, now);
        }
        match task {
            Task::Register(registrations) => {
                for registration in registrations {
                    self.missing.remove(&registration);
                }
            }
            Task::Renew(_) => {
                self.missing.clear();
                (self.renew_at, self.restoring) = (deadline(now, self.times.next_renewal()), false);
            }
            Task::Withdraw(registrations) => {
                for registration in registrations {
                    self.leaving.remove(&registration);
                }
            }
            Task::CheckIn { .. } => {
                if let Answer::CheckedIn { origin, sample_is_missing } = answer {
                    self.checked_in(origin, sample_is_missing, now);
                }
            }
        }
    }

    fn failed(&mut self, task: Task, now: Instant) {
        let shortest = self.times.span(FIRST_RETRY);
        let pause = self.failing.map_or(shortest, |failing| failing.pause);
        let next = (pause * 2).min(self.times.span(MAX_RETRY)).max(shortest);
        let is_change = !matches!(task, Task::CheckIn { .. });
        self.failing = Some(Failing {
            since: self.failing.map_or(now, |failing| failing.since),
            retry_at: deadline(now, (self.times.random)(pause / 2, pause)),
            pause: next,
            changes: is_change || self.failing.is_some_and(|failing| failing.changes),
        });
        if let Task::Renew(registrations) = task {
            self.missing.extend(registrations.into_iter().filter(|registration| self.kept.contains(registration)));
        }
    }

    fn checked_in(&mut self, origin: String, sample_is_missing: bool, now: Instant) {
        // A directory without an origin loses nothing.
        self.check_at = (!origin.is_empty()).then(|| now + self.times.next_check());
        let failing = self.failing.take();
        let was_long = failing.is_some_and(|failing| {
            failing.changes || now.saturating_duration_since(failing.since) > self.times.slack() / 4
        });
        let is_another = self.origin.as_ref().is_some_and(|known| *known != origin);
        self.origin = Some(origin);
        if was_long || is_another || sample_is_missing {
            self.missing.extend(self.kept.iter().cloned());
            // All brokers notice the same, so each waits for another random time.
            let spread = self.times.span(MAX_RETRY);
            self.restoring = true;
            self.renew_at = self.renew_at.min(now + (self.times.random)(Duration::ZERO, spread));
        }
    }

    /// When the next task is due, if no change comes before.
    pub(super) fn next(&self) -> Instant {
        match (self.failing, self.check_at) {
            (Some(failing), _) => failing.retry_at,
            (None, Some(check_at)) => check_at.min(self.renew_at),
            (None, None) => self.renew_at,
        }
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

    fn next_check(&self) -> Duration {
        let every = self.span(CHECK_EVERY);
        (self.random)(every * 4 / 5, every)
    }

    /// How long the directory may pause without an end of a lease.
    fn slack(&self) -> Duration {
        self.lease.saturating_sub(self.renew_every)
    }

    /// A span of at most `most`, and so short that two of them fit between a pause of renewals that
    /// the directory overlooks and the end of leases.
    fn span(&self, most: Duration) -> Duration {
        most.min(self.slack() / 8).max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::{Node, TopicKey};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Times =
        Times { renew_every: Duration::from_secs(30), lease: Duration::from_secs(90), random: |_, most| most };

    fn server(name: &str) -> Registration {
        let node = Node::new("n".parse().unwrap(), "n".parse().unwrap());
        Registration { key: TopicKey::parse("x/t").unwrap(), server: name.parse().unwrap(), node }
    }

    fn book() -> (RegistrationBook, Instant) {
        let now = crate::threads::now();
        (RegistrationBook::new(TIMES, now), now)
    }

    /// What the book does at this time, when the directory answers each task like this.
    fn work(book: &mut RegistrationBook, now: Instant, answer: impl Fn() -> Option<(&'static str, bool)>) -> String {
        let mut done = Vec::new();
        while let Some(task) = book.due(now) {
            done.push(match &task {
                Task::Register(_) => "register",
                Task::Renew(_) => "renew",
                Task::Withdraw(_) => "withdraw",
                Task::CheckIn { .. } => "check",
            });
            let answer = match answer() {
                None => Answer::Failed,
                Some((origin, sample_is_missing)) if matches!(task, Task::CheckIn { .. }) => {
                    Answer::CheckedIn { origin: origin.to_owned(), sample_is_missing }
                }
                Some(_) => Answer::Accepted,
            };
            book.done(task, answer, now);
        }
        done.join(" ")
    }

    fn well() -> Option<(&'static str, bool)> {
        Some(("data 1", false))
    }

    fn down() -> Option<(&'static str, bool)> {
        None
    }

    #[test]
    fn changes_that_come_together_make_one_request() {
        let (mut book, now) = book();
        ["a", "b", "c"].iter().for_each(|name| book.announce(server(name)));
        book.withdraw(server("c"), now);
        let Some(Task::CheckIn { again: false, sample: None }) = book.due(now) else { panic!("{book:?}") };
        assert_eq!(work(&mut book, now, well), "check withdraw register");
        assert_eq!((book.due(now), book.counts()), (None, Counts { kept: 2, missing: 0, leaving: 0 }));
        assert_eq!(work(&mut book, now + TIMES.renew_every, well), "check renew");
        assert_eq!(book.renew_at, now + TIMES.renew_every * 2);
    }

    #[test]
    fn check_ins_and_renewals_are_spread_by_random_spans() {
        // The shortest random spans; the other tests use the longest.
        let now = crate::threads::now();
        let mut book = RegistrationBook::new(Times { random: |least, _| least, ..TIMES }, now);
        book.announce(server("a"));
        assert_eq!(work(&mut book, now, well), "check register");
        assert_eq!(book.next(), now + CHECK_EVERY * 4 / 5);
        assert_eq!(book.renew_at, now + TIMES.renew_every * 4 / 5);
        let at = book.next();
        assert_eq!(work(&mut book, at, well), "check");
        let at = book.next();
        assert_eq!(work(&mut book, at, down), "check");
        assert_eq!(book.next(), at + FIRST_RETRY / 2);
    }

    #[test]
    fn a_directory_without_an_origin_is_not_checked() {
        let (mut book, now) = book();
        assert_eq!(work(&mut book, now, || Some(("", false))), "check");
        assert_eq!(book.next(), now + TIMES.renew_every);
        book.announce(server("a"));
        assert_eq!(work(&mut book, now, || Some(("", false))), "register");
        assert_eq!(work(&mut book, now + TIMES.renew_every, || Some(("", false))), "renew");
    }

    #[test]
    fn short_leases_shorten_all_spans_and_pauses_fit_before_their_end() {
        for (renew_every, lease) in [(300, 600), (10, 25), (5, 10), (1, 3), (5, 600)] {
            let times = Times { renew_every: SECOND * renew_every, lease: SECOND * lease, ..TIMES };
            assert!(times.span(MAX_RETRY) * 2 <= times.slack() / 4, "{times:?}");
            assert!(times.span(CHECK_EVERY) * 2 < times.slack() * 3 / 4, "{times:?}: two check-ins before a gap");
        }
    }

    #[test]
    fn a_directory_that_comes_back_with_other_data_gets_everything_after_a_random_span() {
        let (mut book, now) = book();
        ["a", "b"].iter().for_each(|name| book.announce(server(name)));
        assert_eq!(work(&mut book, now, well), "check register");
        // Nothing has failed in between.
        let at = book.next();
        assert_eq!(work(&mut book, at, || Some(("data 2", false))), "check");
        assert_eq!(book.counts().missing, 2);
        assert_eq!(book.renew_at, at + MAX_RETRY, "the longest span");
        book.announce(server("c"));
        assert_eq!(work(&mut book, at, well), "", "it goes together with the others");
        assert_eq!(work(&mut book, at + MAX_RETRY, || Some(("data 2", false))), "check renew");
        assert_eq!(book.counts(), Counts { kept: 3, missing: 0, leaving: 0 });
        assert_eq!(book.renew_at, at + MAX_RETRY + TIMES.renew_every);
        // A lost sample means the same.
        let at = book.next();
        assert_eq!(work(&mut book, at, || Some(("data 2", true))), "check");
        assert_eq!(work(&mut book, at + MAX_RETRY, || Some(("data 2", false))), "check renew");
    }

    #[test]
    fn every_accepted_registration_is_a_sample_now_and_then() {
        let (mut book, now) = book();
        ["a", "b", "c"].iter().for_each(|name| book.announce(server(name)));
        assert_eq!(work(&mut book, now, well), "check register");
        book.announce(server("new"));
        let mut seen = HashSet::new();
        for _ in 0..8 {
            let Task::CheckIn { again: true, sample } = book.check_in() else { panic!("{book:?}") };
            seen.insert(sample.expect("a sample").server.to_string());
        }
        assert_eq!(seen, HashSet::from(["a", "b", "c"].map(str::to_owned)));
    }

    #[test]
    fn after_a_failure_only_check_ins_are_tried_and_then_everything_is_renewed() {
        let (mut book, now) = book();
        book.announce(server("a"));
        assert_eq!(work(&mut book, now, well), "check register");
        book.announce(server("b"));
        assert_eq!(work(&mut book, now, down), "register");
        book.announce(server("c"));
        assert_eq!((work(&mut book, now, down), book.counts().missing), (String::new(), 2));
        let mut at = now;
        for wait in [1, 2, 4, 4] {
            assert_eq!(book.next(), at + SECOND * wait);
            at = book.next();
            assert_eq!(work(&mut book, at, down), "check");
        }
        at = book.next();
        assert_eq!(work(&mut book, at, well), "check");
        assert_eq!(work(&mut book, at + MAX_RETRY, well), "check renew");
        assert_eq!(book.counts(), Counts { kept: 3, missing: 0, leaving: 0 });
    }

    #[test]
    fn a_short_silence_costs_no_renewal_and_a_long_one_does() {
        let (mut book, now) = book();
        book.announce(server("a"));
        assert_eq!(work(&mut book, now, well), "check register");
        let at = book.next();
        assert_eq!(work(&mut book, at, down), "check");
        let at = book.next();
        assert_eq!((work(&mut book, at, well), book.counts().missing), ("check".to_owned(), 0));
        let at = book.next();
        assert_eq!(work(&mut book, at, down), "check");
        let back = at + TIMES.slack() / 4 + SECOND;
        assert_eq!(work(&mut book, back, well), "check");
        assert_eq!(work(&mut book, back + MAX_RETRY, well), "check renew");
    }

    #[test]
    fn a_failed_withdrawal_is_tried_until_the_lease_has_ended() {
        let (mut book, now) = book();
        ["a", "b"].iter().for_each(|name| book.announce(server(name)));
        assert_eq!(work(&mut book, now, well), "check register");
        ["a", "b"].iter().for_each(|name| book.withdraw(server(name), now));
        assert_eq!(work(&mut book, now, down), "withdraw");
        book.announce(server("b"));
        assert_eq!(book.counts().leaving, 1, "a server that is back is not withdrawn");
        let again = book.next();
        assert_eq!(work(&mut book, again, well), "check withdraw");
        assert_eq!(work(&mut book, again + MAX_RETRY, well), "check renew");
        book.withdraw(server("b"), now);
        assert_eq!(work(&mut book, again + MAX_RETRY, down), "withdraw");
        assert_eq!(work(&mut book, now + TIMES.lease, well), "check");
        assert_eq!(book.counts(), Counts::default());
    }

    #[test]
    fn close_withdraws_everything_even_after_a_failure() {
        let (mut book, now) = book();
        ["a", "b"].iter().for_each(|name| book.announce(server(name)));
        assert_eq!(work(&mut book, now, down), "check");
        book.close(now);
        let Some(Task::Withdraw(gone)) = book.due(now) else { panic!("{book:?}") };
        assert_eq!(gone.len(), 2);
    }
}
