//! The errors of services: of methods, and of their callers.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::message::Failure;

/// An error that a service can declare: it has a JSON form in both directions, and a text.
///
/// Derive serde's `Serialize` and `Deserialize`, and implement `Display` (with `thiserror`, for
/// example).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a service",
    label = "derive serde's `Serialize` and `Deserialize`, and implement `Display`"
)]
pub trait DeclaredError: Serialize + DeserializeOwned + fmt::Display {}

impl<E: Serialize + DeserializeOwned + fmt::Display> DeclaredError for E {}

/// Compiles if `E` can be the error of a service.
#[doc(hidden)]
pub const fn is_error<E: DeclaredError>() {}

/// The error of a service that declares none. It has no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoError {}

impl fmt::Display for NoError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// The result of a method with the declared error `E`.
pub type MethodResult<T, E = NoError> = Result<T, MethodError<E>>;

/// Why a method failed.
///
/// In a service with a declared error, `?` makes one of it, and [`other`](Self::other) of any other
/// error:
///
/// ```
/// use zmqv2_proto::service::{MethodError, MethodResult};
/// # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// # struct TooFew { left: u32 }
/// # impl std::fmt::Display for TooFew {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{} left", self.left) }
/// # }
///
/// fn reserve(left: u32, count: &str) -> MethodResult<u32, TooFew> {
///     let count: u32 = count.parse().map_err(MethodError::other)?;
///     Ok(left.checked_sub(count).ok_or(TooFew { left })?)
/// }
///
/// assert_eq!(reserve(2, "3"), Err(MethodError::Declared(TooFew { left: 2 })));
/// assert!(matches!(reserve(2, "x"), Err(MethodError::Other(_))));
/// ```
///
/// In a service without one, `?` takes any [`std::error::Error`].
#[derive(Debug, Clone, PartialEq)]
pub enum MethodError<E = NoError> {
    /// The error that the service declares. The caller gets it as it is. It is part of the interface,
    /// so the server does not log it as a failure.
    Declared(E),
    /// Any other error. The caller gets it as a remote error, and the server logs it.
    Other(Box<Failure>),
}

impl<E> MethodError<E> {
    /// Makes one of an error that the service does not declare: its type is the class, its text the
    /// message, its sources the traceback.
    #[must_use]
    pub fn other(error: impl std::error::Error) -> Self {
        Self::Other(Box::new(Failure::of(&error)))
    }
}

impl<E: DeclaredError> From<E> for MethodError<E> {
    fn from(error: E) -> Self {
        Self::Declared(error)
    }
}

// `NoError` is no `std::error::Error`: that would conflict with the conversion of declared errors.
impl<X: std::error::Error> From<X> for MethodError<NoError> {
    fn from(error: X) -> Self {
        Self::other(error)
    }
}

impl<E: fmt::Display> fmt::Display for MethodError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared(error) => error.fmt(f),
            Self::Other(failure) => failure.fmt(f),
        }
    }
}

/// Why a call of a declared service returned no result. `C` is the client's own error
/// (`zmqv2_client::CallError`).
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceError<E, C> {
    /// The method failed with the error that the service declares.
    Remote(E),
    /// The call failed in any other way: it was not delivered, or the server answered with an error
    /// that the service does not declare.
    Call(C),
}

impl<E: fmt::Display, C: fmt::Display> fmt::Display for ServiceError<E, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display, C: std::error::Error> std::error::Error for ServiceError<E, C> {
    /// The sources of the client's error.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Remote(_) => None,
            Self::Call(error) => error.source(),
        }
    }
}
