//! Interceptors: code of the user that runs before and after every request of a server.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmqv2_proto::{Failure, Reply};

use crate::handler_error::HandlerError;
use crate::rpc::endpoint::{HandlerResult, Incoming};
use crate::rpc::panic_guard::catch_panic;

/// Runs before and after every call, cast and fanout of a server.
///
/// A server may have several. `before` runs in the order in which they were added, `after` in
/// reverse order. Both run once for each run of a method, and not for a request that comes again
/// and gets the answer of its first run. They also see requests of methods that no endpoint has, if
/// these are calls. A panic in one becomes an error in the log, and in `before` a refusal, too.
///
/// ```
/// use zmqv2_server::{Ended, HandlerError, Incoming, Interceptor};
///
/// struct OnlyWithToken;
///
/// impl Interceptor for OnlyWithToken {
///     fn before(&self, incoming: &mut Incoming) -> Result<(), HandlerError> {
///         match incoming.context().get("auth_token") {
///             Some(_) => Ok(()),
///             None => Err(HandlerError::new("my.auth", "Unauthorized", "the context has no auth_token")),
///         }
///     }
///
///     fn after(&self, ended: &Ended<'_>) {
///         println!("{} took {:?}", ended.incoming.method(), ended.duration);
///     }
/// }
/// # let _: &dyn Interceptor = &OnlyWithToken;
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// Sees a request before its method runs. It may change the request: the method and the
    /// interceptors after this one see the change.
    ///
    /// On an [`AsyncRpcServer`](crate::AsyncRpcServer), the server's only reader calls it, so it must
    /// not block there.
    ///
    /// # Errors
    /// A refusal: the method does not run, and the caller of a call gets the error as it gets those
    /// of methods. Casts and fanouts are acknowledged before, so their refusal is logged and counts
    /// as a failed cast.
    fn before(&self, incoming: &mut Incoming) -> Result<(), HandlerError> {
        let _ = incoming;
        Ok(())
    }

    /// Sees how a request ended. It runs if `before` of the same interceptor gave `Ok`, in front of
    /// the reply, which waits for it.
    fn after(&self, ended: &Ended<'_>) {
        let _ = ended;
    }
}

/// A request that has ended, as [`Interceptor::after`] sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// The request, as the interceptors have changed it.
    pub incoming: &'a Incoming,
    /// How it ended.
    pub outcome: RunOutcome<'a>,
    /// The time since the first interceptor began.
    pub duration: Duration,
}

/// How a request ended on its server.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RunOutcome<'a> {
    /// The method gave a result.
    Done,
    /// The method or an interceptor gave an error, or there is no such method.
    Failed(&'a Failure),
    /// The executor of an [`AsyncRpcServer`](crate::AsyncRpcServer) has dropped the handler before its
    /// end.
    Dropped,
}

impl<'a> RunOutcome<'a> {
    fn of(result: &'a HandlerResult) -> Self {
        match result {
            Ok(Reply::Failure(failure)) => Self::Failed(failure),
            Ok(_) => Self::Done,
            Err(error) => Self::Failed(error.failure()),
        }
    }
}

/// The interceptors of a server, in order.
#[derive(Clone, Default)]
pub(crate) struct Interceptors(pub(crate) Vec<Arc<dyn Interceptor>>);

/// A request for which `before` has run.
pub(crate) struct Begun {
    started: Instant,
    /// How many interceptors gave `Ok`.
    passed: usize,
}

impl Interceptors {
    /// Runs `before`. `None`: there are no interceptors. The error is that of a refusal.
    #[expect(clippy::disallowed_methods, reason = "it measures how long the user's code runs")]
    pub(crate) fn begin(&self, incoming: &mut Incoming) -> Option<(Begun, Result<(), HandlerError>)> {
        if self.0.is_empty() {
            return None;
        }
        let started = Instant::now();
        for (passed, interceptor) in self.0.iter().enumerate() {
            if let Err(error) = catch_panic("an interceptor", || interceptor.before(incoming)) {
                return Some((Begun { started, passed }, Err(error)));
            }
        }
        Some((Begun { started, passed: self.0.len() }, Ok(())))
    }

    /// Runs `after`.
    pub(crate) fn end(&self, begun: &Begun, incoming: &Incoming, result: &HandlerResult) {
        self.end_as(begun, incoming, RunOutcome::of(result));
    }

    pub(crate) fn end_as(&self, begun: &Begun, incoming: &Incoming, outcome: RunOutcome<'_>) {
        let ended = Ended { incoming, outcome, duration: begun.started.elapsed() };
        for interceptor in self.0[..begun.passed].iter().rev() {
            let run = || {
                interceptor.after(&ended);
                Ok(())
            };
            if let Err(error) = catch_panic("an interceptor", run) {
                log::error!("after {}: {error}", incoming.method());
            }
        }
    }

    /// Runs `run` between `before` and `after`.
    pub(crate) fn around(
        &self,
        incoming: &mut Incoming,
        run: impl FnOnce(&Incoming) -> HandlerResult,
    ) -> HandlerResult {
        let Some((begun, passed)) = self.begin(incoming) else { return run(incoming) };
        let result = passed.and_then(|()| run(incoming));
        self.end(&begun, incoming, &result);
        result
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

#[cfg(test)]
#[path = "tests/interceptor.rs"]
mod tests;
