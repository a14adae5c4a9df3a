//! How a worker answers a request. It is the same for all servers and sockets.
//!
//! Every message gets exactly one answer. A request that gets no reply is acknowledged before it
//! runs. The acknowledgement does not give the request's place back to the broker: the worker gives
//! the place back when the request has run.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{BodyError, Header, HeaderView, Kind, MessageId, NodeName, Reason, Refusal, ServerName, Ttl};

use crate::runtime::cancellation::CancelFlag;
use crate::runtime::completions::{Completion, CompletionSender};
use crate::runtime::registration::BrokerLimit;
use crate::runtime::running::{Running, RunningGuard, RunningHandlers};
use crate::runtime::wakeup::Signal;

/// What a server does with requests. All its workers share one value.
pub(crate) trait Work: Send + Sync + 'static {
    /// A request that was acknowledged and has not run yet.
    type Accepted;

    /// Whether the report of a request's end also gives its place back to the broker, as a
    /// listener's report does. Such a request is never handed back, because that would count as a
    /// delivery.
    const REPORTS_ENDS: bool = false;

    /// Answers a request whose time ends at `deadline`. Runs it if the answer is its result. `flag`
    /// is set if its caller gives it up; `None`: this worker cannot learn that.
    fn answer(
        &self,
        header: &Header,
        body: Body<'_>,
        deadline: Instant,
        flag: Option<Arc<CancelFlag>>,
        worker: &Worker,
    ) -> Result<Answer<Self::Accepted>, Refusal>;

    /// Runs acknowledged requests, and reports the end of each.
    fn run(&self, accepted: Vec<Self::Accepted>, worker: &Worker);
}

/// A request's header and body, or the number of frames if there are not two.
pub(crate) type Message<'a> = Result<(&'a [u8], Body<'a>), usize>;

/// The body of a request.
pub(crate) enum Body<'a> {
    Frame(Frame),
    /// A part of a bundle.
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

/// The message in these frames. Its body is taken out of them.
pub(crate) fn message(frames: &mut [Frame]) -> Message<'_> {
    match frames {
        [header, body] => Ok((header, Body::Frame(std::mem::replace(body, Frame::new())))),
        other => Err(other.len()),
    }
}

/// Signals to the workers of a server when it stops.
#[derive(Debug)]
pub(crate) struct ShutdownSignals {
    /// Collect no more for a batch: run what is there.
    pub(crate) drain: Signal,
    /// No more messages will come.
    pub(crate) stop: Signal,
    pub(crate) running: RunningHandlers,
}

/// The state of a worker's thread, apart from its socket.
#[derive(Clone)]
pub(crate) struct Worker {
    /// The number of the worker.
    pub(crate) index: u16,
    /// Its answers carry the names of the server and of the node.
    pub(crate) server: ServerName,
    pub(crate) node: NodeName,
    pub(crate) completions: CompletionSender,
    pub(crate) shutdown: Arc<ShutdownSignals>,
    /// All workers share one socket. Places go back to the broker over that socket.
    pub(crate) shares_socket: bool,
    pub(crate) broker_limit: Arc<BrokerLimit>,
    /// The most bytes of a reply.
    pub(crate) max_message_bytes: usize,
}

/// An answer, and what is left to do after it.
pub(crate) struct Answer<A> {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    pub(crate) then: AfterAnswer<A>,
}

/// What follows an answer.
pub(crate) enum AfterAnswer<A> {
    /// Nothing: the answer ends the request, and the worker is free.
    Nothing,
    /// The request runs.
    Run(A),
    /// The broker learns at once that the request has ended.
    Send(Completion),
    /// Nothing yet: an earlier delivery of the same notification runs, and its end ends this one.
    Wait,
}

impl<A> Answer<A> {
    pub(crate) fn reply(header: Header, body: Vec<u8>) -> Self {
        Self { header, body, then: AfterAnswer::Nothing }
    }

    pub(crate) fn acknowledge(request: &Header, then: AfterAnswer<A>) -> Self {
        Self { header: answer_to(request, Kind::Ack), body: Vec::new(), then }
    }
}

impl Worker {
    /// This worker runs a handler until the result is dropped.
    pub(crate) fn running(&self, running: Running) -> RunningGuard<'_> {
        self.shutdown.running.enter(self.index, running)
    }

    /// Reports that an acknowledged request has run, so that its place is free again.
    pub(crate) fn free_place(&self) {
        if self.shares_socket {
            self.completions.end_unsent();
        } else {
            self.completions.send(Completion::WorkerFree(self.index));
        }
    }

    /// The answer to any message. The caller sends it at once.
    pub(crate) fn answer<W: Work>(
        &self,
        work: &W,
        message: Message<'_>,
        now: Instant,
        flag: Option<Arc<CancelFlag>>,
    ) -> Answer<W::Accepted> {
        let mut answer = self.answer_message(work, message, now, flag);
        let ends = matches!(answer.then, AfterAnswer::Nothing);
        self.sign(&mut answer.header, ends);
        if !ends {
            self.completions.begin();
        }
        answer
    }

    fn answer_message<W: Work>(
        &self,
        work: &W,
        message: Message<'_>,
        now: Instant,
        flag: Option<Arc<CancelFlag>>,
    ) -> Answer<W::Accepted> {
        let (header, body) = match message {
            Ok(message) => message,
            Err(frames) => return wrong_frames(frames),
        };
        match read_request(header, now) {
            Ok((header, deadline)) => {
                let answer = work.answer(&header, body, deadline, flag, self);
                answer.unwrap_or_else(|refusal| refuse(Some(&header), &refusal))
            }
            Err(answer) => *answer,
        }
    }

    /// What [`is_in_server`](crate::runtime::running::is_in_server) compares.
    pub(crate) fn address(&self) -> *const () {
        Arc::as_ptr(&self.shutdown).cast()
    }

    /// Checks the size of a reply to `what`, which has run.
    pub(crate) fn check_reply(&self, size: usize, what: &dyn fmt::Display) -> Result<(), Refusal> {
        let limit = self.max_message_bytes.min(self.broker_limit.get());
        if size <= limit {
            return Ok(());
        }
        let whose = if limit == self.max_message_bytes { "server" } else { "broker" };
        let detail = format!(
            "the reply of {what} has {size} bytes, the limit of the {whose} is {limit} (rpc_zmq_max_message_bytes of \
             the {whose}); the method ran"
        );
        log::error!("{detail}");
        Err(Refusal::new(Reason::TooLarge, detail))
    }

    /// Adds what every answer says: who answers, and whether the request's place is free again.
    pub(crate) fn sign(&self, answer: &mut Header, ends: bool) {
        answer.count = ends.into();
        answer.server = Some(self.server.clone());
        answer.node = Some(self.node.clone());
    }
}

/// The answer to a message that has not two frames.
pub(crate) fn wrong_frames<A>(frames: usize) -> Answer<A> {
    refuse(None, &malformed(format!("{frames} frames instead of header and body")))
}

/// Reads the header of a request, and when its time ends.
///
/// # Errors
/// The answer to a message that is no request, or that comes too late.
pub(crate) fn read_request<A>(bytes: &[u8], now: Instant) -> Result<(Header, Instant), Box<Answer<A>>> {
    let header = Header::decode(bytes).map_err(|error| {
        let mut answer = refuse(None, &malformed(error.to_string()));
        // The broker finds the request by its tag. Without the tag, this worker would count as busy
        // for ever.
        if let Ok(view) = HeaderView::new(bytes) {
            (answer.header.tag, answer.header.id) = (view.tag(), view.id());
        }
        Box::new(answer)
    })?;
    if !header.kind.is_request() {
        let refusal = malformed(format!("a server takes requests, not {:?} messages", header.kind));
        return Err(Box::new(refuse(Some(&header), &refusal)));
    }
    // The request may have waited in the socket while this process was stopped or starved.
    let left = header.ttl.left_since(header.delivered, Ttl::monotonic_millis_at(now));
    if left.is_expired() {
        return Err(Box::new(refuse(Some(&header), &expired())));
    }
    Ok((header, left.deadline(now)))
}

/// The refusal of a request whose time has ended before it ran.
pub(crate) fn expired() -> Refusal {
    Refusal::new(Reason::Expired, "no time was left at the server; it did not run")
}

/// The header of an answer of this kind.
pub(crate) fn answer_to(request: &Header, kind: Kind) -> Header {
    let mut header = Header::new(kind, request.id);
    header.tag = request.tag;
    header
}

pub(crate) fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

/// The refusal of a request whose body cannot be read.
pub(crate) fn malformed_body(error: &BodyError) -> Refusal {
    malformed(match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

pub(crate) fn refuse<A>(request: Option<&Header>, refusal: &Refusal) -> Answer<A> {
    let mut header = match request {
        Some(request) => answer_to(request, Kind::Refusal),
        None => Header::new(Kind::Refusal, MessageId::from_bytes([0; 16])),
    };
    header.reason = Some(refusal.reason);
    Answer::reply(header, refusal.detail.as_bytes().to_vec())
}

#[cfg(test)]
#[path = "tests/worker.rs"]
mod tests;
