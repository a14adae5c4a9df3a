//! The client's side of a declared service in async programs.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Arguments;
use super::caller::{Caller, Prepared, ServiceRequest, declared};
use super::error::{DeclaredError, ServiceError};
use super::interface::Interface;

/// A [`Caller`] whose requests can be awaited: `zmqv2_client::RpcClient`.
///
/// Its futures never block the executor, send nothing before their first poll, and borrow nothing.
pub trait AsyncCaller: Caller {
    /// The future of a call.
    type CallFuture<R: DeserializeOwned>: Future<Output = Result<R, Self::CallError>> + Unpin;
    /// The future that gives the handle of a cast, as soon as the caller has the message.
    type CastFuture: Future<Output = Result<Self::CastHandle, Self::SendError>>;
    /// The future that gives the handle of a fanout, as soon as the caller has the messages.
    type FanoutFuture: Future<Output = Result<Self::FanoutHandle, Self::SendError>>;

    /// Calls a method.
    fn call_future<R: DeserializeOwned>(&self, request: &ServiceRequest<'_, impl Serialize>) -> Self::CallFuture<R>;

    /// Sends a request to one server.
    fn cast_future(&self, request: &ServiceRequest<'_, impl Serialize>) -> Self::CastFuture;

    /// Sends a request to all servers.
    fn fanout_future(&self, request: &ServiceRequest<'_, impl Serialize>) -> Self::FanoutFuture;
}

impl<C: AsyncCaller, A: Arguments, R: DeserializeOwned, E: DeclaredError> Prepared<C, A, R, E> {
    /// Sends the request to one server without blocking: `.await` gives the handle of the cast.
    pub fn cast_future(self) -> C::CastFuture {
        self.stub.caller.cast_future(&self.request())
    }

    /// Sends the request to all servers without blocking: `.await` gives the handle of the fanout.
    pub fn fanout_future(self) -> C::FanoutFuture {
        self.stub.caller.fanout_future(&self.request())
    }
}

/// `.await` calls the method, on any executor. The result is that of [`Prepared::call`].
impl<C: AsyncCaller, A: Arguments, R: DeserializeOwned, E: DeclaredError> IntoFuture for Prepared<C, A, R, E> {
    type Output = Result<R, ServiceError<E, C::CallError>>;
    type IntoFuture = ServiceFuture<C, R, E>;

    fn into_future(self) -> Self::IntoFuture {
        let call = self.stub.caller.call_future(&self.request());
        ServiceFuture { call, interface: self.stub.interface, error: PhantomData }
    }
}

/// The future of a call, made by `.await` or `into_future()` of a [`Prepared`] request.
///
/// Nothing is sent before the first poll, but the timeout of the call begins when the future is
/// made. It borrows nothing, so it can be given to `spawn`. If it is dropped, the call is cancelled.
#[must_use = "a future does nothing until it is polled"]
pub struct ServiceFuture<C: AsyncCaller, R: DeserializeOwned, E> {
    call: C::CallFuture<R>,
    interface: &'static Interface,
    error: PhantomData<fn() -> E>,
}

impl<C: AsyncCaller, R: DeserializeOwned, E: DeclaredError> Future for ServiceFuture<C, R, E> {
    type Output = Result<R, ServiceError<E, C::CallError>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let interface = self.interface;
        let polled = Pin::new(&mut self.call).poll(context);
        polled.map(|result| result.map_err(|error| declared::<C, E>(interface, error)))
    }
}

impl<C: AsyncCaller, R: DeserializeOwned, E> fmt::Debug for ServiceFuture<C, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceFuture").field("topic", &self.interface.topic).finish_non_exhaustive()
    }
}
