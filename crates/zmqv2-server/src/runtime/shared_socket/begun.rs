//! The requests that have begun, by worker, so that a cancellation finds them. Pure.

use std::sync::Arc;

use zmqv2_proto::MessageId;

use crate::runtime::cancellation::CancelFlag;

/// What the broker calls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestName {
    pub(super) tag: u64,
    pub(super) id: MessageId,
}

/// One slot for each thread.
#[derive(Debug)]
pub(super) struct BegunRequests {
    slots: Box<[Slot]>,
    begun: u64,
    /// How many of them are cancelled.
    cancelled: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// `None`: nothing runs, or nobody can cancel it.
    request: Option<RequestName>,
    /// Greater than that of a request that has begun before.
    order: u64,
    cancelled: bool,
    flag: Arc<CancelFlag>,
}

impl BegunRequests {
    pub(super) fn new(threads: usize) -> Self {
        Self { slots: (0..threads).map(|_| Slot::default()).collect(), begun: 0, cancelled: 0 }
    }

    /// A thread begins a request. If its caller has sent the same request before, and has given
    /// that up, it is wanted again.
    pub(super) fn begin(&mut self, thread: u16, request: Option<RequestName>) -> Option<Arc<CancelFlag>> {
        let request = request?;
        if self.cancelled > 0 {
            for slot in of_id(&mut self.slots, request.id) {
                slot.flag.revive();
                self.cancelled -= usize::from(std::mem::take(&mut slot.cancelled));
            }
        }
        self.begun += 1;
        let slot = self.slots.get_mut(usize::from(thread))?;
        (slot.request, slot.order) = (Some(request), self.begun);
        // Somebody may keep the flag of the request before.
        match Arc::get_mut(&mut slot.flag) {
            Some(flag) => *flag = CancelFlag::default(),
            None => slot.flag = Arc::default(),
        }
        Some(Arc::clone(&slot.flag))
    }

    /// The request of a thread has ended.
    pub(super) fn end(&mut self, thread: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(thread)) {
            slot.request = None;
            self.cancelled -= usize::from(std::mem::take(&mut slot.cancelled));
        }
    }

    /// The caller has given up a request. If it has sent the same request again since, it waits for
    /// that one, and so for the first run.
    pub(super) fn cancel(&mut self, request: RequestName) {
        let newest = of_id(&mut self.slots, request.id).max_by_key(|slot| slot.order);
        if newest.is_some_and(|slot| slot.request == Some(request)) {
            self.cancel_all(request.id);
        }
    }

    /// Nobody waits for any request with this id.
    pub(super) fn cancel_all(&mut self, id: MessageId) {
        for slot in of_id(&mut self.slots, id) {
            slot.flag.cancel();
            self.cancelled += usize::from(!std::mem::replace(&mut slot.cancelled, true));
        }
    }
}

fn of_id(slots: &mut [Slot], id: MessageId) -> impl Iterator<Item = &mut Slot> {
    slots.iter_mut().filter(move |slot| slot.request.is_some_and(|request| request.id == id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::cancellation::Cancellation;
    use crate::runtime::now;

    fn name(tag: u64, id: u8) -> RequestName {
        RequestName { tag, id: MessageId::from_bytes([id; 16]) }
    }

    fn begin(begun: &mut BegunRequests, thread: u16, request: RequestName) -> Cancellation {
        let flag = begun.begin(thread, Some(request)).unwrap();
        Cancellation::of_call(now() + Duration::from_secs(60), Some(flag))
    }

    #[test]
    fn only_the_named_request_is_cancelled_and_only_while_it_runs() {
        let mut begun = BegunRequests::new(2);
        let (one, two) = (begin(&mut begun, 0, name(1, 1)), begin(&mut begun, 1, name(2, 2)));
        for unknown in [name(1, 2), name(3, 1), name(9, 9)] {
            begun.cancel(unknown);
        }
        assert!(!one.is_cancelled() && !two.is_cancelled());
        begun.cancel(name(2, 2));
        assert!(!one.is_cancelled() && two.is_cancelled());
        begun.end(1);
        begun.end(0);
        begun.cancel(name(1, 1));
        let next = begin(&mut begun, 0, name(4, 1));
        assert!(!one.is_cancelled() && two.is_cancelled() && !next.is_cancelled());
        assert_eq!(begun.cancelled, 0);
    }

    #[test]
    fn a_request_that_came_again_keeps_its_first_run_wanted() {
        let mut begun = BegunRequests::new(3);
        let first = begin(&mut begun, 0, name(1, 1));
        // Its first connection has ended, and it comes over another one.
        begun.cancel(name(1, 1));
        begin(&mut begun, 1, name(2, 1));
        assert!(!first.is_cancelled());
        // The end of the first connection may also come later.
        begun.cancel(name(1, 1));
        assert!(!first.is_cancelled());
        begun.cancel(name(2, 1));
        assert!(first.is_cancelled());
        assert_eq!(begun.cancelled, 2);
        begun.end(0);
        begun.end(1);
        assert_eq!(begun.cancelled, 0);
    }
}
