//! A declared service whose methods are asynchronous.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::arguments::Arguments;
use super::call::Call;
use super::endpoint::{MethodAnswer, answer_with, read_arguments};
use super::error::{DeclaredError, MethodResult};
use super::interface::{Interface, Method};
use crate::naming::{Namespace, Target};

/// The future of a method's answer.
pub type MethodFuture<'a> = Pin<Box<dyn Future<Output = MethodAnswer> + Send + 'a>>;

/// A service with asynchronous methods as an endpoint of a server. The second trait of the service
/// makes it (`into_endpoint`), and `zmqv2_server::AsyncRpcServerBuilder::endpoint` takes it.
///
/// A program without a server can run its methods with [`run`](Self::run).
#[derive(Clone)]
pub struct AsyncServiceEndpoint {
    interface: &'static Interface,
    namespace: Option<Namespace>,
    methods: Arc<Methods>,
}

type Methods = dyn for<'a> Fn(&str, &'a Call, &'a RawValue) -> Option<MethodFuture<'a>> + Send + Sync;

impl AsyncServiceEndpoint {
    /// For [`service!`](crate::service!).
    #[doc(hidden)]
    pub fn new(
        interface: &'static Interface,
        methods: impl for<'a> Fn(&str, &'a Call, &'a RawValue) -> Option<MethodFuture<'a>> + Send + Sync + 'static,
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

    /// Runs a method with arguments as JSON text. `None`: there is no such method. The future reads
    /// the arguments when it is polled first.
    #[must_use]
    pub fn run<'a>(&self, method: &str, call: &'a Call, arguments: &'a RawValue) -> Option<MethodFuture<'a>> {
        (self.methods)(method, call, arguments)
    }
}

impl fmt::Debug for AsyncServiceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncServiceEndpoint").field("interface", self.interface).finish_non_exhaustive()
    }
}

/// Reads the arguments of a method, runs it, and writes its answer.
#[doc(hidden)]
pub fn answer_later<'a, A: Arguments, R: Serialize, E: DeclaredError, T>(
    interface: &'static Interface,
    method: &'static Method,
    arguments: &'a RawValue,
    run: impl FnOnce(A) -> T + Send + 'a,
) -> MethodFuture<'a>
where
    T: Future<Output = MethodResult<R, E>> + Send,
{
    Box::pin(async move {
        let running = run(read_arguments(method, arguments)?);
        answer_with(interface, running.await)
    })
}
