use std::sync::{Arc, Mutex};

use super::super::{Contents, Record, StoreError};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store that fails, panics and waits on command, and tells what it was asked for.
struct Fake {
    orders: Receiver<Is>,
    is: Is,
    commits: Sender<Vec<Change>>,
    kept: Arc<Mutex<Vec<u64>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Is {
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
        self.is = self.orders.recv().unwrap_or(self.is);
        if self.is == Is::Panicking {
            panic!("as ordered");
        }
        let mut kept = self.kept.lock().unwrap();
        for change in changes {
            match change {
                Change::Put(record) => kept.push(record.number),
                Change::Erase(number) | Change::MoveToDeadLetters { number, .. } => kept.retain(|kept| kept != number),
            }
        }
        if self.is == Is::Failing {
            // The worst: it says that it failed, and did it.
            return Err(StoreError::Other("out of ink".into()));
        }
        Ok(())
    }
}

struct Bench {
    thread: CommitThread,
    woken: Receiver<()>,
    orders: Option<Sender<Is>>,
    commits: Receiver<Vec<Change>>,
    kept: Arc<Mutex<Vec<u64>>>,
}

impl Bench {
    fn new() -> Self {
        let (order, orders) = crossbeam_channel::unbounded();
        let (commit, commits) = crossbeam_channel::unbounded();
        let (wake, woken) = crossbeam_channel::unbounded();
        let kept = Arc::default();
        let fake = Fake { orders, is: Is::Fine, commits: commit, kept: Arc::clone(&kept) };
        let wake = Box::new(move || wake.send(()).unwrap_or_default());
        let thread = CommitThread::start(Box::new(fake), wake).unwrap();
        Self { thread, woken, orders: Some(order), commits, kept }
    }

    /// The changes of the next commit, which waits now.
    fn commit(&self) -> Vec<Change> {
        self.commits.recv_timeout(PATIENCE).expect("a commit")
    }

    fn end_it(&self, is: Is) {
        self.orders.as_ref().unwrap().send(is).unwrap();
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

fn bury(number: u64) -> Change {
    Change::MoveToDeadLetters { number, why: "broken".to_owned(), deliveries: 1, at_ms: 0 }
}

#[test]
fn what_gathers_during_a_commit_goes_into_the_next_one_together_and_in_order() {
    let bench = Bench::new();
    bench.thread.submit(put(1));
    assert_eq!(bench.commit(), [put(1)]);
    let next = [put(2), Change::Erase(1), put(3), bury(2)];
    next.iter().cloned().for_each(|change| bench.thread.submit(change));
    assert!(bench.thread.outcome().is_none(), "told before it was committed");
    bench.end_it(Is::Fine);
    assert_eq!(bench.outcome(), Outcome { numbers: vec![1], result: Ok(()) });
    assert_eq!(bench.commit(), next);
    bench.end_it(Is::Fine);
    assert_eq!(bench.outcome(), Outcome { numbers: vec![2, 3], result: Ok(()) });
}

#[test]
fn a_commit_is_bounded_in_changes_and_in_bytes() {
    let bench = Bench::new();
    bench.thread.submit(put(0));
    bench.commit();
    let most = MAX_CHANGES as u64;
    (1..=most).for_each(|number| bench.thread.submit(put(number)));
    (0..4).for_each(|number| bench.thread.submit(sized(most + 1 + number, MAX_BYTES / 2)));
    let mut sizes = Vec::new();
    for _ in 0..3 {
        bench.end_it(Is::Fine);
        sizes.push(bench.commit().len());
    }
    bench.end_it(Is::Fine);
    assert_eq!(sizes, [MAX_CHANGES, 2, 2]);
}

#[test]
fn what_is_only_erased_wakes_nobody() {
    let bench = Bench::new();
    bench.thread.submit(Change::Erase(1));
    bench.commit();
    bench.thread.submit(put(2));
    bench.end_it(Is::Fine);
    bench.commit();
    assert!(bench.woken.is_empty() && bench.thread.outcome().is_none());
    bench.end_it(Is::Fine);
    assert_eq!(bench.outcome().numbers, [2]);
}

#[test]
fn a_store_that_fails_refuses_at_once_and_later_gets_what_it_is_owed_first() {
    for failure in [Is::Failing, Is::Panicking] {
        let bench = Bench::new();
        bench.thread.submit(put(1));
        bench.commit();
        bench.end_it(Is::Fine);
        assert_eq!(bench.outcome().result, Ok(()));

        bench.thread.submit(put(2));
        assert_eq!(bench.commit(), [put(2)]);
        bench.thread.submit(Change::Erase(1));
        bench.thread.submit(put(3));
        bench.thread.submit(bury(7));
        bench.end_it(failure);
        let refused = bench.outcome();
        let why = refused.result.unwrap_err();
        assert_eq!(refused.numbers, [2]);
        assert!(why.contains("out of ink") || why.contains("panicked"), "{why}");
        // Without asking the store.
        assert_eq!(bench.outcome(), Outcome { numbers: vec![3], result: Err(why) });

        // It may hold what it says that it failed to put; nobody else would ever erase that.
        let unsettled = [Change::Erase(2), Change::Erase(1), bury(7)];
        assert_eq!(bench.commit(), unsettled);
        bench.end_it(failure);
        assert_eq!(bench.commit(), unsettled);
        bench.thread.submit(put(4));
        bench.end_it(Is::Fine);
        assert_eq!(bench.commit(), [put(4)]);
        bench.end_it(Is::Fine);
        assert_eq!(bench.outcome(), Outcome { numbers: vec![4], result: Ok(()) });
        assert_eq!(*bench.kept.lock().unwrap(), [4]);
    }
}

#[test]
fn dropping_it_commits_what_waits() {
    let mut bench = Bench::new();
    bench.thread.submit(put(1));
    bench.commit();
    (2..=2_500).for_each(|number| bench.thread.submit(put(number)));
    // From now on every commit succeeds by itself.
    drop(bench.orders.take());
    drop(bench.thread);
    assert_eq!(*bench.kept.lock().unwrap(), (1..=2_500).collect::<Vec<_>>());
}
