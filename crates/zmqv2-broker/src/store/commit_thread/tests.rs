use std::sync::{Arc, Mutex};

use super::super::{Contents, Record, StoreError};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store that fails, panics and waits on command, and reports its commits.
struct Fake {
    commands: Receiver<Mode>,
    mode: Mode,
    commits: Sender<Vec<Change>>,
    kept: Arc<Mutex<Vec<u64>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Fine,
    Failing,
    Panicking,
}

impl Store for Fake {
    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn load(&mut self) -> Result<Contents, StoreError> {
        Ok(Contents::default())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.commits.send(changes.to_vec()).unwrap();
        // Each commit waits until the test says how it ends.
        self.mode = self.commands.recv().unwrap_or(self.mode);
        if self.mode == Mode::Panicking {
            panic!("as commanded");
        }
        let mut kept = self.kept.lock().unwrap();
        for change in changes {
            match change {
                Change::Put(record) => kept.push(record.number),
                Change::Erase(number) | Change::MoveToDeadLetters { number, .. } => kept.retain(|kept| kept != number),
            }
        }
        if self.mode == Mode::Failing {
            // The worst case: it reports a failure, but has made the changes.
            return Err(StoreError::Other("out of ink".into()));
        }
        Ok(())
    }
}

struct Fixture {
    thread: CommitThread,
    woken: Receiver<()>,
    commands: Option<Sender<Mode>>,
    commits: Receiver<Vec<Change>>,
    kept: Arc<Mutex<Vec<u64>>>,
}

impl Fixture {
    fn new() -> Self {
        let (command, commands) = crossbeam_channel::unbounded();
        let (commit, commits) = crossbeam_channel::unbounded();
        let (wake, woken) = crossbeam_channel::unbounded();
        let kept = Arc::default();
        let fake = Fake { commands, mode: Mode::Fine, commits: commit, kept: Arc::clone(&kept) };
        let wake = Box::new(move || wake.send(()).unwrap_or_default());
        let thread = CommitThread::start(Box::new(fake), wake).unwrap();
        Self { thread, woken, commands: Some(command), commits, kept }
    }

    /// The changes of the next commit, which then waits for `finish`.
    fn commit(&self) -> Vec<Change> {
        self.commits.recv_timeout(PATIENCE).expect("a commit")
    }

    fn finish(&self, mode: Mode) {
        self.commands.as_ref().unwrap().send(mode).unwrap();
    }

    fn outcome(&self) -> Outcome {
        self.woken.recv_timeout(PATIENCE).expect("to be woken");
        self.thread.outcome().expect("an outcome")
    }
}

fn put(number: u64) -> Change {
    sized(number, 1)
}

fn sized(number: u64, bytes: usize) -> Change {
    Change::Put(Record { number, header: Vec::new(), body: vec![0; bytes], expires_ms: 0 })
}

fn to_dead_letters(number: u64) -> Change {
    Change::MoveToDeadLetters { number, why: "broken".to_owned(), deliveries: 1, at_ms: 0 }
}

#[test]
fn changes_during_a_commit_go_into_the_next_one_together_and_in_order() {
    let fixture = Fixture::new();
    fixture.thread.submit(put(1));
    assert_eq!(fixture.commit(), [put(1)]);
    let next = [put(2), Change::Erase(1), put(3), to_dead_letters(2)];
    next.iter().cloned().for_each(|change| fixture.thread.submit(change));
    assert!(fixture.thread.outcome().is_none(), "reported before it was committed");
    fixture.finish(Mode::Fine);
    assert_eq!(fixture.outcome(), Outcome { numbers: vec![1], result: Ok(()) });
    assert_eq!(fixture.commit(), next);
    fixture.finish(Mode::Fine);
    assert_eq!(fixture.outcome(), Outcome { numbers: vec![2, 3], result: Ok(()) });
}

#[test]
fn a_commit_is_bounded_in_changes_and_in_bytes() {
    let fixture = Fixture::new();
    fixture.thread.submit(put(0));
    fixture.commit();
    let most = MAX_CHANGES as u64;
    (1..=most).for_each(|number| fixture.thread.submit(put(number)));
    (0..4).for_each(|number| fixture.thread.submit(sized(most + 1 + number, MAX_BYTES / 2)));
    let mut sizes = Vec::new();
    for _ in 0..3 {
        fixture.finish(Mode::Fine);
        sizes.push(fixture.commit().len());
    }
    fixture.finish(Mode::Fine);
    assert_eq!(sizes, [MAX_CHANGES, 2, 2]);
}

#[test]
fn a_commit_without_puts_reports_nothing() {
    let fixture = Fixture::new();
    fixture.thread.submit(Change::Erase(1));
    fixture.commit();
    fixture.thread.submit(put(2));
    fixture.finish(Mode::Fine);
    fixture.commit();
    assert!(fixture.woken.is_empty() && fixture.thread.outcome().is_none());
    fixture.finish(Mode::Fine);
    assert_eq!(fixture.outcome().numbers, [2]);
}

#[test]
fn a_failed_store_refuses_at_once_and_later_gets_unsettled_changes_first() {
    for failure in [Mode::Failing, Mode::Panicking] {
        let fixture = Fixture::new();
        fixture.thread.submit(put(1));
        fixture.commit();
        fixture.finish(Mode::Fine);
        assert_eq!(fixture.outcome().result, Ok(()));

        fixture.thread.submit(put(2));
        assert_eq!(fixture.commit(), [put(2)]);
        fixture.thread.submit(Change::Erase(1));
        fixture.thread.submit(put(3));
        fixture.thread.submit(to_dead_letters(7));
        fixture.finish(failure);
        let refused = fixture.outcome();
        let why = refused.result.unwrap_err();
        assert_eq!(refused.numbers, [2]);
        assert!(why.contains("out of ink") || why.contains("panicked"), "{why}");
        // The store is not tried.
        assert_eq!(fixture.outcome(), Outcome { numbers: vec![3], result: Err(why) });

        // The failed record may be in the store, so it is erased.
        let unsettled = [Change::Erase(2), Change::Erase(1), to_dead_letters(7)];
        assert_eq!(fixture.commit(), unsettled);
        fixture.finish(failure);
        assert_eq!(fixture.commit(), unsettled);
        fixture.thread.submit(put(4));
        fixture.finish(Mode::Fine);
        assert_eq!(fixture.commit(), [put(4)]);
        fixture.finish(Mode::Fine);
        assert_eq!(fixture.outcome(), Outcome { numbers: vec![4], result: Ok(()) });
        assert_eq!(*fixture.kept.lock().unwrap(), [4]);
    }
}

#[test]
fn dropping_it_commits_what_waits() {
    let mut fixture = Fixture::new();
    fixture.thread.submit(put(1));
    fixture.commit();
    (2..=2_500).for_each(|number| fixture.thread.submit(put(number)));
    // From now on every commit succeeds at once.
    drop(fixture.commands.take());
    drop(fixture.thread);
    assert_eq!(*fixture.kept.lock().unwrap(), (1..=2_500).collect::<Vec<_>>());
}
