//! Where a broker keeps notifications, so that what it has promised survives it.
//!
//! This module owns the [`Store`] trait, the store in a file ([`FileStore`]), and the thread that writes ([`CommitThread`]), so that
//! the event loop never waits for a disk. It does not know who gets a notification, nor when. Without a store,
//! notifications are kept in memory alone: there is nothing to write, and nothing of this module is used.
//!
//! **Order.** Changes are on the disk in the order in which they were ordered. A notification is confirmed to its sender, and
//! delivered, only after its [`Put`](Change::Put) is on the disk; it is [erased](Change::Erase) when a listener has
//! handled it. A broker that dies in between delivers again: at least once.
//!
//! **Expiry.** The time to live is a span on a monotonic clock, which does not go on across a restart of the machine. So a
//! record carries the wall-clock time at which it expires ([`Record::expires_ms`]), read once when it is put and once when
//! it is loaded ([`Record::ttl_left`]). A wall clock that is set while the broker runs changes nothing. Between put and load, a clock
//! set forward takes as much off the time to live; one set back adds to it, but never beyond what there was at first.
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
/// A broker calls it from one thread at a time, and may wait for it as long as it likes: the event loop does not.
pub trait Store: Send {
    /// Where it is, for logs and `zmqv2 status`.
    fn name(&self) -> String;

    /// Everything in it. Called once, before anything is changed.
    ///
    /// # Errors
    /// [`StoreError`]; the broker then does not start.
    fn load(&mut self) -> Result<Contents, StoreError>;

    /// Makes all of `changes`, in this order, or none. They are on the disk when it returns `Ok`: they survive a crash of
    /// the machine.
    ///
    /// The broker calls it again after an error, so a store that can recover (a disk that has room again) should.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the changes were made is then unknown: the broker takes back what it put.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}
