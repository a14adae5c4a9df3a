//! A shared socket whose requests are answered later, from any thread.
//!
//! One thread reads the socket and gives each request to an [`Inbox`]. The request keeps its place
//! until it is answered, so the broker never sends more than there are places. A request that is
//! dropped without an answer goes back to the broker, which gives it to another server.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::transport::{Socket, TransportError, Waiter};
use zmqv2_proto::{Header, InstanceId, Kind, Refusal, process_id};

use super::io::{Request, SharedSocket};
use super::turns::{Action, Input, PROMPT, TICK, Turns};
use crate::error::ServerError;
use crate::runtime::cancellation::{CancelFlag, Cancellation};
use crate::runtime::completions::Completion;
use crate::runtime::now;
use crate::runtime::running::Running;
use crate::runtime::wakeup::Waker;
use crate::runtime::worker::{Answer, Worker, answer_to, read_request, refuse, wrong_frames};

/// At most this many requests are read at a time.
const READ_AT_ONCE: usize = 64;

/// Takes the requests of a [`DeferredPool`].
pub(crate) trait Inbox: Send + Sync + 'static {
    /// Takes a request. It must not block, because nobody reads the socket meanwhile.
    fn take(&self, request: Deferred);
}

/// The shared socket and the places of a server.
pub(crate) struct DeferredPool {
    worker: Worker,
    shared: Mutex<State>,
    /// The reader waits with it for the socket.
    notice: Waiter,
    /// Wakes the reader from this wait.
    waker: Waker,
    room: Condvar,
    /// Whether requests that have not begun may go back. A notification may not, because that would
    /// count as a delivery.
    hands_back: bool,
    /// The process that opened it. A child that was forked leaves everything to its parent.
    pid: u32,
}

struct State {
    socket: SharedSocket,
    /// The free slots of [`SharedSocket::begun`].
    free_slots: Vec<u16>,
    reader_waits_for_room: bool,
}

impl DeferredPool {
    /// `places` is the most requests that are open at a time, `window` the most that the broker
    /// sends while they end quickly.
    pub(crate) fn new(
        socket: Socket,
        worker: Worker,
        instance: InstanceId,
        places: u16,
        window: u16,
        hands_back: bool,
    ) -> Result<Self, ServerError> {
        let notice = socket.waiter().map_err(ServerError::Thread)?;
        let waker = Waker::new().map_err(ServerError::Thread)?;
        let socket = SharedSocket::new(socket, instance, Turns::new(places, window), usize::from(places));
        let state = State { socket, free_slots: (0..places).rev().collect(), reader_waits_for_room: false };
        Ok(Self {
            worker,
            shared: Mutex::new(state),
            notice,
            waker,
            room: Condvar::new(),
            hands_back,
            pid: process_id(),
        })
    }

    /// Runs the reader until the stop signal. Requests that are open then can still be answered.
    pub(crate) fn run(self: &Arc<Self>, inbox: &dyn Inbox) {
        let mut state = self.lock();
        let mut input = Input::Free;
        loop {
            let action = state.socket.turns.handle(input);
            input = Input::Free;
            match action {
                Action::Run => {
                    let request = self.begin(&mut state);
                    drop(state);
                    if let Some(request) = request {
                        inbox.take(request);
                    }
                    state = self.lock();
                }
                Action::Read => input = read(&mut state.socket).unwrap_or_else(|error| self.fail(&error)),
                Action::WaitForSocket => (state, input) = self.wait_for_socket(state),
                Action::WaitForRoom => {
                    // Nothing else sends the answers that wait.
                    state.socket.send();
                    state.reader_waits_for_room = true;
                    state = self.room.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
                    state.reader_waits_for_room = false;
                    input = Input::WaitedForRoom;
                }
                Action::HandBack => {
                    self.hand_back(&mut state);
                    state.socket.send();
                }
                Action::End => {
                    state.socket.send();
                    return;
                }
                // These are for several threads, and here is one.
                Action::SendAnswers | Action::Park | Action::Watch | Action::Sleep | Action::EndWatch { .. } => {}
            }
        }
    }

    /// Takes the first request of the queue. Answers it at once if it is no request, or too late.
    fn begin(self: &Arc<Self>, state: &mut State) -> Option<Deferred> {
        let began = now();
        let request = state.socket.queue.pop_front()?;
        // There are as many slots as places, and no more requests run than that.
        let slot = state.free_slots.pop()?;
        state.socket.turns.begin(began);
        let flag = state.socket.begun.begin(slot, request.name);
        let taken = Taken { slot, request, began };
        let read = match taken.request.parts() {
            Ok((header, _)) => read_request(header, began),
            Err(frames) => Err(Box::new(wrong_frames(frames))),
        };
        match read {
            Ok((header, deadline)) => {
                self.worker.shutdown.running.set(slot, Some(Running::Request(header.id)));
                let pool = Arc::clone(self);
                Some(Deferred { pool, taken, header, deadline, flag, progress: Progress::Taken })
            }
            Err(answer) => {
                let Answer::<()> { mut header, body, .. } = *answer;
                self.worker.sign(&mut header, true);
                state.socket.answer(&taken.request.route, &header.encode(), body, began);
                self.end(state, &taken, began);
                None
            }
        }
    }

    /// A request has ended.
    fn end(&self, state: &mut State, taken: &Taken, ended: Instant) {
        let took = ended.saturating_duration_since(taken.began);
        let slow = state.socket.turns.ended(taken.request.broker, took);
        self.leave(state, taken);
        if slow {
            self.hand_back(state);
        }
    }

    fn hand_back(&self, state: &mut State) {
        if self.hands_back {
            state.socket.hand_back();
        }
    }

    /// The slot of a request is free again.
    fn leave(&self, state: &mut State, taken: &Taken) {
        self.worker.shutdown.running.set(taken.slot, None);
        state.socket.begun.end(taken.slot);
        state.free_slots.push(taken.slot);
        if state.reader_waits_for_room {
            self.room.notify_one();
        }
    }

    fn wait_for_socket<'a>(&'a self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Input) {
        drop(state);
        let stop = &self.worker.shutdown.stop;
        let waited = self.notice.wait([stop.fd(), self.waker.fd()]);
        if matches!(waited, Ok([_, true])) {
            self.waker.clear();
        }
        let mut state = self.lock();
        let waited = waited.map_err(|source| TransportError::Socket { action: "wait", source });
        let input = match waited {
            Ok(_) if !stop.is_set() => Input::SocketReady,
            // The broker has released this server, so everything that it sent is here.
            Ok(_) => state.socket.read(usize::MAX).map_or_else(|error| self.fail(&error), |()| Input::Stopped),
            Err(error) => self.fail(&error),
        };
        (state, input)
    }

    fn is_own(&self) -> bool {
        process_id() == self.pid
    }

    fn fail(&self, error: &TransportError) -> Input {
        log::error!("the reader of {} ends: {error}", self.worker.server);
        Input::Stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the answers, unless the reader is about to. The first of them waits since `since`.
    fn send(&self, state: &mut State, now: Instant, since: Instant) {
        if !state.socket.turns.reader_waits() {
            // The reader sends them before it waits. While requests come without end, it does not.
            if now.saturating_duration_since(since) >= PROMPT {
                state.socket.send();
            }
            return;
        }
        state.socket.send();
        // Sending may consume the event that the reader waits for, so this thread reads in its place.
        if let Err(error) = state.socket.read(READ_AT_ONCE) {
            log::error!("cannot read requests: {error}");
        }
        if !state.socket.queue.is_empty() || state.socket.has_answers() {
            self.waker.wake();
        }
    }
}

/// A request that has begun.
struct Taken {
    slot: u16,
    request: Request,
    began: Instant,
}

/// What was said of a request to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing. If the request is dropped, it goes back.
    Taken,
    /// It was acknowledged, and keeps its place until it is dropped.
    Acknowledged,
    Ended,
}

/// A request that waits for its answer. If it is dropped without one, it goes back to the broker, or
/// has ended if it was acknowledged.
pub(crate) struct Deferred {
    pool: Arc<DeferredPool>,
    taken: Taken,
    pub(crate) header: Header,
    pub(crate) deadline: Instant,
    flag: Option<Arc<CancelFlag>>,
    progress: Progress,
}

impl Deferred {
    /// The bytes of its body.
    pub(crate) fn body(&self) -> &[u8] {
        self.taken.request.parts().map_or(&[], |(_, body)| body)
    }

    /// Whether somebody still waits for the answer.
    pub(crate) fn cancellation(&self) -> Cancellation {
        match self.header.kind {
            Kind::Call => Cancellation::of_call(self.deadline, self.flag.clone()),
            _ => Cancellation::default(),
        }
    }

    /// Whether it is of this process. A child that was forked leaves everything to its parent, also
    /// what threads of the parent have locked.
    pub(crate) fn is_own(&self) -> bool {
        self.pool.is_own()
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.pool.worker
    }

    /// What the request runs, for the log of a stop that came too early.
    pub(crate) fn set_running(&self, running: Running) {
        self.worker().shutdown.running.set(self.taken.slot, Some(running));
    }

    /// Tells the sender that the request runs. It keeps its place until it is dropped.
    pub(crate) fn acknowledge(&mut self) {
        if self.progress == Progress::Taken && self.pool.is_own() {
            self.worker().completions.begin();
            self.progress = Progress::Acknowledged;
            let mut state = self.pool.lock();
            let now = now();
            let since = self.answer(&mut state, answer_to(&self.header, Kind::Ack), Vec::new(), false, now);
            self.pool.send(&mut state, now, since);
        }
    }

    /// Ends the request with this answer. Without effect on one that was acknowledged.
    pub(crate) fn finish(mut self, answer: Header, body: Vec<u8>) {
        if self.progress != Progress::Taken || !self.pool.is_own() {
            return;
        }
        self.progress = Progress::Ended;
        let mut state = self.pool.lock();
        let now = now();
        let since = self.answer(&mut state, answer, body, true, now);
        self.pool.end(&mut state, &self.taken, now);
        self.pool.send(&mut state, now, since);
    }

    /// Ends the request with a refusal. Without effect on one that was acknowledged.
    pub(crate) fn refuse(self, refusal: &Refusal) {
        let Answer::<()> { header, body, .. } = refuse(Some(&self.header), refusal);
        self.finish(header, body);
    }

    /// Ends an acknowledged notification: the broker learns of it by these reports, which also give
    /// the place back.
    pub(crate) fn report(mut self, reports: impl IntoIterator<Item = Completion>) {
        if self.progress != Progress::Acknowledged || !self.pool.is_own() {
            return;
        }
        self.progress = Progress::Ended;
        for report in reports {
            self.worker().completions.send(report);
        }
        self.pool.end(&mut self.pool.lock(), &self.taken, now());
    }

    /// Adds an answer to those that leave together. Returns since when the first of them waits.
    fn answer(&self, state: &mut State, mut header: Header, body: Vec<u8>, ends: bool, now: Instant) -> Instant {
        self.pool.worker.sign(&mut header, ends);
        state.socket.answer(&self.taken.request.route, &header.encode(), body, now)
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if self.progress == Progress::Ended || !self.pool.is_own() {
            return;
        }
        let (pool, taken) = (&self.pool, &mut self.taken);
        let now = now();
        let mut state = pool.lock();
        let mut since = now;
        if self.progress == Progress::Taken {
            let route = Arc::clone(&taken.request.route);
            if let Ok((header, body)) = taken.request.message() {
                since = state.socket.answer(&route, header, body, now);
            }
            state.socket.turns.given_back(taken.request.broker);
            pool.leave(&mut state, taken);
        } else {
            pool.worker.completions.end_unsent();
            state.socket.turns.place_freed(taken.request.broker);
            pool.end(&mut state, taken, now);
        }
        pool.send(&mut state, now, since);
    }
}

/// Reads requests. If there are none, sends the answers, because the thread is about to wait.
fn read(socket: &mut SharedSocket) -> Result<Input, TransportError> {
    socket.read(READ_AT_ONCE)?;
    if !socket.queue.is_empty() || (socket.send() && socket.is_readable()?) {
        return Ok(Input::Free);
    }
    Ok(Input::SocketEmpty)
}
