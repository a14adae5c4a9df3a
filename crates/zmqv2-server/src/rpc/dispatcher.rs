//! Chooses the endpoint that runs a request. Pure: no sockets, no threads.

use zmqv2_proto::{DISPATCHER_MODULE, Failure, Reply, Request, Version};

use crate::handler_error::HandlerError;
use crate::rpc::endpoint::{Endpoint, HandlerResult, Incoming, reply};
use crate::rpc::panic_guard::catch_panic;

/// The method that every server answers with `pong`, as in oslo.messaging.
pub(crate) const PING_METHOD: &str = "oslo_rpc_server_ping";

/// Chooses an endpoint by namespace, version and method.
pub(crate) struct Dispatcher {
    pub(crate) endpoints: Vec<Box<dyn Endpoint>>,
}

impl Dispatcher {
    /// Runs a request. Errors and panics become replies, too.
    pub(crate) fn dispatch(&self, incoming: &Incoming) -> Reply {
        self.try_dispatch(incoming).unwrap_or_else(|error| {
            error.log(incoming.method(), "failed");
            Reply::Failure(error.into_failure())
        })
    }

    /// Runs a request. A panic becomes an error.
    pub(crate) fn try_dispatch(&self, incoming: &Incoming) -> HandlerResult {
        catch_panic(incoming.method(), || self.run(incoming))
    }

    /// Why no endpoint can run this request, as far as the endpoints know without running it.
    pub(crate) fn cannot_run(&self, incoming: &Incoming) -> Option<HandlerError> {
        let Request { method, namespace, version, .. } = &incoming.request;
        if method.as_str() == PING_METHOD {
            return None;
        }
        let asked = version.unwrap_or_default();
        let mut serving =
            self.endpoints.iter().filter(|endpoint| endpoint.serves(namespace.as_ref(), asked)).peekable();
        if serving.peek().is_none() {
            return Some(HandlerError::expected(self.unsupported(incoming, asked)));
        }
        // A method that starts with `_` is private.
        let found = !method.as_str().starts_with('_') && serving.any(|endpoint| endpoint.has_method(method));
        (!found).then(|| no_such_method(incoming))
    }

    fn run(&self, incoming: &Incoming) -> Result<Reply, HandlerError> {
        let request = &incoming.request;
        let method = request.method.as_str();
        if method == PING_METHOD {
            return reply("pong");
        }
        let asked = request.version.unwrap_or_default();
        let mut version_fits = false;
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.serves(request.namespace.as_ref(), asked)) {
            version_fits = true;
            // A method that starts with `_` is private.
            if !method.starts_with('_')
                && let Some(result) = endpoint.call(incoming)
            {
                return result;
            }
        }
        if !version_fits {
            return Err(HandlerError::expected(self.unsupported(incoming, asked)));
        }
        Err(no_such_method(incoming))
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

fn no_such_method(incoming: &Incoming) -> HandlerError {
    let detail = format!("endpoint does not support RPC method {}", incoming.method());
    HandlerError::expected(Failure::new(DISPATCHER_MODULE, "NoSuchMethod", detail))
}

#[cfg(test)]
#[path = "tests/dispatcher.rs"]
mod tests;
