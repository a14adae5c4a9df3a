//! The threads that take turns with the shared socket. [`Turns`] gives each thread its next action.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::InstanceId;
use zmqv2_proto::transport::{Socket, TransportError, Waiter};

use super::io::SharedSocket;
use super::turns::{Action, Input, TICK, Turns};
use crate::error::ServerError;
use crate::runtime::now;
use crate::runtime::wakeup::Waker;
use crate::runtime::worker::{AfterAnswer, Answer, Work, Worker};

/// At most this many requests are read before the first of them runs.
const READ_AT_ONCE: usize = 64;

/// Workers that share one ROUTER socket.
pub(crate) struct WorkerPool<W> {
    work: Arc<W>,
    shared: Mutex<SharedSocket>,
    /// The reader waits with it for the socket.
    notice: Waiter,
    /// Wakes the reader from this wait.
    waker: Waker,
    parked: Condvar,
    watcher: Condvar,
}

type Shared<'a> = MutexGuard<'a, SharedSocket>;

impl<W: Work> WorkerPool<W> {
    /// `window` is the most requests that the broker sends at a time while handlers are quick.
    pub(crate) fn new(
        socket: Socket,
        work: Arc<W>,
        instance: InstanceId,
        workers: u16,
        window: u16,
    ) -> Result<Self, ServerError> {
        let notice = socket.waiter().map_err(ServerError::Thread)?;
        let waker = Waker::new().map_err(ServerError::Thread)?;
        let shared =
            Mutex::new(SharedSocket::new(socket, instance, Turns::new(workers, window), usize::from(workers) + 1));
        Ok(Self { work, shared, notice, waker, parked: Condvar::new(), watcher: Condvar::new() })
    }

    /// Runs one thread: serves requests until the stop signal, and then finishes all requests that
    /// have come. There is one thread more than workers: it hands requests back when all workers
    /// are busy.
    pub(crate) fn run(&self, worker: &Worker) {
        let mut shared = self.lock();
        let mut input = Input::Free;
        // A request that runs right after another one begins when that one ended. Reading the clock
        // again would cost as much as a step of a quick request.
        let mut last_end = None;
        loop {
            let action = shared.turns.handle(input);
            let began = last_end.take();
            input = Input::Free;
            match action {
                Action::Run => {
                    let ended;
                    (shared, ended) = self.serve(shared, worker, began.unwrap_or_else(now));
                    last_end = Some(ended);
                }
                Action::Read => input = read(&mut shared).unwrap_or_else(|error| self.fail(worker, &error)),
                Action::WaitForSocket => (shared, input) = self.wait_for_socket(shared, worker),
                Action::SendAnswers => {
                    self.send(&mut shared);
                    input = Input::AnswersSent;
                }
                Action::Park => (shared, input) = (wait(&self.parked, shared), Input::Unparked),
                Action::Watch => (shared, input) = (self.wait_a_tick(shared), Input::Watched),
                Action::Sleep => (shared, input) = (wait(&self.watcher, shared), Input::Watched),
                Action::EndWatch { hand_back } => {
                    if hand_back {
                        Self::hand_back(&mut shared);
                    }
                    self.send(&mut shared);
                    self.parked.notify_one();
                }
                Action::WaitForRoom => (shared, input) = (self.wait_a_tick(shared), Input::WaitedForRoom),
                Action::HandBack => {
                    Self::hand_back(&mut shared);
                    self.send(&mut shared);
                }
                Action::End => {
                    shared.send();
                    return;
                }
            }
        }
    }

    fn lock(&self) -> Shared<'_> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_a_tick<'a>(&self, shared: Shared<'a>) -> Shared<'a> {
        self.watcher.wait_timeout(shared, TICK).unwrap_or_else(PoisonError::into_inner).0
    }

    fn wait_for_socket<'a>(&'a self, shared: Shared<'a>, worker: &Worker) -> (Shared<'a>, Input) {
        drop(shared);
        let stop = &worker.shutdown.stop;
        let waited = self.notice.wait([stop.fd(), self.waker.fd()]);
        if matches!(waited, Ok([_, true])) {
            self.waker.clear();
        }
        let mut shared = self.lock();
        let waited = waited.map_err(|source| TransportError::Socket { action: "wait", source });
        let input = match waited {
            Ok(_) if !stop.is_set() => Input::SocketReady,
            // The broker has released this server, so everything that it sent is here.
            Ok(_) => shared.read(usize::MAX).map_or_else(|error| self.fail(worker, &error), |()| self.stop()),
            Err(error) => self.fail(worker, &error),
        };
        (shared, input)
    }

    fn fail(&self, worker: &Worker, error: &TransportError) -> Input {
        log::error!("the workers of {} end: {error}", worker.server);
        self.stop()
    }

    fn stop(&self) -> Input {
        self.parked.notify_all();
        self.watcher.notify_all();
        self.waker.wake();
        Input::Stopped
    }

    /// Runs the first request of the queue. Returns when it ended.
    fn serve<'a>(&'a self, mut shared: Shared<'a>, worker: &Worker, began: Instant) -> (Shared<'a>, Instant) {
        let Some(mut request) = shared.queue.pop_front() else { return (shared, began) };
        let wake = shared.turns.begin(began);
        let flag = shared.begun.begin(worker.index, request.name);
        if wake.watcher {
            self.watcher.notify_one();
        }
        if wake.parked {
            self.parked.notify_one();
        }
        drop(shared);
        let Answer { header, body, then } = worker.answer(&*self.work, request.message(), began, flag);
        let mut ended = now();
        let mut shared = self.lock();
        let since = shared.answer(&request.route, &header.encode(), body, ended);
        if shared.turns.answered(ended, since) {
            self.send(&mut shared);
        }
        match then {
            AfterAnswer::Run(accepted) => {
                drop(shared);
                self.work.run(vec![accepted], worker);
                ended = now();
                shared = self.lock();
                if !W::REPORTS_ENDS && shared.turns.place_freed(request.broker) {
                    self.send(&mut shared);
                }
            }
            AfterAnswer::Send(completion) => worker.completions.send(completion),
            AfterAnswer::Nothing | AfterAnswer::Wait => {}
        }
        shared.begun.end(worker.index);
        if shared.turns.ended(request.broker, ended.saturating_duration_since(began)) {
            Self::hand_back(&mut shared);
            self.send(&mut shared);
        }
        (shared, ended)
    }

    fn hand_back(shared: &mut SharedSocket) {
        if !W::REPORTS_ENDS {
            shared.hand_back();
        }
    }

    /// Sends the answers and the credit. Sending may consume the event that the reader waits for.
    /// So this thread reads in its place, and wakes it if there are requests.
    fn send(&self, shared: &mut SharedSocket) {
        shared.send();
        if !shared.turns.reader_waits() {
            return;
        }
        if let Err(error) = shared.read(READ_AT_ONCE) {
            log::error!("cannot read requests: {error}");
        }
        if !shared.queue.is_empty() || shared.has_answers() {
            self.waker.wake();
        }
    }
}

fn wait<'a>(condition: &Condvar, shared: Shared<'a>) -> Shared<'a> {
    condition.wait(shared).unwrap_or_else(PoisonError::into_inner)
}

/// Reads requests. If there are none, sends the answers, because the thread is about to wait.
fn read(shared: &mut SharedSocket) -> Result<Input, TransportError> {
    shared.read(READ_AT_ONCE)?;
    if !shared.queue.is_empty() || (shared.send() && shared.is_readable()?) {
        return Ok(Input::Free);
    }
    Ok(Input::SocketEmpty)
}
