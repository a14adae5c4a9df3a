//! Limits the outstanding messages, before a message goes to the I/O thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::transport::TransportError;

use crate::clock;

/// What a sender does when a client has
/// [`max_outstanding`](crate::RpcClientBuilder::max_outstanding) messages without an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for room, at most for the timeout of its message. This is the default.
    #[default]
    Wait,
    /// It gets [`SendError::Full`](crate::SendError::Full) at once.
    Refuse,
}

/// Counts the outstanding messages and their bytes.
#[derive(Debug)]
pub(crate) struct Admission {
    messages: usize,
    bytes: usize,
    in_use: Mutex<InUse>,
    released: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct InUse {
    messages: usize,
    bytes: usize,
    closed: bool,
    waiting: usize,
}

impl InUse {
    fn full(self) -> NotQueued {
        NotQueued::Full { open: self.messages, bytes: self.bytes }
    }
}

/// Why the I/O thread does not take a message.
#[derive(Debug)]
pub(crate) enum NotQueued {
    Full { open: usize, bytes: usize },
    Closed,
    NoThread(TransportError),
}

impl Admission {
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes, in_use: Mutex::default(), released: Condvar::new() }
    }

    /// Reserves capacity for messages of `size` bytes in all, and waits for it until `deadline`, if
    /// there is one. A group is admitted as soon as there is room for one message: waiting for room
    /// for the whole group could starve it behind single messages.
    pub(crate) fn reserve(&self, messages: usize, size: usize, deadline: Option<Instant>) -> Result<(), NotQueued> {
        let mut in_use = self.lock();
        while !in_use.closed && self.is_full(*in_use, size) {
            let left = deadline.map(|at| at.saturating_duration_since(clock::now())).unwrap_or_default();
            if left.is_zero() {
                return Err(in_use.full());
            }
            in_use.waiting += 1;
            in_use = self.released.wait_timeout(in_use, left).unwrap_or_else(PoisonError::into_inner).0;
            in_use.waiting -= 1;
        }
        if in_use.closed {
            return Err(NotQueued::Closed);
        }
        in_use.messages += messages;
        in_use.bytes += size;
        Ok(())
    }

    /// Reserves capacity even above the limit, because one admitted message has become several.
    pub(crate) fn reserve_beyond_limit(&self, messages: usize, size: usize) {
        let mut in_use = self.lock();
        in_use.messages += messages;
        in_use.bytes += size;
    }

    /// Releases the capacity of `messages` with `bytes` in all.
    pub(crate) fn release(&self, messages: usize, bytes: usize) {
        if self.release_without_waking(messages, bytes) {
            self.wake_waiting();
        }
    }

    /// Like [`release`](Self::release), without waking waiting senders. Returns whether there are
    /// some, for [`wake_waiting`](Self::wake_waiting).
    pub(crate) fn release_without_waking(&self, messages: usize, bytes: usize) -> bool {
        let mut in_use = self.lock();
        in_use.messages -= messages;
        in_use.bytes -= bytes;
        in_use.waiting > 0
    }

    pub(crate) fn wake_waiting(&self) {
        self.released.notify_all();
    }

    /// Admits no more messages. Waiting senders get an error.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.released.notify_all();
    }

    pub(crate) fn open(&self) -> usize {
        self.lock().messages
    }

    /// The refusal that names all that is open now.
    pub(crate) fn full(&self) -> NotQueued {
        self.lock().full()
    }

    /// A message above the limit of bytes is admitted if it is the only one.
    fn is_full(&self, in_use: InUse, size: usize) -> bool {
        let bytes = in_use.bytes.saturating_add(size) > self.bytes && in_use.messages > 0;
        in_use.messages >= self.messages || bytes
    }

    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_limits_hold_and_an_oversized_message_is_admitted_alone() {
        let admission = Admission::new(2, 10);
        admission.reserve(1, 50, None).unwrap();
        let refused = |size| match admission.reserve(1, size, None) {
            Err(NotQueued::Full { open, bytes }) => (open, bytes),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(1), (1, 50));
        admission.release(1, 50);
        admission.reserve(1, 5, None).unwrap();
        assert_eq!(refused(6), (1, 5));
        admission.reserve(1, 5, None).unwrap();
        assert_eq!(refused(0), (2, 10));
        admission.release(2, 10);
        assert_eq!(admission.open(), 0);
        // A group is admitted as a whole if there is room for one.
        admission.reserve(1, 0, None).unwrap();
        admission.reserve(5, 0, None).unwrap();
        assert_eq!(refused(0), (6, 0));
    }

    #[test]
    fn a_waiting_sender_is_admitted_or_refused_in_time() {
        let admission = Admission::new(1, 10);
        admission.reserve(1, 1, None).unwrap();
        let started = clock::now();
        let full = admission.reserve(1, 1, Some(started + Duration::from_millis(20)));
        assert!(matches!(full, Err(NotQueued::Full { .. })) && clock::now() >= started + Duration::from_millis(20));
        let late = Some(started + Duration::from_secs(30));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| admission.reserve(1, 1, late));
            admission.release(1, 1);
            waiting.join().unwrap().unwrap();
            let waiting = scope.spawn(|| admission.reserve(1, 1, late));
            admission.close();
            assert!(matches!(waiting.join().unwrap(), Err(NotQueued::Closed)));
        });
        assert!(matches!(admission.reserve(1, 1, None), Err(NotQueued::Closed)));
    }
}
