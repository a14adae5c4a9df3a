//! Declared services with asynchronous methods as endpoints.

use std::sync::Arc;

use zmqv2_proto::service::AsyncServiceEndpoint;
use zmqv2_proto::{MethodName, Namespace, Reply, Version};

use super::endpoint::AsyncEndpoint;
use super::executor::BoxFuture;
use crate::handler_error::HandlerError;
use crate::rpc::dispatcher::no_such_method;
use crate::rpc::endpoint::{HandlerResult, Incoming};

impl AsyncEndpoint for AsyncServiceEndpoint {
    fn namespace(&self) -> Option<&Namespace> {
        Self::namespace(self)
    }

    fn version(&self) -> Version {
        self.interface().version
    }

    fn has_method(&self, method: &MethodName) -> bool {
        self.interface().methods.iter().any(|known| known.name == method.as_str())
    }

    fn call(self: Arc<Self>, incoming: Arc<Incoming>) -> Option<BoxFuture<HandlerResult>> {
        if !self.has_method(incoming.method()) {
            return None;
        }
        Some(Box::pin(async move {
            let call = incoming.call();
            let (method, arguments) = (incoming.method().as_str(), &incoming.request.args);
            match self.run(method, &call, arguments) {
                Some(running) => running.await.map(Reply::Result).map_err(HandlerError::raised),
                None => Err(no_such_method(&incoming)),
            }
        }))
    }
}
