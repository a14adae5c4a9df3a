//! The work of an RPC server: it runs a call and then replies; it acknowledges a cast and then runs
//! it.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{Flags, Header, Kind, Reason, Refusal, Reply, Request};

use crate::handler_error::HandlerError;
use crate::interceptor::chain::{Around, Interceptors, around_panicked, refused};
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
    around: Around,
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
        let mut incoming = Incoming { request, id: header.id, node: header.node.clone(), deadline, cancellation };
        if header.kind != Kind::Call
            && let Some(error) = self.dispatcher.cannot_run(&incoming)
        {
            return Err(refuse_cast(header, incoming.method(), error, &self.counters));
        }
        let around = incoming.before(&self.interceptors, header, &worker.server);
        let may_repeat = header.flags.contains(Flags::MAY_REPEAT);
        if header.kind != Kind::Call {
            return self.acknowledge(header, incoming, around.map_err(refused)?, may_repeat);
        }
        let seen = if may_repeat { self.repeated.record(header.id, deadline) } else { Seen::New };
        match seen {
            Seen::New => {
                let _running = worker.running(Running::Method(incoming.method().clone()));
                self.run_call(header, &incoming, around, worker)
            }
            Seen::Answered(answer) => repeat(header, answer),
            Seen::Running => {
                let answer = self.repeated.wait(header.id, deadline);
                repeat(header, answer.ok_or_else(|| unknown("its first run has not ended in time"))?)
            }
        }
    }

    fn run(&self, accepted: Vec<Cast>, worker: &Worker) {
        for Cast { incoming, around, may_repeat } in accepted {
            let running = worker.running(Running::Method(incoming.method().clone()));
            let result = self.dispatch(&incoming, around);
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
    /// Runs the handler inside the interceptors.
    fn dispatch(&self, incoming: &Incoming, mut around: Around) -> HandlerResult {
        let lost = || Err(around_panicked());
        let result = around.within(|| self.dispatcher.dispatch(incoming), lost);
        around.returned(incoming, &result);
        result
    }

    fn acknowledge(
        &self,
        header: &Header,
        incoming: Incoming,
        around: Around,
        may_repeat: bool,
    ) -> Result<Answer<Cast>, Refusal> {
        let seen = if may_repeat { self.repeated.record(header.id, incoming.deadline) } else { Seen::New };
        if !matches!(seen, Seen::New) {
            return Ok(Answer::acknowledge(header, AfterAnswer::Nothing));
        }
        self.counters.casts.add();
        Ok(Answer::acknowledge(header, AfterAnswer::Run(Cast { incoming, around, may_repeat })))
    }

    fn run_call(
        &self,
        header: &Header,
        incoming: &Incoming,
        around: Result<Around, HandlerError>,
        worker: &Worker,
    ) -> Result<Answer<Cast>, Refusal> {
        let may_repeat = header.flags.contains(Flags::MAY_REPEAT);
        let result = around.and_then(|around| self.dispatch(incoming, around));
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
