//! How a handler learns that nobody waits for its result any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use crate::runtime::now;

/// Whether somebody still waits for the result of a request.
///
/// A handler that runs for long looks at it between its steps, and returns early. It can be cloned,
/// and sent to the threads that work for the handler.
///
/// A call is cancelled when its deadline has passed, when the caller has given it up, and when the
/// caller's process or connection has ended. A server with one worker learns only of the deadline.
/// A cast and a notification are never cancelled, because nobody waits for their results.
///
/// ```
/// use zmqv2_server::{HandlerError, HandlerResult, Incoming, Methods, reply};
///
/// fn backup(incoming: &Incoming) -> HandlerResult {
///     for _disk in incoming.args::<Vec<String>>()? {
///         if incoming.is_cancelled() {
///             return Err(HandlerError::new("backup", "Cancelled", "nobody waits for the result"));
///         }
///         // ... copy the disk ...
///     }
///     reply("done")
/// }
///
/// # fn main() -> Result<(), zmqv2_server::InvalidName> {
/// let methods = Methods::new().raw("backup", backup)?;
/// # drop(methods);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Option<Call>);

#[derive(Debug, Clone)]
struct Call {
    deadline: Instant,
    /// `None`: the worker cannot be told that its caller has given up.
    flag: Option<Arc<CancelFlag>>,
}

impl Cancellation {
    /// Of a call with this deadline.
    pub(crate) fn of_call(deadline: Instant, flag: Option<Arc<CancelFlag>>) -> Self {
        Self(Some(Call { deadline, flag }))
    }

    /// Whether nobody waits for the result any more. Once this was `true`, it stays so.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let Some(Call { deadline, flag }) = &self.0 else { return false };
        flag.as_ref().is_some_and(|flag| flag.look()) || now() >= *deadline
    }

    /// Whether the handler has learnt that the caller has given the call up.
    pub(crate) fn was_seen(&self) -> bool {
        let flag = self.0.as_ref().and_then(|call| call.flag.as_ref());
        flag.is_some_and(|flag| flag.0.load(Ordering::Relaxed) == SEEN)
    }
}

const WANTED: u8 = 0;
const CANCELLED: u8 = 1;
/// Cancelled, and the handler knows it.
const SEEN: u8 = 2;

/// Whether a call was given up.
#[derive(Debug, Default)]
pub(crate) struct CancelFlag(AtomicU8);

impl CancelFlag {
    pub(crate) fn cancel(&self) {
        let _ = self.0.compare_exchange(WANTED, CANCELLED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The caller has sent the call again. Too late if the handler knows of the cancellation.
    pub(crate) fn revive(&self) {
        let _ = self.0.compare_exchange(CANCELLED, WANTED, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn look(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            WANTED => false,
            SEEN => true,
            _ => self.0.compare_exchange(CANCELLED, SEEN, Ordering::Relaxed, Ordering::Relaxed) != Err(WANTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_call_is_cancelled_by_its_caller_or_at_its_deadline_and_a_cast_never() {
        let flag = Arc::new(CancelFlag::default());
        let call = Cancellation::of_call(now() + MINUTE, Some(Arc::clone(&flag)));
        let copy = call.clone();
        assert!(!call.is_cancelled() && !call.was_seen());
        flag.cancel();
        assert!(!call.was_seen());
        assert!(copy.is_cancelled() && call.is_cancelled() && call.was_seen());
        let late = Cancellation::of_call(now(), None);
        assert!(late.is_cancelled() && !late.was_seen());
        assert!(!Cancellation::default().is_cancelled());
    }

    #[test]
    fn a_call_that_comes_again_is_wanted_again_unless_its_handler_knows_better() {
        let flag = Arc::new(CancelFlag::default());
        let call = Cancellation::of_call(now() + MINUTE, Some(Arc::clone(&flag)));
        flag.cancel();
        flag.revive();
        assert!(!call.is_cancelled());
        flag.cancel();
        assert!(call.is_cancelled());
        flag.revive();
        assert!(call.is_cancelled());
    }
}
