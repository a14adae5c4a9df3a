//! The work of an RPC server: it runs a call and then replies; it acknowledges a cast and then runs
//! it.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{Flags, Header, Kind, Reason, Refusal, Reply, Request};

use crate::rpc::counters::LiveCounters;
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::duplicates::recent::Seen;
use crate::rpc::duplicates::repeats::{RepeatedRequests, StoredAnswer};
use crate::rpc::endpoint::Incoming;
use crate::runtime::cancellation::{CancelFlag, Cancellation};
use crate::runtime::running::Running;
use crate::runtime::worker::{AfterAnswer, Answer, Body, Work, Worker, answer_to, malformed, malformed_body};

pub(crate) struct RpcWork {
    pub(crate) dispatcher: Dispatcher,
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
            return Err(malformed(format!(
                "{} is the name of an RPC server, which takes calls and casts; a notification goes to a listener",
                worker.server
            )));
        }
        let request = Request::decode(&body).map_err(|error| malformed_body(&error))?;
        let cancellation = match header.kind {
            Kind::Call => Cancellation::of_call(deadline, flag),
            _ => Cancellation::default(),
        };
        let incoming = Incoming { request, id: header.id, deadline, cancellation };
        if header.kind != Kind::Call
            && let Some(error) = self.dispatcher.cannot_run(&incoming)
        {
            self.counters.refused_casts.add();
            log::debug!("refused a cast of {}: {error}", incoming.method());
            // An earlier client does not know the reason, and would wait for another answer.
            let knows = header.flags.contains(Flags::NO_METHOD);
            let reason = if knows { Reason::NoMethod } else { Reason::Malformed };
            return Err(Refusal::new(reason, error.into_failure().message));
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
                self.run_call(header, &incoming, may_repeat, worker)
            }
            (_, Seen::Answered(answer)) => repeat(header, answer),
            (_, Seen::Running) => {
                let answer = self.repeated.wait(header.id, deadline);
                repeat(header, answer.ok_or_else(|| unknown("its first run has not ended in time"))?)
            }
        }
    }

    /// Nobody waits for the result of a cast, so each failure is logged and counted.
    fn run(&self, accepted: Vec<Cast>, worker: &Worker) {
        for Cast { incoming, may_repeat } in accepted {
            let running = worker.running(Running::Method(incoming.method().clone()));
            let result = self.dispatcher.try_dispatch(&incoming);
            drop(running);
            let failure = match result {
                Ok(Reply::Failure(failure)) => Some(failure),
                Ok(_) => None,
                Err(error) => Some(error.into_failure()),
            };
            if let Some(failure) = failure {
                self.counters.failed_casts.add();
                let Incoming { id, .. } = incoming;
                log::warn!("cast {id} of {}, which was acknowledged, failed: {failure}", incoming.method());
            }
            if may_repeat {
                self.repeated.store(incoming.id, None);
            }
            worker.free_place();
        }
    }
}

impl RpcWork {
    fn run_call(
        &self,
        header: &Header,
        incoming: &Incoming,
        may_repeat: bool,
        worker: &Worker,
    ) -> Result<Answer<Cast>, Refusal> {
        self.counters.calls.add();
        let reply = self.dispatcher.dispatch(incoming);
        if matches!(reply, Reply::Failure(_)) {
            self.counters.failed_calls.add();
        }
        let flags = if matches!(reply, Reply::Failure(_)) { Flags::FAILURE } else { Flags::NONE };
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
