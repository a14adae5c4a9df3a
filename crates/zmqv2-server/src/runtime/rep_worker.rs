//! A worker with a REP socket of its own, which has one request at a time, or collects a batch.
//!
//! A request runs on the thread that owns the socket, so a call costs no hand-over between
//! threads. The broker knows how many requests this worker takes and sends it no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};

use crate::runtime::now;
use crate::runtime::wakeup::Signal;
use crate::runtime::worker::{AfterAnswer, Answer, Work, Worker, message};

/// How many acknowledged requests a worker collects before it runs them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) size: u16,
    /// The longest time that the first of them waits.
    pub(crate) timeout: Duration,
}

impl Batch {
    /// Each request runs at once.
    pub(crate) const ONE: Self = Self { size: 1, timeout: Duration::ZERO };
}

/// The requests of a batch that is not full yet. Pure: `now` comes from the caller.
struct Collected<A> {
    batch: Batch,
    requests: Vec<A>,
    /// The batch runs at this time even if it is not full. `None`: it runs only when it is full.
    run_at: Option<Instant>,
}

/// The next step of a worker when its socket is empty.
#[derive(Debug, PartialEq, Eq)]
enum Idle {
    /// Waits for a message or the stop signal.
    WaitForStop,
    /// Waits for a message, the drain signal, or this time.
    WaitForDrain(Option<Duration>),
    Run,
}

impl<A> Collected<A> {
    fn new(batch: Batch) -> Self {
        Self { batch, requests: Vec::new(), run_at: None }
    }

    /// Adds a request. Returns whether the batch is full.
    fn add(&mut self, request: A, now: Instant) -> bool {
        if self.requests.is_empty() {
            self.run_at = now.checked_add(self.batch.timeout);
        }
        self.requests.push(request);
        self.requests.len() >= self.batch.size.into()
    }

    fn idle(&self, now: impl FnOnce() -> Instant) -> Idle {
        if self.requests.is_empty() {
            return Idle::WaitForStop;
        }
        match self.run_at.map(|at| at.saturating_duration_since(now())) {
            Some(Duration::ZERO) => Idle::Run,
            left => Idle::WaitForDrain(left),
        }
    }

    fn take(&mut self) -> Vec<A> {
        std::mem::take(&mut self.requests)
    }
}

pub(crate) struct RepWorker<W> {
    pub(crate) worker: Worker,
    pub(crate) batch: Batch,
    pub(crate) work: Arc<W>,
    pub(crate) socket: Socket,
}

impl<W: Work> RepWorker<W> {
    /// Serves requests until the stop signal, and finishes what it has accepted.
    pub(crate) fn run(self) {
        let mut collected = Collected::new(self.batch);
        if let Err(error) = self.serve(&mut collected) {
            log::error!("a worker of {} ends: {error}", self.worker.server);
        }
        if !collected.requests.is_empty() {
            self.work.run(collected.take(), &self.worker);
        }
    }

    fn serve(&self, collected: &mut Collected<W::Accepted>) -> Result<(), TransportError> {
        let Worker { shutdown, .. } = &self.worker;
        let mut frames = Vec::new();
        loop {
            let run = if self.socket.receive(&mut frames)? != Received::Nothing {
                self.answer(&mut frames).is_some_and(|request| collected.add(request, now()))
            } else {
                match collected.idle(now) {
                    Idle::WaitForStop if self.wait(None, &shutdown.stop)? => return Ok(()),
                    Idle::WaitForStop => false,
                    Idle::WaitForDrain(left) => self.wait(left, &shutdown.drain)?,
                    Idle::Run => true,
                }
            };
            if run {
                self.work.run(collected.take(), &self.worker);
            }
        }
    }

    /// Answers a message. Returns the request if it is still to run.
    fn answer(&self, frames: &mut [Frame]) -> Option<W::Accepted> {
        let Answer { header, body, then } = self.worker.answer(&*self.work, message(frames), now(), None);
        // REP silently drops an answer to a broker that is gone, so any error has another cause.
        if let Err(error) = self.socket.send([Frame::from(header.encode()), Frame::from(body)]) {
            log::error!("{} could not send an answer: {error}", self.worker.server);
        }
        match then {
            AfterAnswer::Run(request) => return Some(request),
            AfterAnswer::Send(completion) => self.worker.completions.send(completion),
            AfterAnswer::Nothing | AfterAnswer::Wait => {}
        }
        None
    }

    /// Waits until there may be a message, or `signal` is set. Returns whether the signal is set.
    fn wait(&self, timeout: Option<Duration>, signal: &Signal) -> Result<bool, TransportError> {
        let waited = self.socket.wait(timeout, Some(signal.fd()));
        waited.map_err(|source| TransportError::Socket { action: "wait", source })
    }
}

#[cfg(test)]
#[path = "tests/rep_worker.rs"]
mod tests;
