//! What becomes of a message that has several receivers: given by the I/O thread in parts, and waited for by its handle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Topic};

use crate::clock;
use crate::outcome::Outcome;
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::outcome::receiver_tracker::{ExpectedReceivers, ReceiverResult, ReceiverTracker};

/// All parts.
#[derive(Debug)]
pub(crate) struct ResultGroup {
    state: Mutex<GroupState>,
    done: Condvar,
    /// Whether nobody looks at it any more.
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct GroupState {
    parts: Vec<Part>,
    /// How many parts have not ended.
    open: usize,
    waker: Option<Waker>,
    waiting: usize,
}

/// What one message of several came to: one node of a fanout, one pool of a notification.
#[derive(Debug)]
pub(crate) struct Part {
    /// As its sender calls it.
    pub(crate) topic: Topic,
    /// Where it goes, if it can go to one node alone.
    node: Option<NodeName>,
    pub(crate) tracker: ReceiverTracker,
}

/// The giving side of one part. Dropped after its [end](Self::end), it wakes who waits for all parts; dropped before, it says
/// that nobody knows.
#[derive(Debug)]
pub(crate) struct PartSender {
    group: Arc<ResultGroup>,
    part: usize,
    started: Instant,
    ended: bool,
}

/// The waiting side.
#[derive(Debug)]
pub(crate) struct GroupReceiver(Arc<ResultGroup>);

impl Part {
    pub(crate) fn new(topic: Topic, node: Option<NodeName>, expected: ExpectedReceivers) -> Self {
        Self { topic, node, tracker: ReceiverTracker::new(expected) }
    }
}

impl ResultGroup {
    /// The waiting side, and a giving side for each part, in their order.
    pub(crate) fn start(started: Instant, parts: Vec<Part>) -> (GroupReceiver, Vec<PartSender>) {
        let open = parts.len();
        let state = Mutex::new(GroupState { parts, open, waker: None, waiting: 0 });
        let group = Arc::new(Self { state, done: Condvar::new(), abandoned: AtomicBool::new(false) });
        let sender = |part| PartSender { group: Arc::clone(&group), part, started, ended: false };
        let senders = (0..open).map(sender).collect();
        (GroupReceiver(group), senders)
    }

    fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartSender {
    /// Whether anybody is left who could look at it.
    pub(crate) fn has_receiver(&self) -> bool {
        !self.group.abandoned.load(Ordering::Relaxed)
    }

    /// Takes down what one receiver has said; false: there are too many.
    pub(crate) fn record(&self, answer: ReceiverAnswer, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.started);
        let Some(outcome) = answer.outcome(elapsed) else { return false };
        let ReceiverAnswer { server, node, attempt, .. } = answer;
        let result = ReceiverResult { server, node: Some(node), outcome };
        self.group.lock().parts[self.part].tracker.record(result, attempt)
    }

    /// The part has ended. `missing` is the outcome of all receivers that have not answered, if
    /// there may be some.
    pub(crate) fn end(&mut self, missing: Option<&Outcome>) -> Vec<ReceiverResult> {
        self.ended = true;
        let mut state = self.group.lock();
        let part = &mut state.parts[self.part];
        if let Some(missing) = missing {
            part.tracker.fill_missing(part.node.as_ref(), missing);
        }
        part.tracker.results().to_vec()
    }

    /// The place where it goes is known now, and there are others: a giving side for each of them.
    pub(crate) fn split(&self, nodes: impl IntoIterator<Item = (NodeName, ExpectedReceivers)>) -> Vec<Self> {
        let mut state = self.group.lock();
        let mut senders = Vec::new();
        let topic = state.parts[self.part].topic.clone();
        for (number, (node, expected)) in nodes.into_iter().enumerate() {
            let part = Part::new(topic.clone(), Some(node), expected);
            if number == 0 {
                state.parts[self.part] = part;
                continue;
            }
            state.parts.push(part);
            state.open += 1;
            let (group, part) = (Arc::clone(&self.group), state.parts.len() - 1);
            senders.push(Self { group, part, started: self.started, ended: false });
        }
        senders
    }
}

impl Drop for PartSender {
    fn drop(&mut self) {
        if !self.ended {
            let after = clock::now().saturating_duration_since(self.started);
            self.end(Some(&Outcome::Unacknowledged { after, sent: true }));
        }
        let mut state = self.group.lock();
        state.open -= 1;
        if state.open > 0 {
            return;
        }
        let (waker, waiting) = (state.waker.take(), state.waiting > 0);
        drop(state);
        if waiting {
            self.group.done.notify_all();
        }
        // Outside of the lock: an executor may poll at once, on this very thread.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl GroupReceiver {
    /// Looks at all parts and at how many have not ended.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Part], usize) -> T) -> T {
        let state = self.0.lock();
        look(&state.parts, state.open)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.0.lock().open == 0
    }

    /// Waits until all parts have ended; whether they have.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut state = self.0.lock();
        state.waiting += 1;
        let waited = self.0.done.wait_timeout_while(state, timeout, |state| state.open > 0);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        state.open == 0
    }

    /// Whether all parts have ended; if not, `waker` is woken when they have.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        if state.open == 0 {
            return true;
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }
}

impl Drop for GroupReceiver {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}
