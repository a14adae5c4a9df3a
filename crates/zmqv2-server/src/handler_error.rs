//! The error of a handler.

use std::fmt;

use zmqv2_proto::Failure;
/// The module of failures that this crate itself raises, other than the dispatcher's.
pub(crate) use zmqv2_proto::SERVER_MODULE as MODULE;
use zmqv2_proto::service::{MethodError, Raised};

/// The error of a handler. The caller gets it.
///
/// `?` turns any [`std::error::Error`] into a `HandlerError`: its type is the class, its text the
/// message, its sources the traceback.
pub struct HandlerError {
    failure: Box<Failure>,
    expected: bool,
}

impl HandlerError {
    /// An error of this class, with this message.
    #[must_use]
    pub fn new(module: impl Into<String>, class: impl Into<String>, message: impl Into<String>) -> Self {
        Self { failure: Box::new(Failure::new(module, class, message)), expected: false }
    }

    /// An error that is part of the interface, such as "not found". The caller gets it as any other
    /// error, but the server does not log it as a failure.
    #[must_use]
    pub fn expected(failure: Failure) -> Self {
        Self { failure: Box::new(failure), expected: true }
    }

    /// The error of a method of a declared service.
    pub(crate) fn raised(raised: Raised) -> Self {
        Self { failure: raised.failure, expected: raised.expected }
    }

    /// Logs the error of `what`. `ended` says how that ended.
    pub(crate) fn log(&self, what: impl fmt::Display, ended: &str) {
        if self.expected {
            log::debug!("{what} answered {self}");
        } else {
            log::error!("{what} {ended}: {self}");
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }

    pub(crate) fn into_failure(self) -> Box<Failure> {
        self.failure
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)
    }
}

// This type is no `Error` itself: that would conflict with this conversion, which makes `?` work.
impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { failure: Box::new(Failure::of(&error)), expected: false }
    }
}

/// For methods of a declared service that use functions written for [`Methods`](crate::Methods).
impl<E> From<HandlerError> for MethodError<E> {
    fn from(error: HandlerError) -> Self {
        Self::Other(error.failure)
    }
}
