//! The results of a message with several receivers. The I/O thread gives them in parts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Topic, process_id};

use crate::interceptor::EndResult;
use crate::interceptor::chain::Around;
use crate::outcome::Outcome;
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::outcome::receiver_tracker::{ExpectedReceivers, ReceiverResult, ReceiverTracker};
use crate::wake::wake;
use crate::{callback_thread, clock};

#[derive(Debug)]
pub(crate) struct ResultGroup {
    /// The process of the senders and the receiver.
    pid: u32,
    state: Mutex<GroupState>,
    done: Condvar,
    /// Whether the receiver was dropped.
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct GroupState {
    parts: Vec<Part>,
    /// The number of parts that have not ended.
    open: usize,
    /// Why there may be receivers that are not known.
    incomplete: Option<Arc<str>>,
    around: Around,
    waker: Option<Waker>,
    waiting: usize,
}

/// One message of a group: for one node of a fanout, or one pool of a notification.
#[derive(Debug)]
pub(crate) struct Part {
    /// The topic, without a priority.
    pub(crate) topic: Topic,
    /// The node, if it is for one node.
    node: Option<NodeName>,
    pub(crate) tracker: ReceiverTracker,
}

/// Gives the results of one part. If it is dropped before its [end](Self::end), the missing results
/// count as unacknowledged.
#[derive(Debug)]
pub(crate) struct PartSender {
    group: Arc<ResultGroup>,
    part: usize,
    started: Instant,
    ended: bool,
}

/// Waits for all parts.
#[derive(Debug)]
pub(crate) struct GroupReceiver(Arc<ResultGroup>);

impl Part {
    pub(crate) fn new(topic: Topic, node: Option<NodeName>, expected: ExpectedReceivers) -> Self {
        Self { topic, node, tracker: ReceiverTracker::new(expected) }
    }
}

impl ResultGroup {
    /// Starts a group. Returns its receiver and a sender for each part, in order. `incomplete` is
    /// why there may be receivers that are not known.
    pub(crate) fn start(
        started: Instant,
        parts: Vec<Part>,
        incomplete: Option<Arc<str>>,
        around: Around,
    ) -> (GroupReceiver, Vec<PartSender>) {
        let open = parts.len();
        let state = Mutex::new(GroupState { parts, open, incomplete, around, waker: None, waiting: 0 });
        let group =
            Arc::new(Self { pid: process_id(), state, done: Condvar::new(), abandoned: AtomicBool::new(false) });
        let sender = |part| PartSender { group: Arc::clone(&group), part, started, ended: false };
        let senders = (0..open).map(sender).collect();
        (GroupReceiver(group), senders)
    }

    fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartSender {
    /// Whether the receiver still exists.
    pub(crate) fn has_receiver(&self) -> bool {
        !self.group.abandoned.load(Ordering::Relaxed)
    }

    /// Records the answer of one receiver. Returns false if there are too many.
    pub(crate) fn record(&self, answer: ReceiverAnswer, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.started);
        let Some(outcome) = answer.outcome(elapsed) else { return false };
        let ReceiverAnswer { server, node, attempt, .. } = answer;
        let result = ReceiverResult { server, node: Some(node), outcome };
        self.group.lock().parts[self.part].tracker.record(result, attempt)
    }

    /// Ends the part. `missing` is the outcome of receivers that have not answered, if some may be
    /// missing.
    pub(crate) fn end(&mut self, missing: Option<&Outcome>) -> Vec<ReceiverResult> {
        self.ended = true;
        let mut state = self.group.lock();
        let part = &mut state.parts[self.part];
        if let Some(missing) = missing {
            part.tracker.fill_missing(part.node.as_ref(), missing);
        }
        part.tracker.results().to_vec()
    }

    /// The nodes of a part are known now, but perhaps not all. Makes a sender for each node but the
    /// first.
    pub(crate) fn split(
        &self,
        nodes: impl IntoIterator<Item = (NodeName, ExpectedReceivers)>,
        incomplete: Option<Arc<str>>,
    ) -> Vec<Self> {
        let mut state = self.group.lock();
        state.incomplete = incomplete;
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
            self.end(Some(&Outcome::Unacknowledged { after, sent: true, problem: "the client has ended".to_owned() }));
        }
        let mut state = self.group.lock();
        state.open -= 1;
        if state.open > 0 {
            return;
        }
        let (waker, waiting) = (state.waker.take(), state.waiting > 0);
        let mut around = std::mem::take(&mut state.around);
        let results = state.parts.iter().filter(|_| !around.is_empty()).flat_map(|part| part.tracker.results());
        let outcomes: Vec<_> = results.map(|result| result.outcome.clone()).collect();
        drop(state);
        around.end(EndResult::Outcomes(&outcomes), None);
        if waiting {
            self.group.done.notify_all();
        }
        // Outside the lock, because an executor may poll at once on this thread.
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

impl GroupReceiver {
    /// Looks at all parts, and the number of those that have not ended.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Part], usize) -> T) -> T {
        if self.is_inherited() {
            // Nothing is known, and nothing will be.
            return look(&[], 1);
        }
        let state = self.0.lock();
        look(&state.parts, state.open)
    }

    /// Why there may be receivers that are not known.
    pub(crate) fn incomplete(&self) -> Option<Arc<str>> {
        if self.is_inherited() { None } else { self.0.lock().incomplete.clone() }
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.is_inherited() && self.0.lock().open == 0
    }

    /// Whether the message was sent by the parent of this process, where it ends. This process has a
    /// copy of the lock, which a thread of the parent may have held.
    fn is_inherited(&self) -> bool {
        self.0.pid != process_id()
    }

    /// Waits for all parts. Returns whether they have ended.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        if callback_thread::is_current() || self.is_inherited() {
            return self.is_complete();
        }
        let mut state = self.0.lock();
        state.waiting += 1;
        let waited = self.0.done.wait_timeout_while(state, timeout, |state| state.open > 0);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        state.open == 0
    }

    /// Whether all parts have ended; if not, `waker` is woken when they have.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        if self.is_inherited() {
            return true;
        }
        let mut state = self.0.lock();
        if state.open == 0 {
            return true;
        }
        state.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        false
    }
}

impl Drop for GroupReceiver {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}
