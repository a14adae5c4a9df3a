//! Declared services as endpoints.

use std::sync::Arc;

use zmqv2_proto::service::{Call, ServiceEndpoint};
use zmqv2_proto::{MethodName, Namespace, Reply, Version};

use crate::handler_error::HandlerError;
use crate::rpc::endpoint::{Endpoint, HandlerResult, Incoming};

impl Endpoint for ServiceEndpoint {
    fn namespace(&self) -> Option<&Namespace> {
        Self::namespace(self)
    }

    fn version(&self) -> Version {
        self.interface().version
    }

    fn has_method(&self, method: &MethodName) -> bool {
        self.interface().methods.iter().any(|known| known.name == method.as_str())
    }

    fn call(&self, incoming: &Incoming) -> Option<HandlerResult> {
        let answer = self.run(incoming.method().as_str(), &incoming.call(), &incoming.request.args)?;
        Some(answer.map(Reply::Result).map_err(HandlerError::raised))
    }
}

impl Incoming {
    /// What a method of a declared service gets of this request.
    pub(crate) fn call(&self) -> Call {
        let cancellation = self.cancellation.clone();
        let cancelled = Arc::new(move || cancellation.is_cancelled());
        Call::received(self.context().clone(), self.deadline, self.id, Some(cancelled)).with_node(self.node.clone())
    }
}
