//! One worker: a thread with a REP socket, one request at a time.
//!
//! REP is lock-step, and the only way to talk is to answer: every request is answered, whatever it was. The handler runs on
//! the thread that owns the socket, so that a call costs no hand-over between threads; the broker knows that this
//! worker's credit is 1 and gives it nothing while it is busy.
//!
//! A cast is answered before it runs: the acknowledgement says that a worker has accepted it. It gives no credit; that goes to
//! the broker when the cast has run, over the registration's connection, so that nothing waits behind a slow cast.

use std::sync::Arc;

use crossbeam_channel::Sender;
use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{Flags, Header, Kind, MessageId, NodeName, Reason, Refusal, Reply, Request, ServerName, Ttl};

use crate::dispatcher::Dispatcher;
use crate::endpoint::Incoming;
use crate::recent::Seen;
use crate::registration::{Desk, now};
use crate::repeats::{Kept, Repeats};
use crate::wake::Signal;

/// What all workers of a server share.
pub(crate) struct Work {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) server: ServerName,
    pub(crate) node: NodeName,
    pub(crate) max_message_bytes: usize,
    pub(crate) stop: Signal,
    pub(crate) repeats: Repeats,
}

/// How a worker says that it has run what it had acknowledged.
pub(crate) struct Freedom {
    pub(crate) index: u16,
    pub(crate) free: Sender<u16>,
    pub(crate) desk: Arc<Desk>,
}

impl Freedom {
    fn tell(&self) {
        // There is room for every worker; without a receiver the server has stopped.
        let _ = self.free.try_send(self.index);
        self.desk.bell.ring();
    }
}

/// Serves requests until the stop signal, finishing the one at hand.
pub(crate) fn run(socket: &Socket, work: &Arc<Work>, freedom: &Freedom) {
    let mut frames = Vec::new();
    loop {
        match serve_next(socket, work, freedom, &mut frames) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return log::error!("a worker of {} ends: {error}", work.server),
        }
    }
}

fn serve_next(
    socket: &Socket,
    work: &Work,
    freedom: &Freedom,
    frames: &mut Vec<Frame>,
) -> Result<bool, TransportError> {
    match socket.receive(frames)? {
        Received::Message | Received::Overlong => {
            let Answer { header, body, then } = work.answer(frames);
            // The broker is gone: nobody is left to tell, and REP is ready for the next.
            if let Err(error) = socket.send([Frame::from(header.encode()), Frame::from(body)]) {
                log::warn!("a reply was not taken: {error}");
            }
            if let Some(cast) = then {
                work.run_cast(&cast);
                freedom.tell();
            }
            return Ok(true);
        }
        Received::Nothing => {}
    }
    if socket.readiness()?.readable {
        return Ok(true);
    }
    match socket.wait(None, Some(work.stop.fd())) {
        Ok(stop) => Ok(!stop),
        Err(source) => {
            log::error!("a worker of {} cannot wait: {source}", work.server);
            Ok(false)
        }
    }
}

/// What to answer, and the cast to run after that.
struct Answer {
    header: Header,
    body: Vec<u8>,
    then: Option<Cast>,
}

/// A cast that was acknowledged.
struct Cast {
    incoming: Incoming,
    may_repeat: bool,
}

impl Answer {
    fn new(header: Header, body: Vec<u8>) -> Self {
        Self { header, body, then: None }
    }
}

impl Work {
    /// The answer to any frames at all.
    fn answer(&self, frames: &[Frame]) -> Answer {
        let mut answer = match frames {
            [header, body] => match Header::decode(header) {
                Ok(header) => {
                    self.answer_request(&header, body).unwrap_or_else(|refusal| refuse(Some(&header), &refusal))
                }
                Err(error) => refuse(None, &Refusal::new(Reason::Malformed, error.to_string())),
            },
            _ => {
                let detail = format!("{} frames instead of header and body", frames.len());
                refuse(None, &Refusal::new(Reason::Malformed, detail))
            }
        };
        answer.header.count = if answer.then.is_some() { 0 } else { 1 };
        answer.header.server = Some(self.server.clone());
        answer.header.node = Some(self.node.clone());
        answer
    }

    fn answer_request(&self, header: &Header, body: &[u8]) -> Result<Answer, Refusal> {
        if !header.kind.is_request() {
            let detail = format!("a server takes requests, not {:?} messages", header.kind);
            return Err(Refusal::new(Reason::Malformed, detail));
        }
        // It may have waited in the socket, while this process was stopped or starved.
        let left = header.ttl.left_since(header.delivered, Ttl::monotonic_millis());
        if left.is_expired() {
            return Err(Refusal::new(Reason::Expired, "no time was left at the server; it did not run"));
        }
        let request = Request::decode(body).map_err(|error| {
            let detail = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            Refusal::new(Reason::Malformed, detail)
        })?;
        let deadline = left.deadline(now());
        let incoming = Incoming::new(request, header.id, deadline);
        let may_repeat = header.flags.contains(Flags::MAY_REPEAT);
        let seen = if may_repeat { self.repeats.see(header.id, deadline) } else { Seen::Never };
        match (header.kind, seen) {
            (Kind::Cast, seen) => {
                let then = matches!(seen, Seen::Never).then_some(Cast { incoming, may_repeat });
                Ok(Answer { header: reply_to(header, Kind::Ack), body: Vec::new(), then })
            }
            (_, Seen::Never) => self.run_call(header, &incoming, may_repeat),
            (_, Seen::Answered(kept)) => self.repeat(header, kept),
            (_, Seen::Running) => {
                let kept = self.repeats.wait(header.id, deadline);
                self.repeat(header, kept.ok_or_else(|| unknown("its first run has not ended in time"))?)
            }
        }
    }

    fn run_call(&self, header: &Header, incoming: &Incoming, may_repeat: bool) -> Result<Answer, Refusal> {
        let reply = self.dispatcher.dispatch(incoming);
        let flags = if reply.is_failure() { Flags::FAILURE } else { Flags::NONE };
        let written = self.write(incoming, reply);
        if may_repeat {
            let kept = written.as_ref().ok().map(|body| Arc::new((flags, body.clone())));
            self.repeats.keep(header.id, kept);
        }
        let mut answer = reply_to(header, Kind::Reply);
        answer.flags = flags;
        Ok(Answer::new(answer, written?))
    }

    /// The answer that was given before.
    fn repeat(&self, header: &Header, kept: Kept) -> Result<Answer, Refusal> {
        log::debug!("message {} came again", header.id);
        let kept = kept.ok_or_else(|| unknown("its answer could not be written"))?;
        let mut answer = reply_to(header, Kind::Reply);
        answer.flags = kept.0;
        Ok(Answer::new(answer, kept.1.clone()))
    }

    /// A cast has nobody to tell of its failure but the log, where the dispatcher writes it.
    fn run_cast(&self, cast: &Cast) {
        drop(self.dispatcher.dispatch(&cast.incoming));
        if cast.may_repeat {
            self.repeats.keep(cast.incoming.id, None);
        }
    }

    fn write(&self, incoming: &Incoming, reply: Reply) -> Result<Vec<u8>, Refusal> {
        let body = reply.encode();
        let body =
            body.map_err(|error| Refusal::new(Reason::Malformed, format!("the reply cannot be written: {error}")))?;
        let (size, limit) = (body.len(), self.max_message_bytes);
        if size > limit {
            let detail = format!(
                "the reply of {} has {size} bytes, the limit is {limit} (rpc_zmq_max_message_bytes); the method ran",
                incoming.method()
            );
            log::error!("{detail}");
            return Err(Refusal::new(Reason::TooLarge, detail));
        }
        Ok(body)
    }
}

/// The request has run or runs, and what came of it cannot be told.
fn unknown(why: &str) -> Refusal {
    Refusal::new(Reason::ServerLost, format!("the request came again, and {why}"))
}

fn reply_to(request: &Header, kind: Kind) -> Header {
    let mut header = Header::new(kind, request.id);
    header.tag = request.tag;
    header
}

fn refuse(request: Option<&Header>, refusal: &Refusal) -> Answer {
    let mut header = match request {
        Some(request) => reply_to(request, Kind::Refusal),
        None => Header::new(Kind::Refusal, MessageId::from_bytes([0; 16])),
    };
    header.reason = Some(refusal.reason);
    Answer::new(header, refusal.detail.as_bytes().to_vec())
}
