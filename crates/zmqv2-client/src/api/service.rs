//! The client as the caller of declared services.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::service::{AsyncCaller, Caller, ServiceRequest};
use zmqv2_proto::{Failure, Namespace, Version, service};

use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::futures::{CallFuture, SendFuture};
use crate::api::handles::single::{CallHandle, CastHandle};
use crate::api::rpc_client::RpcClient;
use crate::outcome::call_error::CallError;
use crate::outcome::send_error::SendError;

/// Why a call of a [declared service](macro@crate::service) returned no result: the error `E` that the
/// service declares, or a [`CallError`].
pub type ServiceError<E> = service::ServiceError<E, CallError>;

impl<E> From<CallError> for ServiceError<E> {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl<E> From<SendError> for ServiceError<E> {
    fn from(error: SendError) -> Self {
        Self::Call(error.into())
    }
}

impl RpcClient {
    /// This client, with the namespace of the service and the version that the method needs.
    fn for_request<A>(&self, request: &ServiceRequest<'_, A>) -> Result<Cow<'_, Self>, SendError> {
        let (namespace, version) = (request.interface.namespace, request.method.since);
        let target = self.target();
        let known = target.namespace.as_ref().map(Namespace::as_str);
        if known == namespace && target.version == Some(version) {
            return Ok(Cow::Borrowed(self));
        }
        let namespace = namespace.map(Namespace::new).transpose()?;
        Ok(Cow::Owned(self.prepare().with_interface(namespace, version)))
    }
}

impl Caller for RpcClient {
    type CallError = CallError;
    type SendError = SendError;
    type CallHandle<R: DeserializeOwned> = CallHandle<R>;
    type CastHandle = CastHandle;
    type FanoutHandle = FanoutHandle;

    fn call<R: DeserializeOwned>(&self, request: &ServiceRequest<'_, impl Serialize>) -> Result<R, CallError> {
        let client = self.for_request(request)?;
        Self::call(&client, request.context, request.method.name, request.arguments)
    }

    fn call_async<R: DeserializeOwned>(
        &self,
        request: &ServiceRequest<'_, impl Serialize>,
    ) -> Result<CallHandle<R>, SendError> {
        let client = self.for_request(request)?;
        Self::call_async(&client, request.context, request.method.name, request.arguments)
    }

    fn wait<R: DeserializeOwned>(handle: CallHandle<R>) -> Result<R, CallError> {
        handle.wait()
    }

    fn cast(&self, request: &ServiceRequest<'_, impl Serialize>) -> Result<CastHandle, SendError> {
        let client = self.for_request(request)?;
        Self::cast(&client, request.context, request.method.name, request.arguments)
    }

    fn fanout(&self, request: &ServiceRequest<'_, impl Serialize>) -> Result<FanoutHandle, SendError> {
        let client = self.for_request(request)?;
        Self::fanout(&client, request.context, request.method.name, request.arguments)
    }

    fn failure(error: &CallError) -> Option<&Failure> {
        match error {
            CallError::Remote(error) => Some(error.failure()),
            _ => None,
        }
    }

    fn can_send_version(&self, version: Version) -> bool {
        Self::can_send_version(self, version)
    }
}

impl AsyncCaller for RpcClient {
    type CallFuture<R: DeserializeOwned> = CallFuture<R>;
    type CastFuture = SendFuture<CastHandle>;
    type FanoutFuture = SendFuture<FanoutHandle>;

    fn call_future<R: DeserializeOwned>(&self, request: &ServiceRequest<'_, impl Serialize>) -> CallFuture<R> {
        match self.for_request(request) {
            Ok(client) => client.asynchronous().call(request.context, request.method.name, request.arguments),
            Err(error) => CallFuture::new(&Arc::new(self.clone()), Err(error), self.typed_reader(None)),
        }
    }

    fn cast_future(&self, request: &ServiceRequest<'_, impl Serialize>) -> SendFuture<CastHandle> {
        match self.for_request(request) {
            Ok(client) => client.asynchronous().cast(request.context, request.method.name, request.arguments),
            Err(error) => SendFuture::failed(error),
        }
    }

    fn fanout_future(&self, request: &ServiceRequest<'_, impl Serialize>) -> SendFuture<FanoutHandle> {
        match self.for_request(request) {
            Ok(client) => client.asynchronous().fanout(request.context, request.method.name, request.arguments),
            Err(error) => SendFuture::failed(error),
        }
    }
}
