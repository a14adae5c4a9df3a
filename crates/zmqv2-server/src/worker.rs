//! One worker: a thread with a REP socket, one request at a time.
//!
//! REP is lock-step, and the only way to talk is to answer: every request is answered, whatever it was. The handler runs on
//! the thread that owns the socket, so that a call costs no hand-over between threads; the broker knows that this
//! worker's credit is 1 and gives it nothing while it is busy.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{Flags, Header, Kind, MessageId, NodeName, Reason, Refusal, Reply, Request, ServerName};

use crate::dispatcher::Dispatcher;
use crate::endpoint::Incoming;
use crate::wake::Signal;

/// What all workers of a server share.
pub(crate) struct Work {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) server: ServerName,
    pub(crate) node: NodeName,
    pub(crate) max_message_bytes: usize,
    pub(crate) stop: Signal,
}

/// Serves requests until the stop signal, finishing the one at hand.
pub(crate) fn run(socket: &Socket, work: &Arc<Work>) {
    let mut frames = Vec::new();
    loop {
        match serve_next(socket, work, &mut frames) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return log::error!("a worker of {} ends: {error}", work.server),
        }
    }
}

fn serve_next(socket: &Socket, work: &Work, frames: &mut Vec<Frame>) -> Result<bool, TransportError> {
    match socket.receive(frames)? {
        Received::Message | Received::Overlong => {
            let (header, body) = answer(work, frames);
            // The broker is gone: nobody is left to tell, and REP is ready for the next.
            if let Err(error) = socket.send([Frame::from(header.encode()), Frame::from(body)]) {
                log::warn!("a reply was not taken: {error}");
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

/// The answer to any frames at all.
fn answer(work: &Work, frames: &[Frame]) -> (Header, Vec<u8>) {
    let (mut header, body) = match frames {
        [header, body] => match Header::decode(header) {
            Ok(header) => answer_request(work, &header, body),
            Err(error) => refuse(None, &Refusal::new(Reason::Malformed, error.to_string())),
        },
        _ => refuse(
            None,
            &Refusal::new(Reason::Malformed, format!("{} frames instead of header and body", frames.len())),
        ),
    };
    header.credit = 1;
    header.server = Some(work.server.clone());
    header.node = Some(work.node.clone());
    (header, body)
}

fn answer_request(work: &Work, header: &Header, body: &[u8]) -> (Header, Vec<u8>) {
    if !header.kind.is_request() {
        let detail = format!("a server takes requests, not {:?} messages", header.kind);
        return refuse(Some(header), &Refusal::new(Reason::Malformed, detail));
    }
    if header.ttl.is_expired() {
        return refuse(Some(header), &Refusal::new(Reason::Expired, "no time was left at the server; it did not run"));
    }
    let request = match Request::decode(body) {
        Ok(request) => request,
        Err(error) => {
            let detail = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            return refuse(Some(header), &Refusal::new(Reason::Malformed, detail));
        }
    };
    let incoming = Incoming::new(request, header.id, header.ttl.deadline(now()));
    let reply = work.dispatcher.dispatch(&incoming);
    let flags = if reply.is_failure() { Flags::FAILURE } else { Flags::NONE };
    let body = match encode(reply) {
        Ok(body) => body,
        Err(refusal) => return refuse(Some(header), &refusal),
    };
    let limit = work.max_message_bytes;
    if body.len() > limit {
        let detail = format!(
            "the reply of {} has {} bytes, the limit is {limit} (rpc_zmq_max_message_bytes); the method ran",
            incoming.method(),
            body.len()
        );
        log::error!("{detail}");
        return refuse(Some(header), &Refusal::new(Reason::TooLarge, detail));
    }
    let mut answer = Header::new(Kind::Reply, header.id);
    answer.tag = header.tag;
    answer.flags = flags;
    (answer, body)
}

fn encode(reply: Reply) -> Result<Vec<u8>, Refusal> {
    reply.encode().map_err(|error| Refusal::new(Reason::Malformed, format!("the reply cannot be written: {error}")))
}

fn refuse(request: Option<&Header>, refusal: &Refusal) -> (Header, Vec<u8>) {
    let mut header = Header::new(Kind::Refusal, request.map_or(MessageId::from_bytes([0; 16]), |request| request.id));
    header.tag = request.map_or(0, |request| request.tag);
    header.reason = Some(refusal.reason);
    (header, refusal.detail.as_bytes().to_vec())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the worker's thread is a driver: deadlines start when a request is read"
)]
fn now() -> Instant {
    Instant::now()
}
