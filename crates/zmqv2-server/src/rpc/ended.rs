//! What becomes of a handler's result: the reply of a call, or the failure of a cast.

use zmqv2_proto::{Flags, Header, MethodName, Reason, Refusal, Reply};

use crate::handler_error::HandlerError;
use crate::rpc::counters::LiveCounters;
use crate::rpc::endpoint::{HandlerResult, Incoming};

/// The reply of a call, and the flags of its answer. Errors are replies, too.
pub(crate) fn reply_of(method: &MethodName, result: HandlerResult, counters: &LiveCounters) -> (Reply, Flags) {
    let reply = result.unwrap_or_else(|error| {
        error.log(method, "failed");
        Reply::Failure(error.into_failure())
    });
    counters.calls.add();
    if !matches!(reply, Reply::Failure(_)) {
        return (reply, Flags::NONE);
    }
    counters.failed_calls.add();
    (reply, Flags::FAILURE)
}

/// A cast has run. Nobody waits for its result, so a failure is logged and counted.
pub(crate) fn cast_ended(incoming: &Incoming, result: HandlerResult, counters: &LiveCounters) {
    let failure = match result {
        Ok(Reply::Failure(failure)) => failure,
        Ok(_) => return,
        Err(error) => error.into_failure(),
    };
    counters.failed_casts.add();
    log::warn!("cast {} of {}, which was acknowledged, failed: {failure}", incoming.id, incoming.method());
}

/// The refusal of a cast that no endpoint can run.
pub(crate) fn refuse_cast(
    header: &Header,
    method: &MethodName,
    error: HandlerError,
    counters: &LiveCounters,
) -> Refusal {
    counters.refused_casts.add();
    log::debug!("refused a cast of {method}: {error}");
    // An earlier client does not know the reason, and would wait for another answer.
    let knows = header.flags.contains(Flags::NO_METHOD);
    let reason = if knows { Reason::NoMethod } else { Reason::Malformed };
    Refusal::new(reason, error.into_failure().message)
}
