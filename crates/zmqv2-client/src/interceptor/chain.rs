//! The interceptors of a client, and those that have seen a message begin.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use zmqv2_proto::{RequestContext, Target};

use super::{EndResult, Ended, Interceptor, Outgoing, RefusedBy, Verb};
use crate::clock;
use crate::outcome::Completion;
use crate::outcome::call_error::CallError;
use crate::outcome::receiver_answer::AnswerKind;
use crate::outcome::send_error::SendError;

type After = Box<dyn FnOnce(&Ended<'_>) + Send>;

/// An interceptor whose state has any type.
trait AnyInterceptor: Send + Sync {
    fn before(self: Arc<Self>, message: &mut Outgoing<'_>) -> Result<After, RefusedBy>;
}

impl<I: Interceptor> AnyInterceptor for I {
    fn before(self: Arc<Self>, message: &mut Outgoing<'_>) -> Result<After, RefusedBy> {
        let state = Interceptor::before(&*self, message)?;
        Ok(Box::new(move |ended| self.after(state, ended)))
    }
}

/// The interceptors of a client, in their order.
#[derive(Clone, Default)]
pub(crate) struct Interceptors(Vec<Arc<dyn AnyInterceptor>>);

impl Interceptors {
    pub(crate) fn add(&mut self, interceptor: impl Interceptor) {
        self.0.push(Arc::new(interceptor));
    }

    /// Runs the interceptors before a message that starts now. Returns the context as they leave it.
    pub(crate) fn before<'a>(
        &self,
        verb: Verb,
        target: &'a Target,
        method: Option<&'a str>,
        context: Cow<'a, RequestContext>,
    ) -> Result<(Cow<'a, RequestContext>, Around), SendError> {
        if self.0.is_empty() {
            return Ok((context, Around::default()));
        }
        let mut message = Outgoing { verb, target, method, context: Some(context) };
        let around = self.run_before(&mut message)?;
        Ok((message.context.unwrap_or_default(), around))
    }

    /// Runs the interceptors before a message whose body is ready.
    pub(crate) fn before_body(&self, verb: Verb, target: &Target) -> Result<Around, SendError> {
        if self.0.is_empty() {
            return Ok(Around::default());
        }
        self.run_before(&mut Outgoing { verb, target, method: None, context: None })
    }

    fn run_before(&self, message: &mut Outgoing<'_>) -> Result<Around, SendError> {
        let mut afters = Vec::new();
        for interceptor in &self.0 {
            let before = || Arc::clone(interceptor).before(message);
            match catch_unwind(AssertUnwindSafe(before)) {
                Ok(Ok(after)) => afters.push(after),
                Ok(Err(source)) => {
                    drop(Around::begun(afters));
                    return Err(SendError::Intercepted { target: Box::new(message.target.clone()), source });
                }
                Err(_) => {
                    log::error!("an interceptor panicked before a {} to {}", message.verb.as_str(), message.target);
                }
            }
        }
        Ok(Around::begun(afters))
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

/// The interceptors that wait for the end of a message. If it is dropped before, the message was not
/// sent.
#[derive(Default)]
pub(crate) struct Around(Option<Box<Begun>>);

struct Begun {
    started: Instant,
    /// The lock is never contended. It makes a handle `Sync` that has this.
    afters: Mutex<Vec<After>>,
}

impl Around {
    fn begun(afters: Vec<After>) -> Self {
        Self(Some(Box::new(Begun { started: clock::now(), afters: Mutex::new(afters) })))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn end(&mut self, result: EndResult<'_>, attempt: Option<u8>) {
        let Some(begun) = self.0.take() else { return };
        let Begun { started, afters } = *begun;
        let ended = Ended { result, elapsed: clock::now().saturating_duration_since(started), attempt };
        for after in afters.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().rev() {
            if catch_unwind(AssertUnwindSafe(|| after(&ended))).is_err() {
                log::error!("an interceptor panicked after a message");
            }
        }
    }

    /// A call or a cast has ended.
    pub(crate) fn complete(&mut self, completion: &Completion, is_call: bool) {
        if self.is_empty() {
            return;
        }
        let attempt = completion.result.as_ref().ok().map(|answer| answer.attempt);
        match &completion.result {
            _ if !is_call => self.end(EndResult::Outcomes(&[completion.outcome()]), attempt),
            Ok(answer) => match &answer.kind {
                AnswerKind::Reply { is_failure: true, .. } => self.end(EndResult::Failed, attempt),
                _ => self.end(EndResult::Replied, attempt),
            },
            Err(error) => self.end(EndResult::Error(error), attempt),
        }
    }

    /// A call that blocked has ended.
    pub(crate) fn returned<T>(mut self, result: &Result<T, CallError>) {
        match result {
            Ok(_) => self.end(EndResult::Replied, None),
            Err(CallError::NotSent(_)) => self.end(EndResult::NotSent, None),
            Err(CallError::Remote(_)) => self.end(EndResult::Failed, None),
            Err(error) => self.end(EndResult::Error(error), None),
        }
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        self.end(EndResult::NotSent, None);
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}
