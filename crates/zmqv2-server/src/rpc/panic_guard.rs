//! Runs the user's code. A panic in it does not end the thread.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::handler_error::{HandlerError, MODULE};

/// Calls `run`. Turns a panic into an error, whose text says that `what` panicked.
pub(crate) fn catch_panic<T>(
    what: impl fmt::Display,
    run: impl FnOnce() -> Result<T, HandlerError>,
) -> Result<T, HandlerError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(what, &*panic)))
}

/// The error of `what`, which panicked.
pub(crate) fn panicked(what: impl fmt::Display, panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    HandlerError::new(MODULE, "Panic", format!("{what} panicked: {}", text.unwrap_or("no message")))
}
