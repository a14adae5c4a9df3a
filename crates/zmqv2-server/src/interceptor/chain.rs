//! The interceptors of a server, and those that have seen a request begin.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::{Reason, Refusal, Reply};

use super::{EndResult, Ended, Interceptor, Received};
use crate::handler_error::{HandlerError, MODULE};
use crate::rpc::endpoint::{HandlerResult, Incoming};
use crate::runtime::now;

/// An interceptor whose state has any type.
trait AnyInterceptor: Send + Sync {
    fn before(self: Arc<Self>, request: &mut Received<'_>) -> Result<Box<dyn Begun>, HandlerError>;
}

/// An interceptor with the state of one request.
trait Begun: Send {
    fn within(&self, run: &mut dyn FnMut());
    fn after(self: Box<Self>, ended: &Ended<'_>);
}

impl<I: Interceptor> AnyInterceptor for I {
    fn before(self: Arc<Self>, request: &mut Received<'_>) -> Result<Box<dyn Begun>, HandlerError> {
        let state = Interceptor::before(&*self, request)?;
        Ok(Box::new(WithState { interceptor: self, state }))
    }
}

struct WithState<I: Interceptor> {
    interceptor: Arc<I>,
    state: I::State,
}

impl<I: Interceptor> Begun for WithState<I> {
    fn within(&self, run: &mut dyn FnMut()) {
        self.interceptor.within(&self.state, run);
    }

    fn after(self: Box<Self>, ended: &Ended<'_>) {
        self.interceptor.after(self.state, ended);
    }
}

/// The interceptors of a server, in their order.
#[derive(Default)]
pub(crate) struct Interceptors(Vec<Arc<dyn AnyInterceptor>>);

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

impl Interceptors {
    pub(crate) fn add(&mut self, interceptor: impl Interceptor) {
        self.0.push(Arc::new(interceptor));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs the interceptors before a request.
    pub(crate) fn before(&self, request: &mut Received<'_>) -> Result<Around, HandlerError> {
        let mut around = Around(Some((now(), Vec::new())));
        for interceptor in &self.0 {
            let begun = match catch_unwind(AssertUnwindSafe(|| Arc::clone(interceptor).before(request))) {
                Ok(begun) => begun?,
                Err(_) => {
                    log::error!("an interceptor panicked before {}", request.method);
                    continue;
                }
            };
            if let Some((_, all)) = &mut around.0 {
                all.push(begun);
            }
        }
        Ok(around)
    }
}

/// The interceptors that wait for the end of a request. If it is dropped before, the handler did not
/// run.
#[derive(Default)]
pub(crate) struct Around(Option<(Instant, Vec<Box<dyn Begun>>)>);

impl Around {
    /// Runs `run` inside all interceptors. `lost` is the result if one of them panics.
    pub(crate) fn within<T>(&self, run: impl FnOnce() -> T, lost: impl FnOnce() -> T) -> T {
        let Some((_, begun)) = &self.0 else { return run() };
        let (mut run, mut result) = (Some(run), None);
        let nested = || nest(begun, &mut || result = run.take().map(|run| run()));
        let panicked = catch_unwind(AssertUnwindSafe(nested)).is_err();
        if panicked {
            log::error!("an interceptor panicked around a handler");
        }
        // An interceptor that does not run it has no say in that: `before` refuses.
        result.or_else(|| run.map(|run| run())).unwrap_or_else(lost)
    }

    pub(crate) fn end(&mut self, result: EndResult<'_>, cancelled: bool) {
        let Some((started, begun)) = self.0.take() else { return };
        let ended = Ended { result, elapsed: now().saturating_duration_since(started), cancelled };
        for begun in begun.into_iter().rev() {
            if catch_unwind(AssertUnwindSafe(|| begun.after(&ended))).is_err() {
                log::error!("an interceptor panicked after a handler");
            }
        }
    }

    /// The handler of a request has ended.
    pub(crate) fn returned(&mut self, incoming: &Incoming, result: &HandlerResult) {
        if self.0.is_none() {
            return;
        }
        let result = match result {
            Ok(Reply::Failure(failure)) => EndResult::Failed(Some(failure)),
            Ok(_) => EndResult::Succeeded,
            Err(error) => EndResult::Failed(Some(error.failure())),
        };
        self.end(result, incoming.is_cancelled());
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        self.end(EndResult::NotRun, false);
    }
}

fn nest(begun: &[Box<dyn Begun>], run: &mut dyn FnMut()) {
    match begun.split_first() {
        Some((first, rest)) => first.within(&mut || nest(rest, run)),
        None => run(),
    }
}

/// The error of a handler whose interceptor panicked around it.
pub(crate) fn around_panicked() -> HandlerError {
    HandlerError::new(MODULE, "Panic", "an interceptor of the server panicked around the handler")
}

/// The refusal of a message that waits for no result.
pub(crate) fn refused(error: HandlerError) -> Refusal {
    Refusal::new(Reason::Unauthorized, error.into_failure().message)
}
