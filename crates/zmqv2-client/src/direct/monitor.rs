//! Watching over a call that blocks: the calling thread waits for its reply, and the I/O thread asks for it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use zmqv2_proto::{Header, Kind, MessageId, NodeName, Reason, Refusal, Target};

use crate::delivery::liveness::{Due, Liveness};
use crate::delivery::table::DeliveryOptions;
use crate::io::outbound::{Message, Outbound, ResultSender};
use crate::io::thread::IoThread;
use crate::outcome::CompletionKind;
use crate::outcome::completion::{CompletionReceiver, CompletionSender};
use crate::routing::router::Destination;

/// The reply and the answer to the question come over different connections: how long a reply may be behind.
const REPLY_GRACE: Duration = Duration::from_millis(300);

/// Over one attempt of a call.
#[derive(Debug)]
pub(crate) struct Monitor<'a> {
    io_thread: &'a IoThread,
    id: MessageId,
    target: &'a Arc<Target>,
    destination: Destination,
    timeout: Duration,
    state: State,
    bell: Option<Bell>,
}

#[derive(Debug)]
enum State {
    /// The request is not sent yet.
    Before,
    Watching(Liveness, Option<CompletionReceiver>),
    /// The broker does not know it; a reply that left before is waited for until then.
    Lost(Instant, Refusal, Option<NodeName>),
    /// Nobody can be asked: the client is closed.
    Off,
}

/// What is known of the call.
#[derive(Debug)]
pub(crate) enum Sign {
    /// Nothing is wrong; look again then, if not before.
    Fine(Option<Instant>),
    Lost(Refusal, Option<NodeName>),
    Silent,
}

impl<'a> Monitor<'a> {
    pub(crate) fn new(
        io_thread: &'a IoThread,
        id: MessageId,
        target: &'a Arc<Target>,
        destination: Destination,
        timeout: Duration,
    ) -> Self {
        Self { io_thread, id, target, destination, timeout, state: State::Before, bell: None }
    }

    /// The request was sent.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.state = State::Watching(Liveness::new(self.timeout, now), None);
    }

    /// Is readable when there is something new.
    pub(crate) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(|bell| bell.heard.as_fd())
    }

    pub(crate) fn look(&mut self, now: Instant) -> Sign {
        if let Some(bell) = &self.bell {
            bell.silence();
        }
        if let State::Watching(liveness, inquiry) = &mut self.state
            && let Some(completion) = inquiry.as_ref().and_then(CompletionReceiver::take)
        {
            *inquiry = None;
            match completion.kind {
                CompletionKind::Refused { refusal, node } if refusal.reason == Reason::ServerLost => {
                    self.state = State::Lost(now + REPLY_GRACE, refusal, node);
                }
                // Whoever refuses to answer is not silent.
                CompletionKind::InFlight | CompletionKind::Refused { .. } => liveness.alive(now),
                CompletionKind::Closed { .. } => self.state = State::Off,
                _ => liveness.question_failed(now),
            }
        }
        let due = match &mut self.state {
            State::Before | State::Off => return Sign::Fine(None),
            State::Lost(by, refusal, node) if now >= *by => return Sign::Lost(refusal.clone(), node.clone()),
            State::Lost(by, ..) => return Sign::Fine(Some(*by)),
            State::Watching(liveness, _) => liveness.due(now),
        };
        match due {
            Due::GiveUp => return Sign::Silent,
            Due::Ask => self.ask(now),
            Due::Nothing => {}
        }
        match &self.state {
            State::Watching(liveness, _) => Sign::Fine(Some(liveness.next_check())),
            _ => Sign::Fine(None),
        }
    }

    /// Has the I/O thread ask the broker.
    fn ask(&mut self, now: Instant) {
        let State::Watching(liveness, inquiry) = &mut self.state else { return };
        let bell = match &self.bell {
            Some(bell) => bell,
            None => match Bell::new() {
                Ok(bell) => self.bell.insert(bell),
                Err(error) => {
                    log::warn!("cannot ask for call {}: {error}", self.id);
                    return liveness.question_failed(now);
                }
            },
        };
        let (sender, receiver) = CompletionSender::new(now);
        let header = Header::new(Kind::Inquire, self.id).encode();
        let deadline = now + liveness.time_for_answer(now);
        let message = Message {
            id: self.id,
            kind: Kind::Inquire,
            target: Arc::clone(self.target),
            header,
            body: Arc::default(),
            started: now,
        };
        let options = DeliveryOptions {
            deadline,
            expires: deadline,
            retries: 0,
            wait_for_ready: false,
            monitor: None,
            candidates: 1,
            bytes: 0,
            server_queue: None,
        };
        let outbound = Outbound::new(
            Arc::new(message),
            [self.destination.clone()].into_iter().collect(),
            options,
            ResultSender::Single(sender),
        );
        // Told before it can end, so that the end rings the bell.
        receiver.poll(&bell.waker);
        if self.io_thread.inquire(outbound).is_ok() {
            *inquiry = Some(receiver);
        } else {
            self.state = State::Off;
        }
    }
}

/// Wakes a thread that waits for a descriptor.
#[derive(Debug)]
struct Bell {
    heard: UnixStream,
    waker: Waker,
}

#[derive(Debug)]
struct Ring(UnixStream);

impl Bell {
    fn new() -> io::Result<Self> {
        let (heard, ring) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        Ok(Self { heard, waker: Waker::from(Arc::new(Ring(ring))) })
    }

    fn silence(&self) {
        let mut rung = [0; 16];
        while matches!((&self.heard).read(&mut rung), Ok(count) if count > 0) {}
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        // A bell that is full rings already, and one whose hearer has gone need not ring.
        let _ = (&self.0).write(&[1]);
    }
}
