//! Monitors a blocking call: while its thread waits for the reply, the I/O thread asks the broker.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use zmqv2_proto::{Header, Kind, MessageId, NodeName, Reason, Refusal, Target, deadline};

use crate::delivery::attempt::AskError;
use crate::delivery::liveness::{Due, Liveness};
use crate::delivery::table::DeliveryOptions;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::io::thread::IoThread;
use crate::outcome::call_error::CallError;
use crate::outcome::completion::{CompletionReceiver, CompletionSender};
use crate::outcome::receiver_answer::{AnswerKind, ReceiverAnswer};
use crate::outcome::send_error::SendError;
use crate::routing::destinations::{Destination, Destinations};
use crate::routing::route::Route;

/// The reply and the answer to a question use different connections. A reply may come this much
/// later.
const REPLY_GRACE: Duration = Duration::from_millis(300);

/// Monitors one request that was sent.
#[derive(Debug)]
pub(crate) struct Monitor<'a> {
    io_thread: &'a IoThread,
    id: MessageId,
    target: &'a Arc<Target>,
    destination: Destination,
    phase: Phase,
    wake_pipe: Option<WakePipe>,
}

#[derive(Debug)]
enum Phase {
    Monitoring(Liveness, Option<CompletionReceiver>),
    /// The broker does not know the call, or its server is silent. Until then, a reply may still come.
    Lost(Instant, Refusal, Option<NodeName>),
    /// The client is closed, so no question can be sent.
    Closed,
}

impl<'a> Monitor<'a> {
    /// A monitor of a request that was sent `now`.
    pub(crate) fn new(
        io_thread: &'a IoThread,
        id: MessageId,
        target: &'a Arc<Target>,
        destination: Destination,
        timeout: Duration,
        now: Instant,
    ) -> Self {
        let phase = Phase::Monitoring(Liveness::new(timeout, now), None);
        Self { io_thread, id, target, destination, phase, wake_pipe: None }
    }

    /// Becomes readable when an answer to a question has come.
    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake_pipe.as_ref().map(|wake_pipe| wake_pipe.reader.as_fd())
    }

    /// Checks the call. Returns when to check again, at the `latest` then; or why no answer will
    /// come.
    pub(crate) fn check(&mut self, now: Instant, latest: Instant) -> Result<Instant, AskError> {
        if let Some(wake_pipe) = &self.wake_pipe {
            wake_pipe.drain();
        }
        if let Phase::Monitoring(liveness, inquiry) = &mut self.phase
            && let Some(completion) = inquiry.as_ref().and_then(CompletionReceiver::take)
        {
            *inquiry = None;
            match completion.result {
                Err(CallError::Refused { refusal, node, .. }) if refusal.reason == Reason::ServerLost => {
                    self.phase = Phase::Lost(now + REPLY_GRACE, refusal, node);
                }
                Ok(ReceiverAnswer { kind: AnswerKind::InFlight { silence }, node, .. }) => {
                    if let Some(lost) = liveness.in_flight(now, silence) {
                        self.phase = Phase::Lost(now + REPLY_GRACE, lost, Some(node));
                    }
                }
                // Any answer shows that the broker is alive.
                Ok(_) | Err(CallError::Refused { .. }) => liveness.alive(now),
                Err(CallError::Closed { .. } | CallError::NotSent(SendError::Closed { .. })) => {
                    self.phase = Phase::Closed;
                }
                Err(_) => liveness.question_failed(now),
            }
        }
        match &mut self.phase {
            Phase::Closed => return Ok(latest),
            Phase::Lost(by, refusal, node) if now >= *by => {
                return Err(AskError::Refused(refusal.clone(), node.clone()));
            }
            Phase::Lost(by, ..) => return Ok(latest.min(*by)),
            Phase::Monitoring(liveness, _) => match liveness.due(now) {
                Due::GiveUp => return Err(AskError::NoAnswer),
                Due::Ask => self.ask(now),
                Due::Nothing => {}
            },
        }
        Ok(match &self.phase {
            Phase::Monitoring(liveness, _) => latest.min(liveness.next_check().max(now)),
            _ => latest,
        })
    }

    /// Makes the I/O thread ask the broker.
    fn ask(&mut self, now: Instant) {
        let Phase::Monitoring(liveness, inquiry) = &mut self.phase else { return };
        let wake_pipe = match &self.wake_pipe {
            Some(wake_pipe) => wake_pipe,
            None => match WakePipe::new() {
                Ok(wake_pipe) => self.wake_pipe.insert(wake_pipe),
                Err(error) => {
                    log::warn!("cannot ask for call {}: {error}", self.id);
                    return liveness.question_failed(now);
                }
            },
        };
        let (sender, receiver) = CompletionSender::new(now, Arc::clone(self.target));
        let header = Header::new(Kind::Inquire, self.id).encode();
        let deadline = deadline(now, liveness.time_for_answer(now));
        let message = Message {
            id: self.id,
            kind: Kind::Inquire,
            target: Arc::clone(self.target),
            header,
            body: Arc::default(),
            started: now,
        };
        let route = Route::to_any(Destinations::Listed(vec![self.destination.clone()]), now);
        let options = DeliveryOptions::new(deadline);
        let outbound = Outbound::new(Arc::new(message), route, options, ResultSender::Single(sender));
        // The waker is set before the question is sent, so that its end writes to the pipe.
        receiver.poll(&wake_pipe.waker);
        if self.io_thread.inquire(outbound).is_ok() {
            *inquiry = Some(receiver);
        } else {
            self.phase = Phase::Closed;
        }
    }
}

/// Wakes a thread that polls a descriptor.
#[derive(Debug)]
struct WakePipe {
    reader: UnixStream,
    waker: Waker,
}

#[derive(Debug)]
struct PipeWaker(UnixStream);

impl WakePipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, waker: Waker::from(Arc::new(PipeWaker(writer))) })
    }

    fn drain(&self) {
        let mut read = [0; 16];
        while matches!((&self.reader).read(&mut read), Ok(count) if count > 0) {}
    }
}

impl Wake for PipeWaker {
    fn wake(self: Arc<Self>) {
        // A full pipe has woken the reader already, and a closed one has no reader.
        let _ = (&self.0).write(&[1]);
    }
}
