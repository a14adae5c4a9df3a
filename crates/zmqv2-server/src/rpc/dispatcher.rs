//! Which endpoint runs a request. Pure: no sockets, no threads.

use zmqv2_proto::{DISPATCHER_MODULE, Failure, Reply, Version};

use crate::handler_error::HandlerError;
use crate::rpc::endpoint::{Endpoint, Incoming, reply};
use crate::rpc::panic_guard::catch_panic;

/// The method that every server answers with `pong`, as in oslo.messaging.
pub(crate) const PING_METHOD: &str = "oslo_rpc_server_ping";

/// Chooses an endpoint by namespace, version and method, and runs it.
pub(crate) struct Dispatcher {
    endpoints: Vec<Box<dyn Endpoint>>,
}

impl Dispatcher {
    pub(crate) fn new(endpoints: Vec<Box<dyn Endpoint>>) -> Self {
        Self { endpoints }
    }

    /// Runs a request. Errors and panics become replies, too.
    pub(crate) fn dispatch(&self, incoming: &Incoming) -> Reply {
        match catch_panic(incoming.method(), || self.run(incoming)) {
            Ok(reply) => reply,
            Err(error) => {
                error.log(incoming.method(), "failed");
                Reply::Failure(error.into_failure())
            }
        }
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
        Err(HandlerError::expected(if version_fits {
            no_such_method(method)
        } else {
            self.unsupported(incoming, asked)
        }))
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

fn no_such_method(method: &str) -> Failure {
    Failure::new(DISPATCHER_MODULE, "NoSuchMethod", format!("endpoint does not support RPC method {method}"))
}

#[cfg(test)]
#[path = "tests/dispatcher.rs"]
mod tests;
