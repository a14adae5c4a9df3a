//! The work of an RPC server: it runs a call and then replies; it acknowledges a cast and then runs
//! it.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{Flags, Header, Kind, Reason, Refusal, Reply, Request};

use crate::interceptor::Interceptors;
use crate::rpc::counters::LiveCounters;
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::duplicates::recent::Seen;
use crate::rpc::duplicates::repeats::{RepeatedRequests, StoredAnswer};
use crate::rpc::ended::{cast_ended, refuse_cast, reply_of};
use crate::rpc::endpoint::{HandlerResult, Incoming};
use crate::rpc::wrong_kind;
use crate::runtime::cancellation::{CancelFlag, Cancellation};
use crate::runtime::running::Running;
use crate::runtime::worker::{AfterAnswer, Answer, Body, Work, Worker, answer_to, malformed, malformed_body};

pub(crate) struct RpcWork {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) interceptors: Interceptors,
    pub(crate) repeated: RepeatedRequests,
    pub(crate) counters: Arc<LiveCounters>,
}

/// An acknowledged cast, or one copy of a fanout.
pub(crate) struct Cast {
    incoming: Incoming,
    may_repeat: bool,
}

impl Work for RpcWork {
    type Accepted = Cast;

    fn answer(
        &self,
        header: &Header,
        body: Body<'_>,
        deadline: Instant,
        flag: Option<Arc<CancelFlag>>,
        worker: &Worker,
    ) -> Result<Answer<Cast>, Refusal> {
        if header.kind == Kind::Notify {
            return Err(wrong_kind(&worker.server));
        }
        let request = Request::decode(&body).map_err(|error| malformed_body(&error))?;
        let cancellation = match header.kind {
            Kind::Call => Cancellation::of_call(deadline, flag),
            _ => Cancellation::default(),
        };
        let mut incoming = Incoming { request, id: header.id, deadline, cancellation };
        if header.kind != Kind::Call
            && let Some(error) = self.dispatcher.cannot_run(&incoming)
        {
            return Err(refuse_cast(header, incoming.method(), error, &self.counters));
        }
        let may_repeat = header.flags.contains(Flags::MAY_REPEAT);
        let seen = if may_repeat { self.repeated.record(header.id, deadline) } else { Seen::New };
        let ack = |then| Ok(Answer::acknowledge(header, then));
        match (header.kind, seen) {
            (Kind::Cast | Kind::Fanout, Seen::New) => {
                self.counters.casts.add();
                ack(AfterAnswer::Run(Cast { incoming, may_repeat }))
            }
            (Kind::Cast | Kind::Fanout, Seen::Running | Seen::Answered(_)) => ack(AfterAnswer::Nothing),
            (_, Seen::New) => {
                let _running = worker.running(Running::Method(incoming.method().clone()));
                self.run_call(header, &mut incoming, may_repeat, worker)
            }
            (_, Seen::Answered(answer)) => repeat(header, answer),
            (_, Seen::Running) => {
                let answer = self.repeated.wait(header.id, deadline);
                repeat(header, answer.ok_or_else(|| unknown("its first run has not ended in time"))?)
            }
        }
    }

    fn run(&self, accepted: Vec<Cast>, worker: &Worker) {
        for Cast { mut incoming, may_repeat } in accepted {
            let running = worker.running(Running::Method(incoming.method().clone()));
            let result = self.run_method(&mut incoming);
            drop(running);
            cast_ended(&incoming, result, &self.counters);
            if may_repeat {
                self.repeated.store(incoming.id, None);
            }
            worker.free_place();
        }
    }
}

impl RpcWork {
    fn run_method(&self, incoming: &mut Incoming) -> HandlerResult {
        self.interceptors.around(incoming, |incoming| self.dispatcher.dispatch(incoming))
    }

    fn run_call(
        &self,
        header: &Header,
        incoming: &mut Incoming,
        may_repeat: bool,
        worker: &Worker,
    ) -> Result<Answer<Cast>, Refusal> {
        let result = self.run_method(incoming);
        let (reply, flags) = reply_of(incoming.method(), result, &self.counters);
        let written = Self::write(incoming, &reply, worker);
        if may_repeat {
            // A handler that fails because it was cancelled has no answer for a caller that has come
            // back.
            let gave_up = flags == Flags::FAILURE && incoming.cancellation.was_seen();
            let answer = written.as_ref().ok().filter(|_| !gave_up).map(|body| Arc::new((flags, body.clone())));
            self.repeated.store(header.id, answer);
        }
        let mut answer = answer_to(header, Kind::Reply);
        answer.flags = flags;
        Ok(Answer::reply(answer, written?))
    }

    fn write(incoming: &Incoming, reply: &Reply, worker: &Worker) -> Result<Vec<u8>, Refusal> {
        let body = reply.encode().map_err(|error| malformed(format!("the reply cannot be written: {error}")))?;
        worker.check_reply(body.len(), incoming.method())?;
        Ok(body)
    }
}

/// Gives the answer of the first run again.
fn repeat(header: &Header, stored: StoredAnswer) -> Result<Answer<Cast>, Refusal> {
    log::debug!("message {} came again", header.id);
    let stored = stored.ok_or_else(|| unknown("its first run was cancelled, or its answer could not be written"))?;
    let mut answer = answer_to(header, Kind::Reply);
    answer.flags = stored.0;
    Ok(Answer::reply(answer, stored.1.clone()))
}

/// The refusal of a repeated request that has run or runs, without a known result.
fn unknown(why: &str) -> Refusal {
    Refusal::new(Reason::ServerLost, format!("the request came again, and {why}"))
}

#[cfg(test)]
#[path = "tests/worker.rs"]
mod tests;
