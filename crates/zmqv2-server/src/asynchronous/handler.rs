//! A handler that an executor runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use zmqv2_proto::{Flags, Kind, Reason, Refusal};

use super::executor::BoxFuture;
use crate::interceptor::EndResult;
use crate::interceptor::chain::{Around, around_panicked};
use crate::pull::Repeats;
use crate::rpc::counters::LiveCounters;
use crate::rpc::ended::{cast_ended, reply_of};
use crate::rpc::endpoint::{HandlerResult, Incoming};
use crate::rpc::panic_guard::panicked;
use crate::runtime::running::{enter_for_a_while, leave_server};
use crate::runtime::shared_socket::Deferred;
use crate::runtime::worker::{answer_to, malformed};

/// Runs a request, and answers it.
pub(super) struct RunningHandler {
    pub(super) future: BoxFuture<HandlerResult>,
    pub(super) incoming: Arc<Incoming>,
    pub(super) around: Around,
    /// `None` once it was answered.
    pub(super) request: Option<Deferred>,
    pub(super) repeats: Arc<Repeats>,
    pub(super) counters: Arc<LiveCounters>,
    pub(super) begun: bool,
}

impl Future for RunningHandler {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(request) = &self.request else { return Poll::Ready(()) };
        // A handler that stops its server does not wait for itself.
        let before = enter_for_a_while(request.worker().address());
        self.begun = true;
        let method = self.incoming.method().clone();
        let Self { future, around, .. } = &mut *self;
        let lost = || Poll::Ready(Err(around_panicked()));
        let polled = catch_unwind(AssertUnwindSafe(|| around.within(|| future.as_mut().poll(context), lost)));
        leave_server(before);
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(panicked(method, &*panic)),
        };
        self.end(result);
        Poll::Ready(())
    }
}

impl RunningHandler {
    fn end(&mut self, result: HandlerResult) {
        let Some(request) = self.request.take() else { return };
        self.around.returned(&self.incoming, &result);
        let may_repeat = request.header.flags.contains(Flags::MAY_REPEAT);
        if request.header.kind != Kind::Call {
            cast_ended(&self.incoming, result, &self.counters);
            return;
        }
        let method = self.incoming.method();
        let (reply, flags) = reply_of(method, result, &self.counters);
        let written = reply.encode().map_err(|error| malformed(format!("the reply cannot be written: {error}")));
        let written = written.and_then(|body| request.worker().check_reply(body.len(), method).map(|()| body));
        // A handler that fails because it was cancelled has no answer for a caller that has come back.
        let gave_up = flags == Flags::FAILURE && self.incoming.cancellation.was_seen();
        let kept = written.as_ref().ok().filter(|_| may_repeat && !gave_up);
        let kept = kept.map(|body| Arc::new((flags, body.clone())));
        match written {
            Ok(body) => {
                let mut answer = answer_to(&request.header, Kind::Reply);
                answer.flags = flags;
                request.finish(answer, body);
            }
            Err(refusal) => request.refuse(&refusal),
        }
        if may_repeat {
            self.repeats.answered(self.incoming.id, &kept);
        }
    }
}

impl Drop for RunningHandler {
    /// The executor has dropped it before its end.
    fn drop(&mut self) {
        let Some(request) = self.request.take().filter(Deferred::is_own) else { return };
        let id = request.header.id;
        if self.begun {
            self.around.end(EndResult::Failed(None), self.incoming.is_cancelled());
        }
        if request.header.kind != Kind::Call {
            log::warn!("cast {id} of {}, which was acknowledged, was dropped by its executor", self.incoming.method());
            self.counters.failed_casts.add();
        } else if self.begun {
            let detail = format!("the executor of {} has dropped it while it ran", self.incoming.method());
            request.refuse(&Refusal::new(Reason::ServerLost, detail));
            self.repeats.answered(id, &None);
        } else {
            // Given back, it would come again at once, and again.
            self.repeats.forget(id);
            request.refuse(&Refusal::new(Reason::ShuttingDown, "its executor has ended; it did not run"));
        }
    }
}
