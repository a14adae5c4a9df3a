//! Writes changes to a store from a thread of its own: a slow disk never stops the broker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{Change, Store};

/// The most changes in one commit: many more gain nothing, and the first of them waits for the last.
const MAX_CHANGES: usize = 1_000;
/// A commit takes no further change above this many bytes.
const MAX_BYTES: usize = 4 << 20;
/// A store that failed is tried again after this long; until then it refuses what is put.
const RETRY: Duration = Duration::from_secs(1);
/// A broker that ends waits for the disk for this long.
const LAST_CHANGES: Duration = Duration::from_secs(5);

/// What became of records that were put.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Their numbers.
    pub numbers: Vec<u64>,
    /// `Ok`: they are on the disk. Else why not: the store does not hold them, and forgets what it may hold of them.
    pub result: Result<(), String>,
}

/// Hands changes to the thread that owns the store; dropping it commits all that waits, and waits for that, but not for
/// ever.
///
/// While one commit is under way the next changes gather, and all of them go into the next commit: one sync of the disk
/// confirms many. Changes are committed in the order in which they were ordered; so the [`Outcome`] of a record also says
/// that whatever was ordered before it is on the disk.
///
/// **When the store fails**, the records of that commit are reported, and so are, at once, those that are put within
/// the next second: a full disk is not tried for each of them. What was to be erased or buried is kept here and tried again every
/// second, ahead of anything else, until the store takes it; so is the erasure of what was reported as failed, since nobody
/// knows whether it reached the disk.
pub struct CommitThread {
    changes: Option<Sender<Change>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended; nothing is ever sent.
    ended: Receiver<()>,
}

impl CommitThread {
    /// Starts the thread. It calls `wake` after every new [`Outcome`].
    ///
    /// # Errors
    /// The operating system's reason for not giving a thread.
    pub fn start(store: Box<dyn Store>, wake: Box<dyn Fn() + Send>) -> std::io::Result<Self> {
        // Unbounded, so that the event loop never waits. What is in it is bounded all the same: a record that is put, and one
        // that is erased or buried, has its place in the backlog, which is bounded in messages and bytes, until then; and
        // each has at most these two changes. Outcomes are fewer than records that were put.
        let (changes, inbox) = crossbeam_channel::unbounded();
        let (report, outcomes) = crossbeam_channel::unbounded();
        let (running, ended) = crossbeam_channel::bounded(0);
        let writer = Committer { store, report, wake, unsettled: Vec::new(), broken: None };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            let _running: Sender<()> = running;
            writer.run(&inbox);
        })?;
        Ok(Self { changes: Some(changes), outcomes, thread: Some(thread), ended })
    }

    /// Orders a change; never blocks.
    pub fn submit(&self, change: Change) {
        if self.changes.as_ref().is_some_and(|changes| changes.send(change).is_err()) {
            log::error!("the recorder has ended; notifications are not stored any more");
        }
    }

    /// The next outcome, if there is one; never blocks. Every record that was put is in exactly one.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

impl Drop for CommitThread {
    fn drop(&mut self) {
        drop(self.changes.take());
        if let Some(thread) = self.thread.take() {
            if self.ended.recv_timeout(LAST_CHANGES) == Err(RecvTimeoutError::Timeout) {
                return log::warn!("the disk is slow; notifications that were just handled may be delivered again");
            }
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for CommitThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitThread").finish_non_exhaustive()
    }
}

struct Committer {
    store: Box<dyn Store>,
    report: Sender<Outcome>,
    wake: Box<dyn Fn() + Send>,
    /// Erasures and burials that the store did not take. Bounded: each is of a record that the store holds, or of the one
    /// commit that failed.
    unsettled: Vec<Change>,
    /// Why the store does not take anything, and when to try it again.
    broken: Option<(String, Instant)>,
}

impl Committer {
    fn run(mut self, inbox: &Receiver<Change>) {
        loop {
            let first = match &self.broken {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((_, retry_at)) => inbox.recv_deadline(*retry_at),
            };
            match first {
                Ok(first) => self.write(gather(first, inbox)),
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Refusing records must not keep a store from being tried again.
            if self.broken.as_ref().is_some_and(|(_, retry_at)| *retry_at <= now()) {
                self.retry();
            }
        }
        self.retry();
        if !self.unsettled.is_empty() {
            log::warn!(
                "{} notifications that were settled are still in the store, and will be back",
                self.unsettled.len()
            );
        }
    }

    /// Commits a group and reports its records.
    fn write(&mut self, group: Vec<Change>) {
        let result = match &self.broken {
            Some((why, _)) => Err(why.clone()),
            None => self.commit(&group),
        };
        let tried = self.broken.is_none();
        let numbers: Vec<u64> = group.iter().filter_map(put).collect();
        if let Err(why) = &result {
            for change in group {
                match change {
                    // It may be on the disk for all we know.
                    Change::Put(record) if tried => self.unsettled.push(Change::Erase(record.number)),
                    Change::Put(_) => {}
                    change => self.unsettled.push(change),
                }
            }
            if tried {
                log::error!("notifications are refused from now on: {why}");
                self.broken = Some((why.clone(), now() + RETRY));
            }
        }
        if !numbers.is_empty() {
            // The broker may be on its way out.
            let _ = self.report.send(Outcome { numbers, result });
            (self.wake)();
        }
    }

    /// Does what is unsettled; the store works again if that succeeds.
    fn retry(&mut self) {
        while !self.unsettled.is_empty() {
            let count = self.unsettled.len().min(MAX_CHANGES);
            let part: Vec<_> = self.unsettled[..count].to_vec();
            if let Err(why) = self.commit(&part) {
                log::debug!("the store does not work yet: {why}");
                self.broken = Some((why, now() + RETRY));
                return;
            }
            self.unsettled.drain(..count);
        }
        if self.broken.take().is_some() {
            log::info!("the notification store {} works again", self.store.name());
        }
    }

    /// A store of the user's own may even panic.
    fn commit(&mut self, changes: &[Change]) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| self.store.commit(changes))) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the store {} panicked", self.store.name())),
        }
    }
}

/// `first` and what waits behind it, up to the bounds of a commit.
fn gather(first: Change, inbox: &Receiver<Change>) -> Vec<Change> {
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while bytes < MAX_BYTES
        && group.len() < MAX_CHANGES
        && let Ok(change) = inbox.try_recv()
    {
        bytes = bytes.saturating_add(change.bytes());
        group.push(change);
    }
    group
}

fn put(change: &Change) -> Option<u64> {
    match change {
        Change::Put(record) => Some(record.number),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "the recorder's thread is a driver: it owns its retries' clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
