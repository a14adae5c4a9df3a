//! The client's side of a declared service.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::{Arguments, Named};
use super::declared::error_of;
use super::error::{DeclaredError, ServiceError};
use super::interface::{Interface, Method};
use crate::message::{Failure, RequestContext};
use crate::naming::Version;

/// What sends the requests of a declared service: `zmqv2_client::RpcClient`. A test can have one of
/// its own.
pub trait Caller: Clone {
    /// Why a call returned no result.
    type CallError;
    /// Why a message could not be sent.
    type SendError;
    /// A call that was sent.
    type CallHandle<R: DeserializeOwned>;
    /// A cast that was sent.
    type CastHandle;
    /// A fanout that was sent.
    type FanoutHandle;

    /// Calls a method and waits for its result.
    ///
    /// # Errors
    /// Those of the client.
    fn call<R: DeserializeOwned>(&self, request: &ServiceRequest<'_, impl Serialize>) -> Result<R, Self::CallError>;

    /// Calls a method and does not wait.
    ///
    /// # Errors
    /// Those of the client: nothing was sent.
    fn call_async<R: DeserializeOwned>(
        &self,
        request: &ServiceRequest<'_, impl Serialize>,
    ) -> Result<Self::CallHandle<R>, Self::SendError>;

    /// Waits for the result of a call.
    ///
    /// # Errors
    /// Those of the client.
    fn wait<R: DeserializeOwned>(handle: Self::CallHandle<R>) -> Result<R, Self::CallError>;

    /// Sends a request to one server.
    ///
    /// # Errors
    /// Those of the client: nothing was sent.
    fn cast(&self, request: &ServiceRequest<'_, impl Serialize>) -> Result<Self::CastHandle, Self::SendError>;

    /// Sends a request to all servers.
    ///
    /// # Errors
    /// Those of the client: nothing was sent.
    fn fanout(&self, request: &ServiceRequest<'_, impl Serialize>) -> Result<Self::FanoutHandle, Self::SendError>;

    /// What the server answered, if the method failed.
    fn failure(error: &Self::CallError) -> Option<&Failure>;

    /// Whether a message of this version may be sent.
    fn can_send_version(&self, version: Version) -> bool;
}

/// A request of a declared service, as a [`Caller`] sends it.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServiceRequest<'a, A> {
    /// The context.
    pub context: &'a RequestContext,
    /// What the declaration says of the service.
    pub interface: &'static Interface,
    /// The method. Its version (`since`) is that of the request.
    pub method: &'static Method,
    /// The arguments, with their names.
    pub arguments: &'a A,
}

/// What the generated clients have in common.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Stub<C> {
    pub(super) caller: C,
    /// The context of the requests that get none of their own.
    pub context: Arc<RequestContext>,
    pub(super) interface: &'static Interface,
}

impl<C: Caller> Stub<C> {
    /// Without a context.
    pub fn new(caller: C, interface: &'static Interface) -> Self {
        Self { caller, context: Arc::default(), interface }
    }

    /// Prepares a request.
    pub fn prepare<A: Arguments, R, E>(&self, method: &'static Method, values: A) -> Prepared<C, A, R, E> {
        let arguments = Named { names: method.arguments, values };
        Prepared { stub: self.clone(), method, arguments, types: PhantomData }
    }
}

/// A request that is ready to be sent: with the functions below, or with `.await`, which calls the
/// method.
#[must_use = "a prepared request does nothing: send it with .await, call(), call_async(), cast() or fanout()"]
pub struct Prepared<C, A, R, E> {
    pub(super) stub: Stub<C>,
    method: &'static Method,
    arguments: Named<A>,
    types: PhantomData<fn() -> (R, E)>,
}

impl<C: Caller, A: Arguments, R: DeserializeOwned, E: DeclaredError> Prepared<C, A, R, E> {
    /// Sends this context with the request, in place of the client's.
    pub fn with_context(mut self, context: impl Into<Arc<RequestContext>>) -> Self {
        self.stub.context = context.into();
        self
    }

    /// Sends the request with other options:
    /// `.with(|client| client.timeout(Duration::from_secs(60)))`.
    pub fn with(mut self, change: impl FnOnce(C) -> C) -> Self {
        self.stub.caller = change(self.stub.caller);
        self
    }

    /// Whether the client's version cap lets the request be sent.
    #[must_use]
    pub fn can_be_sent(&self) -> bool {
        self.stub.caller.can_send_version(self.method.since)
    }

    /// Calls the method and waits for its result.
    ///
    /// # Errors
    /// [`ServiceError::Remote`] with the error that the service declares. [`ServiceError::Call`] with
    /// every other error: of delivery, or of the server.
    pub fn call(self) -> Result<R, ServiceError<E, C::CallError>> {
        self.stub.caller.call(&self.request()).map_err(|error| declared::<C, E>(self.stub.interface, error))
    }

    /// Calls the method and does not wait: the handle gives the result.
    ///
    /// # Errors
    /// Those of the client: nothing was sent.
    pub fn call_async(self) -> Result<Pending<C, R, E>, C::SendError> {
        let handle = self.stub.caller.call_async(&self.request())?;
        Ok(Pending { handle, interface: self.stub.interface, error: PhantomData })
    }

    /// Sends the request to one server and does not wait: the handle gives the outcome.
    ///
    /// # Errors
    /// Those of the client: nothing was sent.
    pub fn cast(self) -> Result<C::CastHandle, C::SendError> {
        self.stub.caller.cast(&self.request())
    }

    /// Sends the request to all servers and does not wait: the handle gives the outcome of each.
    ///
    /// # Errors
    /// Those of the client: nothing was sent.
    pub fn fanout(self) -> Result<C::FanoutHandle, C::SendError> {
        self.stub.caller.fanout(&self.request())
    }

    pub(super) fn request(&self) -> ServiceRequest<'_, Named<A>> {
        let Self { stub, method, arguments, .. } = self;
        ServiceRequest { context: &stub.context, interface: stub.interface, method, arguments }
    }
}

impl<C, A, R, E> fmt::Debug for Prepared<C, A, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("method", self.method).finish_non_exhaustive()
    }
}

/// A call that was sent, made by [`Prepared::call_async`]. It can be waited on, and awaited on any
/// executor. If it is dropped, the call is given up.
#[must_use = "without the handle, the result is lost"]
pub struct Pending<C: Caller, R: DeserializeOwned, E> {
    handle: C::CallHandle<R>,
    interface: &'static Interface,
    error: PhantomData<fn() -> E>,
}

impl<C: Caller, R: DeserializeOwned, E: DeclaredError> Pending<C, R, E> {
    /// Waits for the result.
    ///
    /// # Errors
    /// As [`Prepared::call`].
    pub fn wait(self) -> Result<R, ServiceError<E, C::CallError>> {
        C::wait(self.handle).map_err(|error| declared::<C, E>(self.interface, error))
    }

    /// The client's handle.
    pub fn handle(&self) -> &C::CallHandle<R> {
        &self.handle
    }
}

impl<C: Caller, R: DeserializeOwned, E: DeclaredError> Future for Pending<C, R, E>
where
    C::CallHandle<R>: Future<Output = Result<R, C::CallError>> + Unpin,
{
    type Output = Result<R, ServiceError<E, C::CallError>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let interface = self.interface;
        let polled = Pin::new(&mut self.handle).poll(context);
        polled.map(|result| result.map_err(|error| declared::<C, E>(interface, error)))
    }
}

impl<C: Caller, R: DeserializeOwned, E> fmt::Debug for Pending<C, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("topic", &self.interface.topic).finish_non_exhaustive()
    }
}

/// The error of a call: the declared one, if the server answered with it.
pub(super) fn declared<C: Caller, E: DeclaredError>(
    interface: &Interface,
    error: C::CallError,
) -> ServiceError<E, C::CallError> {
    match C::failure(&error).and_then(|failure| error_of(failure, interface.error_module)) {
        Some(declared) => ServiceError::Remote(declared),
        None => ServiceError::Call(error),
    }
}
