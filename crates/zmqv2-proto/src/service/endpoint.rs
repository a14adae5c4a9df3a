//! The server's side of a declared service.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::arguments::{self, Arguments};
use super::call::Call;
use super::declared::failure_of;
use super::error::{DeclaredError, MethodError, MethodResult};
use super::interface::{Interface, Method};
use crate::message::{Failure, SERVER_MODULE, json_text};
use crate::naming::{Namespace, Target};

/// A service as an endpoint of a server. The trait of the service makes it (`into_endpoint`), and
/// `zmqv2_server::RpcServerBuilder::endpoint` takes it.
///
/// A program without a server can run its methods with [`run`](Self::run).
#[derive(Clone)]
pub struct ServiceEndpoint {
    interface: &'static Interface,
    namespace: Option<Namespace>,
    methods: Arc<Methods>,
}

type Methods = dyn Fn(&str, &Call, &RawValue) -> Option<MethodAnswer> + Send + Sync;

/// The answer of a method: its result as JSON text, or its error.
pub type MethodAnswer = Result<Box<RawValue>, Raised>;

/// The error of a method, as it travels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Raised {
    /// The error.
    pub failure: Box<Failure>,
    /// Whether it is part of the interface, so that it need not be logged.
    pub expected: bool,
}

impl ServiceEndpoint {
    /// For [`service!`](crate::service!).
    #[doc(hidden)]
    pub fn new(
        interface: &'static Interface,
        methods: impl Fn(&str, &Call, &RawValue) -> Option<MethodAnswer> + Send + Sync + 'static,
    ) -> Self {
        Self { interface, namespace: interface.namespace(), methods: Arc::new(methods) }
    }

    /// What the declaration says.
    #[must_use]
    pub fn interface(&self) -> &'static Interface {
        self.interface
    }

    /// The namespace of the service; `None`: the unnamed one.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// The target of a server of this service: its topic.
    #[must_use]
    pub fn target(&self) -> Target {
        self.interface.target()
    }

    /// Runs a method with arguments as JSON text. `None`: there is no such method.
    #[must_use]
    pub fn run(&self, method: &str, call: &Call, arguments: &RawValue) -> Option<MethodAnswer> {
        (self.methods)(method, call, arguments)
    }
}

impl fmt::Debug for ServiceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceEndpoint").field("interface", self.interface).finish_non_exhaustive()
    }
}

/// Reads the arguments of a method, runs it, and writes its answer.
#[doc(hidden)]
pub fn answer<A: Arguments, R: Serialize, E: DeclaredError>(
    interface: &Interface,
    method: &Method,
    arguments: &RawValue,
    run: impl FnOnce(A) -> MethodResult<R, E>,
) -> MethodAnswer {
    answer_with(interface, run(read_arguments(method, arguments)?))
}

pub(super) fn read_arguments<A: Arguments>(method: &Method, arguments: &RawValue) -> Result<A, Raised> {
    arguments::read(method.arguments, arguments).map_err(|error| {
        let detail = format!("arguments of {}: {error}", method.name);
        Raised { failure: Box::new(Failure::new(SERVER_MODULE, "InvalidArguments", detail)), expected: true }
    })
}

pub(super) fn answer_with<R: Serialize, E: DeclaredError>(
    interface: &Interface,
    result: MethodResult<R, E>,
) -> MethodAnswer {
    let error = match result {
        Ok(value) => return json_text(&value).map_err(|error| other(Failure::of(&error))),
        Err(MethodError::Declared(error)) => error,
        Err(MethodError::Other(failure)) => return Err(other(*failure)),
    };
    Err(Raised { failure: Box::new(failure_of(&error, interface.error_module)), expected: true })
}

fn other(failure: Failure) -> Raised {
    Raised { failure: Box::new(failure), expected: false }
}
