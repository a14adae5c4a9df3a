//! Keeps notifications, so that they survive the broker.
//!
//! This module owns the [`Store`] trait, the store in a file ([`FileStore`]), and the thread that
//! commits ([`CommitThread`]), so that the event loop never waits for a disk. It does not know who
//! gets a notification, or when. Without a file, notifications are in memory alone.
//!
//! **Order.** Changes reach the disk in the order in which they were submitted. A notification is
//! confirmed to its sender, and delivered, only after its [`Put`](Change::Put) is on the disk. It
//! is [erased](Change::Erase) when a listener has handled it. If the broker dies in between, it is
//! delivered again: at least once.
//!
//! **Expiry.** The time to live of a notification runs on a monotonic clock, which does not survive
//! a restart of the machine. So the file stores the wall-clock time of its expiry
//! ([`Record::expires_ms`]). The wall clock is read only when a record is put and when it is loaded
//! ([`Record::ttl_left`]). If the clock is set forward between the two, the time to live becomes
//! shorter. If it is set back, the time to live becomes longer, but never longer than at first.
//!
//! ```
//! use zmqv2_broker::store::{Change, FileStore, Record, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("notifications.db");
//! let record = |number| Record { number, header: vec![1], body: vec![2], expires_ms: 60_000 };
//! let mut store = FileStore::open(&path)?;
//! store.commit(&[Change::Put(record(1)), Change::Put(record(2))])?;
//! store.commit(&[Change::Erase(1)])?;
//! drop(store);
//!
//! let kept = FileStore::open(&path)?.load()?;
//! assert_eq!(kept.live, [record(2)]);
//! assert_eq!(kept.next_number(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod commit_thread;
mod dead_letter_index;
pub(crate) mod dead_letters;
mod error;
mod file_store;
mod record;
mod tables;
pub(crate) mod writer;

pub use clock::wall_clock_ms;
pub use commit_thread::{CommitThread, Outcome};
pub use dead_letter_index::{MAX_DEAD_LETTER_BYTES, MAX_DEAD_LETTERS};
pub use error::StoreError;
pub use file_store::FileStore;
pub use record::{Change, Contents, DeadRecord, Record};

/// A place that keeps notifications while no broker runs.
///
/// It is called from one thread at a time, and may block: the event loop does not wait for it.
pub trait Store: Send {
    /// The name in logs and in `zmqv2 status`.
    fn name(&self) -> String;

    /// The whole contents. Called once, before any change.
    ///
    /// # Errors
    /// [`StoreError`]. The broker then does not start.
    fn load(&mut self) -> Result<Contents, StoreError>;

    /// Makes all of `changes` in this order, or none. When it returns `Ok`, they survive a crash of
    /// the machine.
    ///
    /// It is called again after an error, so a store should recover if it can, for example when its
    /// disk has room again.
    ///
    /// # Errors
    /// [`StoreError`]. It is then unknown whether the changes were made, and the records that were
    /// put are erased later.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}
