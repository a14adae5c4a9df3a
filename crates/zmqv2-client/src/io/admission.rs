//! Room for outstanding messages, asked for before a message is made over to the I/O thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock;

/// What a sender does when [`max_outstanding`](crate::RpcClientBuilder::max_outstanding) messages have no outcome yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// Its thread waits for room, up to the message's timeout. The default.
    #[default]
    Wait,
    /// It gets [`SendError::Full`](crate::SendError::Full) at once.
    Refuse,
}

/// Counts what is outstanding.
#[derive(Debug)]
pub(crate) struct Gate {
    messages: usize,
    bytes: usize,
    taken: Mutex<Taken>,
    left: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    messages: usize,
    bytes: usize,
    closed: bool,
    waiting: usize,
}

/// No way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shut {
    Full { open: usize, bytes: usize },
    Closed,
}

impl Gate {
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes, taken: Mutex::default(), left: Condvar::new() }
    }

    /// Takes room for messages of `size` bytes in all; waits for it until `deadline`, if there is one. Several messages enter
    /// together, as soon as there is room for one: who had to wait for room for all would wait for ever beside others.
    pub(crate) fn enter(&self, messages: usize, size: usize, deadline: Option<Instant>) -> Result<(), Shut> {
        let mut taken = self.lock();
        while !taken.closed && self.is_full(*taken, size) {
            let left = deadline.map(|at| at.saturating_duration_since(clock::now())).unwrap_or_default();
            if left.is_zero() {
                return Err(Shut::Full { open: taken.messages, bytes: taken.bytes });
            }
            taken.waiting += 1;
            taken = self.left.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
            taken.waiting -= 1;
        }
        if taken.closed {
            return Err(Shut::Closed);
        }
        taken.messages += messages;
        taken.bytes += size;
        Ok(())
    }

    /// Takes room whether there is any or not: one that is in has become several.
    pub(crate) fn grow(&self, messages: usize, size: usize) {
        let mut taken = self.lock();
        taken.messages += messages;
        taken.bytes += size;
    }

    /// Gives back the room of `messages` with `bytes` in all.
    pub(crate) fn leave(&self, messages: usize, bytes: usize) {
        if self.make_room(messages, bytes) {
            self.announce();
        }
    }

    /// The same, without a word; whether somebody waits for [`announce`](Self::announce).
    pub(crate) fn make_room(&self, messages: usize, bytes: usize) -> bool {
        let mut taken = self.lock();
        taken.messages -= messages;
        taken.bytes -= bytes;
        taken.waiting > 0
    }

    /// Wakes those who wait for room.
    pub(crate) fn announce(&self) {
        self.left.notify_all();
    }

    /// Nobody else comes in; who waits is turned away.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.left.notify_all();
    }

    pub(crate) fn open(&self) -> usize {
        self.lock().messages
    }

    /// A message above the bound on bytes has room when it is the only one.
    fn is_full(&self, taken: Taken, size: usize) -> bool {
        let bytes = taken.bytes.saturating_add(size) > self.bytes && taken.messages > 0;
        taken.messages >= self.messages || bytes
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_bounds_hold_and_a_giant_passes_alone() {
        let gate = Gate::new(2, 10);
        gate.enter(1, 50, None).unwrap();
        assert_eq!(gate.enter(1, 1, None), Err(Shut::Full { open: 1, bytes: 50 }));
        gate.leave(1, 50);
        gate.enter(1, 5, None).unwrap();
        assert_eq!(gate.enter(1, 6, None), Err(Shut::Full { open: 1, bytes: 5 }));
        gate.enter(1, 5, None).unwrap();
        assert_eq!(gate.enter(1, 0, None), Err(Shut::Full { open: 2, bytes: 10 }));
        gate.leave(2, 10);
        assert_eq!(gate.open(), 0);
        // Several enter where there is room for one, and are not divided.
        gate.enter(1, 0, None).unwrap();
        gate.enter(5, 0, None).unwrap();
        assert_eq!(gate.enter(1, 0, None), Err(Shut::Full { open: 6, bytes: 0 }));
    }

    #[test]
    fn who_waits_gets_room_or_is_turned_away_in_time() {
        let gate = Gate::new(1, 10);
        gate.enter(1, 1, None).unwrap();
        let started = clock::now();
        let full = gate.enter(1, 1, Some(started + Duration::from_millis(20)));
        assert!(matches!(full, Err(Shut::Full { .. })) && clock::now() >= started + Duration::from_millis(20));
        let late = Some(started + Duration::from_secs(30));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(1, 1, late));
            gate.leave(1, 1);
            waiting.join().unwrap().unwrap();
            let waiting = scope.spawn(|| gate.enter(1, 1, late));
            gate.close();
            assert_eq!(waiting.join().unwrap(), Err(Shut::Closed));
        });
        assert_eq!(gate.enter(1, 1, None), Err(Shut::Closed));
    }
}
