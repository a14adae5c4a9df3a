//! Commits changes to a store from its own thread, so that a slow disk never stops the event loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{Change, Store};
use crate::threads::{BackgroundThread, now};

/// The most changes in one commit. More would gain little, and the first would wait for the last.
const MAX_CHANGES: usize = 1_000;
/// Above this many bytes a commit takes no further change.
const MAX_BYTES: usize = 4 << 20;
/// A store that failed is tried again after this time. Until then all puts fail.
const RETRY: Duration = Duration::from_secs(1);
/// The result for records that were put.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    pub numbers: Vec<u64>,
    /// `Ok`: the records are on the disk. `Err` is the cause if they are not, or are erased later.
    pub result: Result<(), String>,
}

/// Sends changes to the thread that owns the store. Dropping it commits all waiting changes, and
/// waits for that within a bound.
///
/// Changes that come during one commit go into the next one together, so one sync of the disk
/// confirms many. Changes are committed in the order of their submission. So a successful
/// [`Outcome`] of a record also means that every earlier change is on the disk.
///
/// **If the store fails**, the records of that commit are reported as failed. Records that are put
/// within the next second are reported as failed without a try. Erasures and dead letters are kept
/// here, and tried again every second before anything else. Records that were reported as failed
/// are erased in the same way, because it is unknown whether they reached the disk.
pub struct CommitThread {
    thread: BackgroundThread<Change>,
    outcomes: Receiver<Outcome>,
}

impl CommitThread {
    /// Starts the thread. It calls `wake` after every new [`Outcome`].
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn start(store: Box<dyn Store>, wake: Box<dyn Fn() + Send>) -> std::io::Result<Self> {
        // Unbounded as the channel of changes. The backlog bounds both: every record in them counts
        // there, and has at most two changes and one outcome.
        let (report, outcomes) = crossbeam_channel::unbounded();
        let committer = Committer { store, report, wake, unsettled: Vec::new(), broken: None };
        let if_slow = "the disk is slow; notifications that were just handled may be delivered again";
        let thread = BackgroundThread::start("store", if_slow, move |changes| committer.run(changes))?;
        Ok(Self { thread, outcomes })
    }

    pub fn submit(&self, change: Change) {
        if !self.thread.submit(change) {
            log::error!("the store's thread has ended; notifications are not stored any more");
        }
    }

    /// The next outcome, if there is one. Every record that was put is in one outcome.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

struct Committer {
    store: Box<dyn Store>,
    report: Sender<Outcome>,
    wake: Box<dyn Fn() + Send>,
    /// Erasures and dead letters that the store has not taken. Bounded, because each is of a record
    /// in the store, or of the one commit that failed.
    unsettled: Vec<Change>,
    /// Set while the store fails: the cause, and when to try again.
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
            // A stream of puts must not prevent the next try.
            if self.broken.as_ref().is_some_and(|(_, retry_at)| *retry_at <= now()) {
                self.retry();
            }
        }
        self.retry();
        if !self.unsettled.is_empty() {
            log::warn!(
                "{} notifications that were settled are still in the store, and will be delivered again",
                self.unsettled.len()
            );
        }
    }

    fn write(&mut self, group: Vec<Change>) {
        let result = match &self.broken {
            Some((why, _)) => Err(why.clone()),
            None => self.commit(&group),
        };
        let tried = self.broken.is_none();
        let put = |change: &Change| if let Change::Put(record) = change { Some(record.number) } else { None };
        let numbers: Vec<u64> = group.iter().filter_map(put).collect();
        if let Err(why) = &result {
            for change in group {
                match change {
                    // The record may be on the disk.
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
            // The broker may have ended.
            let _ = self.report.send(Outcome { numbers, result });
            (self.wake)();
        }
    }

    /// Commits the unsettled changes. If that succeeds, the store works again.
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

    fn commit(&mut self, changes: &[Change]) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| self.store.commit(changes))) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the store {} panicked", self.store.name())),
        }
    }
}

/// `first` and the waiting changes behind it, up to the bounds of a commit.
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

#[cfg(test)]
mod tests;
