//! The error of a handler.

use std::fmt;

use zmqv2_proto::Failure;

/// The module of failures that this crate itself raises, other than the dispatcher's.
pub(crate) const MODULE: &str = "zmqv2.server";

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

    /// Logs the error of `what`. `ended` says how that ended.
    pub(crate) fn log(&self, what: impl fmt::Display, ended: &str) {
        if self.expected {
            log::debug!("{what} answered {self}");
        } else {
            log::error!("{what} {ended}: {self}");
        }
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
        let path = std::any::type_name::<E>();
        // `a::b::C<d::E>` is class `C<d::E>` in module `a::b`.
        let name = path.split('<').next().unwrap_or(path);
        let (module, class) = name.rsplit_once("::").unwrap_or(("", name));
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let traceback: Vec<_> = causes.map(|cause| format!("caused by: {cause}")).collect();
        let failure = Failure::new(module, class, error.to_string()).with_traceback(traceback);
        Self { failure: Box::new(failure), expected: false }
    }
}
