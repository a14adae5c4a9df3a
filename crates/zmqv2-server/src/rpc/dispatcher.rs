//! Chooses the endpoint that runs a request. Pure: no sockets, no threads.

use zmqv2_proto::{DISPATCHER_MODULE, Failure, MethodName, Namespace, Request, Version};

use crate::handler_error::HandlerError;
use crate::rpc::endpoint::{Endpoint, HandlerResult, Incoming, reply};
use crate::rpc::panic_guard::catch_panic;

/// The method that every server answers with `pong`, as in oslo.messaging.
pub(crate) const PING_METHOD: &str = "oslo_rpc_server_ping";

/// The requests that an endpoint takes.
pub(crate) trait Interface {
    fn namespace(&self) -> Option<&Namespace>;
    fn version(&self) -> Version;
    fn serves(&self, namespace: Option<&Namespace>, version: Version) -> bool;
    fn has_method(&self, method: &MethodName) -> bool;
}

impl Interface for Box<dyn Endpoint> {
    fn namespace(&self) -> Option<&Namespace> {
        (**self).namespace()
    }

    fn version(&self) -> Version {
        (**self).version()
    }

    fn serves(&self, namespace: Option<&Namespace>, version: Version) -> bool {
        (**self).serves(namespace, version)
    }

    fn has_method(&self, method: &MethodName) -> bool {
        (**self).has_method(method)
    }
}

/// Chooses an endpoint by namespace, version and method.
pub(crate) struct Dispatcher<E = Box<dyn Endpoint>> {
    pub(crate) endpoints: Vec<E>,
}

impl Dispatcher {
    /// Runs a request. A panic becomes an error.
    pub(crate) fn dispatch(&self, incoming: &Incoming) -> HandlerResult {
        catch_panic(incoming.method(), || {
            if incoming.method().as_str() == PING_METHOD {
                return reply("pong");
            }
            self.run(incoming, |endpoint| endpoint.call(incoming))?
        })
    }
}

impl<E: Interface> Dispatcher<E> {
    /// Why no endpoint can run this request, as far as the endpoints know without running it.
    pub(crate) fn cannot_run(&self, incoming: &Incoming) -> Option<HandlerError> {
        if incoming.method().as_str() == PING_METHOD {
            return None;
        }
        self.run(incoming, |endpoint| endpoint.has_method(incoming.method()).then_some(())).err()
    }

    /// The result of the first endpoint of this namespace and version that has one.
    ///
    /// # Errors
    /// No endpoint serves the namespace and the version, or none has the method.
    pub(crate) fn run<T>(&self, incoming: &Incoming, call: impl FnMut(&E) -> Option<T>) -> Result<T, HandlerError> {
        let Request { method, namespace, version, .. } = &incoming.request;
        let asked = version.unwrap_or_default();
        let mut serving =
            self.endpoints.iter().filter(|endpoint| endpoint.serves(namespace.as_ref(), asked)).peekable();
        if serving.peek().is_none() {
            return Err(HandlerError::expected(self.unsupported(incoming, asked)));
        }
        // A method that starts with `_` is private.
        let found = if method.as_str().starts_with('_') { None } else { serving.find_map(call) };
        found.ok_or_else(|| no_such_method(incoming))
    }

    fn unsupported(&self, incoming: &Incoming, asked: Version) -> Failure {
        let namespace = incoming.request.namespace.as_ref();
        let here = self.endpoints.iter().filter(|endpoint| endpoint.namespace() == namespace);
        let offered: Vec<_> = here.map(|endpoint| endpoint.version().to_string()).collect();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        let space = namespace.map_or(String::new(), |namespace| format!(" in namespace {namespace}"));
        let detail = format!(
            "endpoint does not support RPC version {asked}{space}, attempted method {}; offered: {offered}",
            incoming.method()
        );
        Failure::new(DISPATCHER_MODULE, "UnsupportedVersion", detail)
    }
}

pub(crate) fn no_such_method(incoming: &Incoming) -> HandlerError {
    let detail = format!("endpoint does not support RPC method {}", incoming.method());
    HandlerError::expected(Failure::new(DISPATCHER_MODULE, "NoSuchMethod", detail))
}

#[cfg(test)]
#[path = "tests/dispatcher.rs"]
mod tests;
