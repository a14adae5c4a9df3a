//! What becomes of a message that has several receivers: given by the I/O thread in parts, and waited for by its handle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Topic};

use crate::clock;
use crate::io::outbound::{What, Word};
use crate::outcome::receiver_tracker::{Entry, Listed, Roll};
use crate::outcome::{Finish, How, Outcome};

/// All parts.
#[derive(Debug)]
pub(crate) struct Gathering {
    state: Mutex<State>,
    done: Condvar,
    /// Whether nobody looks at it any more.
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct State {
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
    pub(crate) roll: Roll,
}

/// The giving side of one part. Dropped after its [end](Self::end), it wakes who waits for all parts; dropped before, it says
/// that nobody knows.
#[derive(Debug)]
pub(crate) struct Share {
    gathering: Arc<Gathering>,
    part: usize,
    started: Instant,
    ended: bool,
}

/// The waiting side.
#[derive(Debug)]
pub(crate) struct Gathered(Arc<Gathering>);

impl Part {
    pub(crate) fn new(topic: Topic, node: Option<NodeName>, listed: Listed) -> Self {
        Self { topic, node, roll: Roll::new(listed) }
    }
}

impl Gathering {
    /// The waiting side, and a giving side for each part, in their order.
    pub(crate) fn start(started: Instant, parts: Vec<Part>) -> (Gathered, Vec<Share>) {
        let open = parts.len();
        let state = Mutex::new(State { parts, open, waker: None, waiting: 0 });
        let gathering = Arc::new(Self { state, done: Condvar::new(), abandoned: AtomicBool::new(false) });
        let share = |part| Share { gathering: Arc::clone(&gathering), part, started, ended: false };
        let shares = (0..open).map(share).collect();
        (Gathered(gathering), shares)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Whether anybody is left who could look at it.
    pub(crate) fn is_expected(&self) -> bool {
        !self.gathering.abandoned.load(Ordering::Relaxed)
    }

    /// Takes down what one receiver has said; false: there are too many.
    pub(crate) fn note(&self, word: Word, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.started);
        let Word { server, node, what, attempt } = word;
        let outcome = match (what, &server) {
            (What::Stored, _) => Outcome::Stored { node: node.clone(), elapsed },
            (What::Refused(refusal), _) => Outcome::Refused { refusal, node: Some(node.clone()), after: elapsed },
            (What::Accepted | What::Reply(_) | What::InFlight, Some(server)) => {
                Outcome::Acked { server: server.clone(), node: node.clone(), elapsed }
            }
            // Nobody accepts without saying who.
            (_, None) => return false,
        };
        let entry = Entry { server, node: Some(node), outcome };
        self.gathering.lock().parts[self.part].roll.note(entry, attempt)
    }

    /// Nothing else will be said. With a finish: of all that have not answered, this.
    pub(crate) fn end(&mut self, rest: Option<&Finish>) -> Vec<Entry> {
        self.ended = true;
        let mut state = self.gathering.lock();
        let part = &mut state.parts[self.part];
        if let Some(rest) = rest {
            part.roll.fill(part.node.as_ref(), &rest.outcome());
        }
        part.roll.results().to_vec()
    }

    /// The place where it goes is known now, and there are others: a giving side for each of them.
    pub(crate) fn spread(&self, places: impl IntoIterator<Item = (NodeName, Listed)>) -> Vec<Self> {
        let mut state = self.gathering.lock();
        let mut shares = Vec::new();
        let topic = state.parts[self.part].topic.clone();
        for (number, (node, listed)) in places.into_iter().enumerate() {
            let part = Part::new(topic.clone(), Some(node), listed);
            if number == 0 {
                state.parts[self.part] = part;
                continue;
            }
            state.parts.push(part);
            state.open += 1;
            let (gathering, part) = (Arc::clone(&self.gathering), state.parts.len() - 1);
            shares.push(Self { gathering, part, started: self.started, ended: false });
        }
        shares
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.ended {
            let after = clock::now().saturating_duration_since(self.started);
            self.end(Some(&Finish { how: How::Closed { sent: true }, after }));
        }
        let mut state = self.gathering.lock();
        state.open -= 1;
        if state.open > 0 {
            return;
        }
        let (waker, waiting) = (state.waker.take(), state.waiting > 0);
        drop(state);
        if waiting {
            self.gathering.done.notify_all();
        }
        // Outside of the lock: an executor may poll at once, on this very thread.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Gathered {
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

impl Drop for Gathered {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}
