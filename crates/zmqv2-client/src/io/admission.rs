//! Limits the outstanding messages, before a message goes to the I/O thread. Senders that wait for
//! room get it in the order in which they came, threads and futures alike.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use zmqv2_proto::transport::TransportError;

use crate::clock;
use crate::wake::{this_thread, wake};

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
}

#[derive(Debug, Default)]
struct InUse {
    messages: usize,
    bytes: usize,
    closed: bool,
    /// The senders that wait, by ticket.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    messages: usize,
    size: usize,
    waker: Waker,
}

impl InUse {
    fn full(&self) -> NotQueued {
        NotQueued::Full { open: self.messages, bytes: self.bytes }
    }

    fn take(&mut self, messages: usize, size: usize) {
        self.messages += messages;
        self.bytes += size;
    }

    fn give_back(&mut self, messages: usize, size: usize) {
        self.messages -= messages;
        self.bytes -= size;
    }

    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()
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
        Self { messages, bytes, in_use: Mutex::default() }
    }

    /// Reserves capacity for messages of `size` bytes in all, and waits for it until `deadline`, if
    /// there is one. A group is admitted as soon as there is room for one message: waiting for room
    /// for the whole group could starve it behind single messages.
    pub(crate) fn reserve(&self, messages: usize, size: usize, deadline: Option<Instant>) -> Result<(), NotQueued> {
        let Some(deadline) = deadline else { return self.reserve_now(messages, size) };
        let mut place = self.place(messages, size);
        // Without waiting, no waker is needed.
        let mut reserved = place.poll(Waker::noop());
        if reserved.is_pending() {
            let waker = this_thread();
            loop {
                reserved = place.poll(&waker);
                if reserved.is_ready() {
                    break;
                }
                let left = deadline.saturating_duration_since(clock::now());
                if left.is_zero() {
                    return Err(self.full());
                }
                std::thread::park_timeout(left);
            }
        }
        match reserved {
            Poll::Ready(Ok(())) => place.keep(),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Err(self.full()),
        }
        Ok(())
    }

    /// Reserves capacity, if there is some now.
    fn reserve_now(&self, messages: usize, size: usize) -> Result<(), NotQueued> {
        let mut in_use = self.lock();
        if in_use.closed {
            return Err(NotQueued::Closed);
        }
        if self.is_full(&in_use, size) {
            return Err(in_use.full());
        }
        in_use.take(messages, size);
        Ok(())
    }

    /// Starts to wait for capacity.
    pub(crate) fn place(&self, messages: usize, size: usize) -> Place<'_> {
        Place { admission: self, messages, size, stage: Stage::Outside }
    }

    /// Reserves capacity even above the limit, because one admitted message has become several.
    pub(crate) fn reserve_beyond_limit(&self, messages: usize, size: usize) {
        self.lock().take(messages, size);
    }

    /// Releases the capacity of `messages` with `bytes` in all.
    pub(crate) fn release(&self, messages: usize, bytes: usize) {
        let mut admitted = Vec::new();
        self.release_without_waking(messages, bytes, &mut admitted);
        admitted.into_iter().for_each(wake);
    }

    /// Like [`release`](Self::release), and leaves it to the caller to wake the senders that are
    /// admitted now.
    pub(crate) fn release_without_waking(&self, messages: usize, bytes: usize, admitted: &mut Vec<Waker>) {
        let mut in_use = self.lock();
        in_use.give_back(messages, bytes);
        self.admit(&mut in_use, admitted);
    }

    /// Reserves capacity for those that have waited longest.
    fn admit(&self, in_use: &mut InUse, admitted: &mut Vec<Waker>) {
        while in_use.waiting.front().is_some_and(|first| !self.is_full(in_use, first.size)) {
            let Some(Waiting { messages, size, waker, .. }) = in_use.waiting.pop_front() else { return };
            in_use.take(messages, size);
            admitted.push(waker);
        }
    }

    /// Admits no more messages. Waiting senders get an error.
    pub(crate) fn close(&self) {
        let mut in_use = self.lock();
        in_use.closed = true;
        let waiting: Vec<_> = in_use.waiting.iter().map(|waiting| waiting.waker.clone()).collect();
        drop(in_use);
        waiting.into_iter().for_each(wake);
    }

    pub(crate) fn open(&self) -> usize {
        self.lock().messages
    }

    /// The refusal that names all that is open now.
    pub(crate) fn full(&self) -> NotQueued {
        self.lock().full()
    }

    /// A message above the limit of bytes is admitted if it is the only one.
    fn is_full(&self, in_use: &InUse, size: usize) -> bool {
        let bytes = in_use.bytes.saturating_add(size) > self.bytes && in_use.messages > 0;
        in_use.messages >= self.messages || bytes
    }

    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a sender among those that wait for capacity. Dropping it gives up the place, or
/// releases the capacity that it has.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    admission: &'a Admission,
    messages: usize,
    size: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Outside,
    /// It waits with this ticket, or has just been admitted.
    Waiting(u64),
    Admitted,
}

impl Place<'_> {
    /// Whether the capacity is reserved. If it must wait, `waker` is woken when it is reserved, or
    /// when the client is closed.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<(), NotQueued>> {
        let mut in_use = self.admission.lock();
        match self.stage {
            Stage::Admitted => return Poll::Ready(Ok(())),
            Stage::Outside if in_use.closed => return Poll::Ready(Err(NotQueued::Closed)),
            Stage::Outside if !in_use.waiting.is_empty() || self.admission.is_full(&in_use, self.size) => {
                let (ticket, messages, size) = (in_use.next_ticket, self.messages, self.size);
                in_use.next_ticket += 1;
                in_use.waiting.push_back(Waiting { ticket, messages, size, waker: waker.clone() });
                self.stage = Stage::Waiting(ticket);
                return Poll::Pending;
            }
            Stage::Outside => in_use.take(self.messages, self.size),
            Stage::Waiting(ticket) => match in_use.position(ticket) {
                Some(at) if in_use.closed => {
                    in_use.waiting.remove(at);
                    self.stage = Stage::Outside;
                    return Poll::Ready(Err(NotQueued::Closed));
                }
                Some(at) => {
                    in_use.waiting[at].waker.clone_from(waker);
                    return Poll::Pending;
                }
                None => {}
            },
        }
        self.stage = Stage::Admitted;
        Poll::Ready(Ok(()))
    }

    /// Reserves capacity now, or says that there is none.
    pub(crate) fn take_now(&mut self) -> Result<(), NotQueued> {
        self.admission.reserve_now(self.messages, self.size)?;
        self.stage = Stage::Admitted;
        Ok(())
    }

    /// Leaves the capacity to the message, which releases it when it ends.
    pub(crate) fn keep(mut self) {
        self.stage = Stage::Outside;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.stage == Stage::Outside {
            return;
        }
        let mut admitted = Vec::new();
        let mut in_use = self.admission.lock();
        let waits_at = match self.stage {
            Stage::Waiting(ticket) => in_use.position(ticket),
            Stage::Outside | Stage::Admitted => None,
        };
        match waits_at {
            Some(at) => drop(in_use.waiting.remove(at)),
            None => in_use.give_back(self.messages, self.size),
        }
        // The one behind may be smaller.
        self.admission.admit(&mut in_use, &mut admitted);
        drop(in_use);
        admitted.into_iter().for_each(wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
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

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        (Arc::clone(&woken), Waker::from(woken))
    }

    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn room_goes_to_those_that_have_waited_longest_and_nobody_overtakes_them() {
        let admission = Admission::new(2, 10);
        admission.reserve(2, 9, None).unwrap();
        let (woken, waker) = waker();
        let mut places = [8, 1, 1].map(|size| admission.place(1, size));
        assert!(places.iter_mut().all(|place| place.poll(&waker).is_pending()));
        // One message ends. The small ones would fit, but the large one is first.
        admission.release(1, 1);
        assert!(places.iter_mut().all(|place| place.poll(&waker).is_pending()));
        assert!(admission.place(1, 1).poll(&waker).is_pending(), "a newcomer waits behind all");
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        admission.release(1, 8);
        let admitted = places.each_mut().map(|place| place.poll(&waker).is_ready());
        assert_eq!((admitted, woken.0.load(Ordering::Relaxed)), ([true, true, false], 2));
        assert_eq!(admission.open(), 2);
    }

    #[test]
    fn a_dropped_place_gives_back_what_it_has() {
        let admission = Admission::new(1, 10);
        admission.reserve(1, 1, None).unwrap();
        let (woken, waker) = waker();
        let mut places: VecDeque<_> = (0..4).map(|_| admission.place(1, 1)).collect();
        assert!(places.iter_mut().all(|place| place.poll(&waker).is_pending()));
        drop(places.remove(1));
        admission.release(1, 1);
        // The first has room without knowing it, and the third is next.
        drop(places.pop_front());
        let admitted: Vec<_> = places.iter_mut().map(|place| place.poll(&waker).is_ready()).collect();
        assert_eq!((admitted, woken.0.load(Ordering::Relaxed)), (vec![true, false], 2));
        drop(places);
        assert_eq!(admission.open(), 0);
        admission.reserve(1, 1, None).unwrap();
    }

    #[test]
    fn the_waker_of_the_last_poll_is_woken() {
        let admission = Admission::new(1, 10);
        admission.reserve(1, 1, None).unwrap();
        let [(first, first_waker), (last, last_waker)] = [waker(), waker()];
        let mut place = admission.place(1, 1);
        // A future may move to another task while it waits.
        assert!(place.poll(&first_waker).is_pending() && place.poll(&last_waker).is_pending());
        admission.release(1, 1);
        assert_eq!([first, last].map(|woken| woken.0.load(Ordering::Relaxed)), [0, 1]);
        assert!(place.poll(&last_waker).is_ready());
    }

    #[test]
    fn closing_ends_every_place_that_waits() {
        let admission = Admission::new(1, 10);
        admission.reserve(1, 1, None).unwrap();
        let (woken, waker) = waker();
        let mut place = admission.place(1, 1);
        assert!(place.poll(&waker).is_pending());
        admission.close();
        assert!(matches!(place.poll(&waker), Poll::Ready(Err(NotQueued::Closed))));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        drop(place);
        assert_eq!(admission.open(), 1);
    }
}
