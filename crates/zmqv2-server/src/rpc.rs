//! What the lanes of an RPC server do: run calls and reply, acknowledge casts and run them.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{Flags, Header, Kind, Reason, Refusal, Reply, Request};

use crate::dispatcher::Dispatcher;
use crate::endpoint::Incoming;
use crate::lane::{Answer, Body, Lane, Work, answer_to, malformed_body};
use crate::recent::Seen;
use crate::repeats::{Kept, Repeats};

/// What all lanes of a server share.
pub(crate) struct Rpc {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) max_message_bytes: usize,
    pub(crate) repeats: Repeats,
}

/// A cast that was acknowledged; one copy of a fanout is a cast.
pub(crate) struct Cast {
    incoming: Incoming,
    may_repeat: bool,
}

impl Work for Rpc {
    type Accepted = Cast;

    fn answer(&self, header: &Header, body: Body<'_>, deadline: Instant, lane: &Lane) -> Result<Answer<Cast>, Refusal> {
        if header.kind == Kind::Notify {
            let detail = format!(
                "{} is the name of an RPC server, which takes calls and casts; a notification goes to a listener",
                lane.server
            );
            return Err(Refusal::new(Reason::Malformed, detail));
        }
        let request = Request::decode(&body).map_err(|error| malformed_body(&error))?;
        let incoming = Incoming::new(request, header.id, deadline);
        let may_repeat = header.flags.contains(Flags::MAY_REPEAT);
        let seen = if may_repeat { self.repeats.see(header.id, deadline) } else { Seen::Never };
        match (header.kind, seen) {
            (Kind::Cast | Kind::Fanout, Seen::Never) => Ok(Answer::ack_and_run(header, Cast { incoming, may_repeat })),
            (Kind::Cast | Kind::Fanout, Seen::Running | Seen::Answered(_)) => Ok(Answer::ack(header)),
            (_, Seen::Never) => self.run_call(header, &incoming, may_repeat),
            (_, Seen::Answered(kept)) => repeat(header, kept),
            (_, Seen::Running) => {
                let kept = self.repeats.wait(header.id, deadline);
                repeat(header, kept.ok_or_else(|| unknown("its first run has not ended in time"))?)
            }
        }
    }

    /// A cast has nobody to tell of its failure but the log, where the dispatcher writes it.
    fn run(&self, accepted: Vec<Cast>, lane: &Lane) {
        for Cast { incoming, may_repeat } in accepted {
            drop(self.dispatcher.dispatch(&incoming));
            if may_repeat {
                self.repeats.keep(incoming.id, None);
            }
            lane.free();
        }
    }
}

impl Rpc {
    fn run_call(&self, header: &Header, incoming: &Incoming, may_repeat: bool) -> Result<Answer<Cast>, Refusal> {
        let reply = self.dispatcher.dispatch(incoming);
        let flags = if matches!(reply, Reply::Failure(_)) { Flags::FAILURE } else { Flags::NONE };
        let written = self.write(incoming, reply);
        if may_repeat {
            let kept = written.as_ref().ok().map(|body| Arc::new((flags, body.clone())));
            self.repeats.keep(header.id, kept);
        }
        let mut answer = answer_to(header, Kind::Reply);
        answer.flags = flags;
        Ok(Answer::reply(answer, written?))
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

/// The answer that was given before.
fn repeat(header: &Header, kept: Kept) -> Result<Answer<Cast>, Refusal> {
    log::debug!("message {} came again", header.id);
    let kept = kept.ok_or_else(|| unknown("its answer could not be written"))?;
    let mut answer = answer_to(header, Kind::Reply);
    answer.flags = kept.0;
    Ok(Answer::reply(answer, kept.1.clone()))
}

/// The request has run or runs, and what came of it cannot be told.
fn unknown(why: &str) -> Refusal {
    Refusal::new(Reason::ServerLost, format!("the request came again, and {why}"))
}
