//! One worker: a thread with a REP socket, one request at a time, or a batch of them.
//!
//! REP is lock-step, and the only way to talk is to answer: every request is answered, whatever it was. What runs a request
//! runs on the thread that owns the socket, so that a call costs no hand-over between threads; the broker knows this
//! lane's credit and gives it nothing above that.
//!
//! A request that is acknowledged rather than replied to is answered before it runs: the acknowledgement says that a worker
//! has accepted it. It gives no credit; that goes to the broker as a [`Completion`] when it has run, over the registration's
//! connection, so that nothing waits behind it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{BodyError, Header, HeaderView, Kind, MessageId, NodeName, Reason, Refusal, ServerName, Ttl};

use crate::runtime::completions::{Completion, CompletionSender};
use crate::runtime::now;
use crate::runtime::wakeup::Signal;

/// What the lanes of a server do with requests.
pub(crate) trait Work: Send + Sync + 'static {
    /// A request that was acknowledged.
    type Accepted;

    /// The answer to a request that waits until `deadline`. Runs it, when the answer is its result.
    fn answer(
        &self,
        header: &Header,
        body: Body<'_>,
        deadline: Instant,
        worker: &WorkerContext,
    ) -> Result<Answer<Self::Accepted>, Refusal>;

    /// Runs what was acknowledged, and tells the broker of each.
    fn run(&self, accepted: Vec<Self::Accepted>, worker: &WorkerContext);
}

/// A request's header and body, or how many frames there are instead.
pub(crate) type Message<'a> = Result<(&'a [u8], Body<'a>), usize>;

/// The body of a request.
pub(crate) enum Body<'a> {
    Frame(Frame),
    /// In a bundle.
    Part(&'a [u8]),
}

impl From<Body<'_>> for Frame {
    fn from(body: Body<'_>) -> Self {
        match body {
            Body::Frame(frame) => frame,
            Body::Part(bytes) => Self::from(bytes),
        }
    }
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame,
            Self::Part(bytes) => bytes,
        }
    }
}

/// The message of these frames, whose body is taken out.
pub(crate) fn message(frames: &mut [Frame]) -> Message<'_> {
    match frames {
        [header, body] => Ok((header, Body::Frame(std::mem::replace(body, Frame::new())))),
        other => Err(other.len()),
    }
}

/// How many acknowledged requests a lane gathers before it runs them, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) size: u16,
    /// Since the first.
    pub(crate) timeout: Duration,
}

impl Batch {
    /// Each runs at once.
    pub(crate) const ONE: Self = Self { size: 1, timeout: Duration::ZERO };
}

/// How the lanes of a server are told to end.
#[derive(Debug)]
pub(crate) struct ShutdownSignals {
    /// Gather no longer: run what is there.
    pub(crate) drain: Signal,
    /// Nothing comes any more.
    pub(crate) stop: Signal,
}

/// What a lane knows of itself.
pub(crate) struct WorkerContext {
    /// Its number.
    pub(crate) index: u16,
    /// Whose name its answers carry.
    pub(crate) server: ServerName,
    pub(crate) node: NodeName,
    pub(crate) batch: Batch,
    pub(crate) completions: CompletionSender,
    pub(crate) shutdown: Arc<ShutdownSignals>,
    /// Its socket serves others, too, and whoever owns that gives the broker credit.
    pub(crate) shares: bool,
}

/// What to answer, and what is left to do after that.
pub(crate) struct Answer<A> {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    pub(crate) then: AfterAnswer<A>,
}

/// What follows an answer.
pub(crate) enum AfterAnswer<A> {
    /// The request is settled by the answer: the lane is free.
    Nothing,
    /// Run it, and tell the broker.
    Run(A),
    /// Tell the broker at once.
    Send(Completion),
    /// Whoever runs it already tells the broker.
    SameAsFirst,
}

impl<A> Answer<A> {
    /// A reply.
    pub(crate) fn reply(header: Header, body: Vec<u8>) -> Self {
        Self { header, body, then: AfterAnswer::Nothing }
    }

    /// An acknowledgement of what has run before, and is of no interest any more.
    pub(crate) fn ack(request: &Header) -> Self {
        Self::acknowledge(request, AfterAnswer::Nothing)
    }

    /// An acknowledgement of what runs then.
    pub(crate) fn ack_and_run(request: &Header, accepted: A) -> Self {
        Self::acknowledge(request, AfterAnswer::Run(accepted))
    }

    /// An acknowledgement of what has run before, and of which the broker is still to be told.
    pub(crate) fn ack_and_send(request: &Header, word: Completion) -> Self {
        Self::acknowledge(request, AfterAnswer::Send(word))
    }

    /// An acknowledgement of what runs already; when it has run, the broker is told of this one, too.
    pub(crate) fn ack_and_wait(request: &Header) -> Self {
        Self::acknowledge(request, AfterAnswer::SameAsFirst)
    }

    fn acknowledge(request: &Header, then: AfterAnswer<A>) -> Self {
        Self { header: answer_to(request, Kind::Ack), body: Vec::new(), then }
    }
}

impl WorkerContext {
    /// Serves requests until the stop signal, finishing what was accepted.
    pub(crate) fn run<W: Work>(&self, socket: &Socket, work: &W) {
        let mut gathered = Vec::new();
        if let Err(error) = self.serve(socket, work, &mut gathered) {
            log::error!("a worker of {} ends: {error}", self.server);
        }
        if !gathered.is_empty() {
            work.run(gathered, self);
        }
    }

    fn serve<W: Work>(&self, socket: &Socket, work: &W, gathered: &mut Vec<W::Accepted>) -> Result<(), TransportError> {
        let mut frames = Vec::new();
        // Without an instant: when the batch is full.
        let mut run_at = None;
        loop {
            if socket.receive(&mut frames)? != Received::Nothing {
                let Some(accepted) = self.take(socket, work, &mut frames) else { continue };
                if gathered.is_empty() {
                    run_at = now().checked_add(self.batch.timeout);
                }
                gathered.push(accepted);
                if gathered.len() >= self.batch.size.into() {
                    work.run(std::mem::take(gathered), self);
                }
            } else if gathered.is_empty() {
                if wait(socket, None, &self.shutdown.stop)? {
                    return Ok(());
                }
            } else {
                let left = run_at.map(|at| at.saturating_duration_since(now()));
                if left == Some(Duration::ZERO) || wait(socket, left, &self.shutdown.drain)? {
                    work.run(std::mem::take(gathered), self);
                }
            }
        }
    }

    /// Answers a message; what of it is left to run.
    fn take<W: Work>(&self, socket: &Socket, work: &W, frames: &mut [Frame]) -> Option<W::Accepted> {
        let Answer { header, body, then } = self.answer(work, message(frames), now());
        // REP drops the answer to a broker that is gone without a word, so this is something else.
        if let Err(error) = socket.send([Frame::from(header.encode()), Frame::from(body)]) {
            log::error!("an answer of {} was not taken: {error}", self.server);
        }
        match then {
            AfterAnswer::Run(accepted) => return Some(accepted),
            AfterAnswer::Send(word) => self.completions.send(word),
            AfterAnswer::Nothing | AfterAnswer::SameAsFirst => {}
        }
        None
    }

    /// What was acknowledged has run: its place is free again.
    pub(crate) fn free(&self) {
        if self.shares {
            self.completions.finish();
        } else {
            self.completions.send(Completion::WorkerFree(self.index));
        }
    }

    /// The answer to any message at all that is there `now`, to be sent at once.
    pub(crate) fn answer<W: Work>(&self, work: &W, message: Message<'_>, now: Instant) -> Answer<W::Accepted> {
        let mut answer = self.answer_message(work, message, now);
        let settled = matches!(answer.then, AfterAnswer::Nothing);
        answer.header.count = settled.into();
        answer.header.server = Some(self.server.clone());
        answer.header.node = Some(self.node.clone());
        if !settled {
            self.completions.begin();
        }
        answer
    }

    fn answer_message<W: Work>(&self, work: &W, message: Message<'_>, now: Instant) -> Answer<W::Accepted> {
        let malformed = |detail: String| refuse(None, &Refusal::new(Reason::Malformed, detail));
        let (header, body) = match message {
            Ok(message) => message,
            Err(frames) => return malformed(format!("{frames} frames instead of header and body")),
        };
        match Header::decode(header) {
            Ok(header) => {
                let answer = self.answer_request(work, &header, body, now);
                answer.unwrap_or_else(|refusal| refuse(Some(&header), &refusal))
            }
            Err(error) => {
                let mut answer = malformed(error.to_string());
                // A broker that gave this to a worker waits for the tag: without it, the worker would count as busy for ever.
                if let Ok(view) = HeaderView::new(header) {
                    (answer.header.tag, answer.header.id) = (view.tag(), view.id());
                }
                answer
            }
        }
    }

    fn answer_request<W: Work>(
        &self,
        work: &W,
        header: &Header,
        body: Body<'_>,
        now: Instant,
    ) -> Result<Answer<W::Accepted>, Refusal> {
        if !header.kind.is_request() {
            let detail = format!("a server takes requests, not {:?} messages", header.kind);
            return Err(Refusal::new(Reason::Malformed, detail));
        }
        // It may have waited in the socket, while this process was stopped or starved.
        let left = header.ttl.left_since(header.delivered, Ttl::monotonic_millis_at(now));
        if left.is_expired() {
            return Err(Refusal::new(Reason::Expired, "no time was left at the server; it did not run"));
        }
        work.answer(header, body, left.deadline(now), self)
    }
}

/// Waits until there may be a message, or `signal` is given: whether it is.
fn wait(socket: &Socket, timeout: Option<Duration>, signal: &Signal) -> Result<bool, TransportError> {
    let waited = socket.wait(timeout, Some(signal.fd()));
    waited.map_err(|source| TransportError::Socket { action: "wait", source })
}

/// The header of an answer of this kind.
pub(crate) fn answer_to(request: &Header, kind: Kind) -> Header {
    let mut header = Header::new(kind, request.id);
    header.tag = request.tag;
    header
}

/// The body of a request cannot be read.
pub(crate) fn malformed_body(error: &BodyError) -> Refusal {
    let detail = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Refusal::new(Reason::Malformed, detail)
}

fn refuse<A>(request: Option<&Header>, refusal: &Refusal) -> Answer<A> {
    let mut header = match request {
        Some(request) => answer_to(request, Kind::Refusal),
        None => Header::new(Kind::Refusal, MessageId::from_bytes([0; 16])),
    };
    header.reason = Some(refusal.reason);
    Answer::reply(header, refusal.detail.as_bytes().to_vec())
}
